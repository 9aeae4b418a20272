//! Scan Key Codes as QR codes, which an independent reader must be able to read.
//!
//! Without `zbarimg` (Debian package `zbar-tools`) the tests that use it are ignored.

use crate::trials::{apply, test, test_that_needs};
use std::fs;
use std::io::Cursor;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
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

/// The text of the QR code in a picture, which must have a quiet zone.
fn read(answer: &Answer) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (name, file, (width, pixels)) = match answer.headers["content-type"].to_str().unwrap() {
        "image/png" => ("code.png", answer.body.clone(), png_pixels(&answer.body)),
        "image/svg+xml" => {
            let drawn = raster(std::str::from_utf8(&answer.body).unwrap());
            ("code.pgm", pgm(&drawn), drawn)
        }
        other => panic!("{other}"),
    };
    assert_quiet(width, &pixels);
    let picture = folder.path().join(name);
    fs::write(&picture, file).unwrap();
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

/// Codes of the usual and of the greatest possible length.
#[apply(with_zbarimg)]
async fn code_in_a_picture_opens_the_gate() {
    let (longest, key) = ("A".repeat(92), base64([1; 32]));
    let signed = [("scan_key.customer_prefix", longest.as_str()), ("scan_key.signing_keys", key.as_str())];
    for (settings, length, time) in [(&[][..], 49, 39..49), (&signed, 154, 127..137)] {
        let server = Server::demo(&[&UNLIMITED[..], settings].concat()).await;
        let app = signed_in(&server, SHOPPER).await;
        for (accept, kind) in [
            ("image/png", "image/png"),
            ("image/*", "image/png"),
            ("text/html, image/png, application/json;q=0.5", "image/png"),
            ("image/svg+xml", "image/svg+xml"),
        ] {
            let answer = request_code(&server, &app, accept).await;
            assert_eq!((answer.status, &answer.headers["content-type"]), (200, &kind.parse().unwrap()), "{accept}");
            let [code, expires_at, refresh] = HEADERS.map(|name| answer.headers[name].to_str().unwrap());
            assert_eq!((read(&answer).as_str(), code.len()), (code, length), "the picture contains the header's code");
            let expires_at: DateTime<Utc> = expires_at.parse().unwrap();
            let made_at = code[time.clone()].parse().unwrap();
            assert_eq!(expires_at, DateTime::from_timestamp(made_at, 0).unwrap() + TimeDelta::seconds(60));
            assert_eq!(refresh, "45");
            assert_eq!(answer.headers["cache-control"], "no-store");
            let scan =
                set(scan_of(&new_id(), code), "authEvent.timestamp", expires_at.to_rfc3339().replace("+00:00", "Z"));
            assert_granted(&server.verify(&scan).await, SHOPPER, "SHOPPER", code);
        }
    }
}

/// The width and the pixels of a PNG with one byte a pixel.
fn png_pixels(file: &[u8]) -> (usize, Vec<u8>) {
    let mut png = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; png.output_buffer_size().unwrap()];
    let info = png.next_frame(&mut pixels).unwrap();
    assert_eq!(info.buffer_size(), pixels.len(), "one byte a pixel");
    (info.width as usize, pixels)
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
    for accept in ["*/*", "\u{e9}"] {
        let answer = request_code(&server, &app, accept).await;
        assert_eq!((answer.status, answer.json().as_object().unwrap().len()), (200, 5), "{accept}");
        assert!(HEADERS.iter().all(|name| !answer.headers.contains_key(*name)), "{accept}");
    }
    let guest = anonymous(&server).await;
    assert_eq!(request_code(&server, &guest, "image/png").await.json()["reason"], "not_signed_in", "a refusal is JSON");
}
