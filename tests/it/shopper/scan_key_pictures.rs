//! Scan Key Codes as QR codes, which an independent reader must be able to read.
//!
//! Without `zbarimg` (Debian package `zbar-tools`) the tests that use it are ignored.

use crate::trials::{apply, test, test_that_needs};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use chrono::{DateTime, TimeDelta};
use reqwest::header::ACCEPT;

use crate::checks::*;
use crate::shopper::scan_key_codes::CODES;
use crate::support::carts::signed_in;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::{Answer, Server, client_without_credentials};

/// A test that needs zbarimg.
macro_rules! with_zbarimg {
    ($($function:tt)*) => { test_that_needs! { zbarimg_missing; $($function)* } };
}

const SHOPPER: &str = "shopper-uuid-001";
const HEADERS: [&str; 3] = ["x-scan-key-code", "x-scan-key-code-expires-at", "x-scan-key-code-refresh-after"];

fn zbarimg_missing() -> Option<String> {
    let is_there = Command::new("zbarimg").arg("--version").output().is_ok();
    (!is_there).then(|| "zbarimg is not installed (Debian: zbar-tools)".to_owned())
}

/// The text of a QR code.
fn read(picture: &Path) -> String {
    let output = Command::new("zbarimg").args(["--quiet", "--raw", "-Sbinary"]).arg(picture).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Requests a code with this `Accept` header.
async fn request_code(server: &Server, app: &Shopper, accept: &str) -> Answer {
    let request = client_without_credentials().post(format!("{}{CODES}", server.shoppers)).bearer_auth(&app.token);
    let request = request.header("x-customer-context", &app.context).header(ACCEPT, accept);
    Answer::read(request.send().await.unwrap()).await
}

/// Asserts that the headers of a picture match its content, and that a gate accepts the code.
async fn assert_opens_gate(server: &Server, answer: &Answer, read: &str) {
    let [code, expires_at, refresh] = HEADERS.map(|name| answer.headers[name].to_str().unwrap());
    assert_eq!(read, code, "the picture contains the code of the header");
    let expires_at: DateTime<chrono::Utc> = expires_at.parse().unwrap();
    let made_at = code[39..49].parse().unwrap();
    assert_eq!(expires_at, DateTime::from_timestamp(made_at, 0).unwrap() + TimeDelta::seconds(60));
    assert_eq!(refresh, "45");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let scan = set(scan_of(&new_id(), read), "authEvent.timestamp", expires_at.to_rfc3339().replace("+00:00", "Z"));
    assert_granted(&server.verify(&scan).await, SHOPPER, "SHOPPER", read);
}

/// Connectors whose codes have the usual and the greatest possible length.
async fn servers() -> Vec<Server> {
    let (longest, key) = ("A".repeat(92), base64([1; 32]));
    let signed = [("scan_key.customer_prefix", longest.as_str()), ("scan_key.signing_keys", key.as_str())];
    let mut servers = vec![Server::demo(&UNLIMITED).await];
    let signed = Server::demo(&[&UNLIMITED[..], &signed].concat()).await;
    let answer = request_code(&signed, &signed_in(&signed, SHOPPER).await, "application/json").await.json();
    assert_eq!(answer["scanKeyCode"].as_str().unwrap().len(), 154);
    servers.push(signed);
    servers
}

#[apply(with_zbarimg)]
async fn png_code_opens_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("code.png");
    let server = Server::demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    for accept in ["image/png", "image/*", "text/html, image/png, application/json;q=0.5"] {
        let answer = request_code(&server, &app, accept).await;
        assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"image/png".parse().unwrap()));
        fs::write(&file, &answer.body).unwrap();
        assert_opens_gate(&server, &answer, &read(&file)).await;
        let mut png = png::Decoder::new(Cursor::new(&answer.body)).read_info().unwrap();
        let mut pixels = vec![0; png.output_buffer_size().unwrap()];
        let info = png.next_frame(&mut pixels).unwrap();
        assert_eq!(info.buffer_size(), pixels.len(), "one byte a pixel");
        assert_quiet(info.width as usize, &pixels);
    }
    for server in servers().await {
        let answer = request_code(&server, &signed_in(&server, SHOPPER).await, "image/png").await;
        fs::write(&file, &answer.body).unwrap();
        assert_eq!(read(&file), answer.headers[HEADERS[0]].to_str().unwrap());
    }
}

#[apply(with_zbarimg)]
async fn svg_code_opens_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("code.pgm");
    let server = Server::demo(&UNLIMITED).await;
    let answer = request_code(&server, &signed_in(&server, SHOPPER).await, "image/svg+xml").await;
    assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"image/svg+xml".parse().unwrap()));
    let drawn = raster(std::str::from_utf8(&answer.body).unwrap());
    fs::write(&file, pgm(&drawn)).unwrap();
    assert_quiet(drawn.0, &drawn.1);
    assert_opens_gate(&server, &answer, &read(&file)).await;
    for server in servers().await {
        let answer = request_code(&server, &signed_in(&server, SHOPPER).await, "image/svg+xml").await;
        fs::write(&file, pgm(&raster(std::str::from_utf8(&answer.body).unwrap()))).unwrap();
        assert_eq!(read(&file), answer.headers[HEADERS[0]].to_str().unwrap());
    }
}

/// Asserts a quiet zone of four light modules, which stricter readers need (ISO/IEC 18004).
#[track_caller]
fn assert_quiet(width: usize, pixels: &[u8]) {
    assert_eq!(pixels.len(), width * width);
    let is_dark = |index: &usize| pixels[*index] < 128;
    let first = (0..pixels.len()).find(is_dark).unwrap();
    let (left, top) = (first % width, first / width);
    // The finder pattern in the corner is seven modules wide.
    let module = (first..).take_while(is_dark).count() / 7;
    let last = (0..pixels.len()).rev().find(is_dark).unwrap();
    let right = (0..pixels.len()).filter(is_dark).map(|index| index % width).max().unwrap();
    assert_eq!([left, top, width - 1 - right, width - 1 - last / width], [4 * module; 4]);
}

/// An image file with these pixels.
fn pgm((width, pixels): &(usize, Vec<u8>)) -> Vec<u8> {
    let head = format!("P5 {width} {} 255\n", pixels.len() / width);
    [head.as_bytes(), pixels].concat()
}

/// The width and the pixels of a drawing of dark rectangles, such as `M8 16h24v8H8V16`.
fn raster(svg: &str) -> (usize, Vec<u8>) {
    let attribute = |name: &str| svg.split_once(&format!(" {name}=\"")).unwrap().1.split_once('"').unwrap().0;
    let [width, height]: [usize; 2] = ["width", "height"].map(|name| attribute(name).parse().unwrap());
    let mut pixels = vec![255; width * height];
    for rectangle in attribute("d").split('M').skip(1) {
        let numbers = rectangle.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
        let [left, top, wide, high, ..] = numbers.collect::<Vec<usize>>()[..] else { panic!("{rectangle}") };
        for row in top..top + high {
            pixels[row * width + left..][..wide].fill(0);
        }
    }
    (width, pixels)
}

#[apply(test)]
async fn json_is_sent_unless_a_picture_is_preferred() {
    let server = Server::demo(&UNLIMITED).await;
    let app = signed_in(&server, SHOPPER).await;
    let json = ["", "*/*", "application/json", "application/json, image/*", "text/html", "image/jpeg", "\u{e9}"];
    for accept in json.into_iter().chain(["image/png;q=0", "IMAGE/PNG;Q=0"]) {
        let answer = request_code(&server, &app, accept).await;
        assert_eq!((answer.status, answer.json().as_object().unwrap().len()), (200, 5), "{accept}");
        assert!(HEADERS.iter().all(|name| !answer.headers.contains_key(*name)), "{accept}");
    }
    let guest = anonymous(&server).await;
    assert_eq!(request_code(&server, &guest, "image/png").await.json()["reason"], "not_signed_in", "a refusal is JSON");
}
