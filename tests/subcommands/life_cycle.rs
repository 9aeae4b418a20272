//! Start, drain, stop: what SIGTERM finds running is finished, and nobody can hold up the end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::checks::PATIENCE;
use crate::support::{IDENTITY_KEYS, Process, client, scan_with_key};

/// A scan of the stalling key runs at least this long: its deadline is 1.5 s after its head.
const STALLED: Duration = Duration::from_millis(1_400);

/// A demo in which one key stalls until the deadline.
async fn with_stalling_key(settings: &[(&str, &str)]) -> Process {
    let directory = json!({ "stores": [{ "id": "STORE-001" }], "faults": [{ "key": "slow", "fault": "stall" }] });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), directory.to_string()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let settings: Vec<_> = [("directory.file", path.as_str())].into_iter().chain(settings.iter().copied()).collect();
    Process::demo(&settings).await
}

/// Polls until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await; // a poll towards the deadline above
    }
}

/// Whether so many requests are running, by the metrics.
async fn in_flight(process: &Process, requests: u32) -> bool {
    let answer = client().get(format!("{}/metrics", process.management)).send().await.unwrap();
    answer.text().await.unwrap().contains(&format!("connector_in_flight {requests}\n"))
}

async fn readyz(url: &str) -> Option<u16> {
    let answer = client().get(format!("{url}/readyz")).send().await.ok()?;
    Some(answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_a_running_request_finish_and_takes_no_new_one() {
    let process = with_stalling_key(&[("server.stop_delay", "3s")]).await;
    assert_eq!(readyz(&process.api).await, Some(200));
    let url = format!("{}{IDENTITY_KEYS}", process.api);
    let running = tokio::spawn(client().post(url).body(scan_with_key(b"slow").to_string()).send());
    until("the request runs", || in_flight(&process, 1)).await;

    process.signal("TERM");
    until("not ready", || async { readyz(&process.management).await == Some(503) }).await;
    until("no new connection", || async { readyz(&process.api).await.is_none() }).await;

    let answer = running.await.unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 500, "the deadline of a stalled directory");
    let ended = process.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"stopped\""), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_silent_peer_nor_an_idle_one_holds_up_the_end() {
    // Longer than `ended` waits.
    let process = Process::demo(&[("server.grace_period", "60s")]).await;
    let address = process.api.strip_prefix("http://").unwrap().to_owned();
    let silent = TcpStream::connect(&address).unwrap();
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").unwrap();
    let idle = client();
    assert!(idle.get(format!("{}/livez", process.api)).send().await.is_ok());

    process.signal("TERM");
    assert_eq!(process.ended().code, Some(0), "well within the grace period");
    drop((silent, half));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_period_ends_what_does_not() {
    let process = with_stalling_key(&[("server.grace_period", "0s")]).await;
    let url = format!("{}{IDENTITY_KEYS}", process.api);
    let running = tokio::spawn(client().post(url).body(scan_with_key(b"slow").to_string()).send());
    until("the request runs", || in_flight(&process, 1)).await;
    process.signal("INT");
    let ended = process.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(running.await.unwrap().is_err(), "it was cut off");
    assert!(ended.stderr.contains("stopped with requests still running"), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"reason\":\"cut_off\""), "the request has its line\n{}", ended.stderr);
}

/// Reads until the other end closes; a peer that is held longer than that is an error.
fn read_to_the_end(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).map(|_| said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_asks_is_sent_away() {
    let process = Process::demo(&[("server.header_timeout", "1s"), ("server.idle_timeout", "1h")]).await;
    let address = process.api.strip_prefix("http://").unwrap();
    let silent = TcpStream::connect(address).unwrap();
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").unwrap();
    assert_eq!(read_to_the_end(silent).unwrap(), b"");
    assert_eq!(read_to_the_end(half).unwrap(), b"");
}

/// The answer takes half a second longer than a new connection may take to ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_asked_is_answered_however_long_that_takes() {
    let process = with_stalling_key(&[("server.header_timeout", "1s")]).await;
    let body = scan_with_key(b"slow").to_string();
    let answer = client().post(format!("{}{IDENTITY_KEYS}", process.api)).body(body).send().await;
    assert_eq!(answer.unwrap().status().as_u16(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_idle_is_sent_away() {
    let process = Process::demo(&[("server.header_timeout", "1h"), ("server.idle_timeout", "1s")]).await;
    let mut idle = TcpStream::connect(process.api.strip_prefix("http://").unwrap()).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(read_to_the_end(idle).unwrap().starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// Pipelines requests and reads no answer, until the system takes no more of them; then it must be let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_no_answer_is_let_go() {
    let process = Process::demo(&[("server.max_connections", "1"), ("server.answer_timeout", "1s")]).await;
    let address = process.api.strip_prefix("http://").unwrap().to_owned();
    let greedy = TcpStream::connect(&address).unwrap();
    greedy.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let writing = tokio::task::spawn_blocking(move || {
        let requests = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
        while (&greedy).write_all(&requests).is_ok() {}
        greedy
    });
    let greedy = writing.await.unwrap();
    let answer = client().get(format!("{}/livez", process.api)).timeout(PATIENCE).send().await;
    assert_eq!(answer.unwrap().status().as_u16(), 200, "its place is free again");
    drop(greedy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_said_all_and_closes_that_half_hears_the_answer() {
    let process = Process::demo(&[]).await;
    let mut stream = TcpStream::connect(process.api.strip_prefix("http://").unwrap()).unwrap();
    let body = scan_with_key(b"valid_shopper_key").to_string();
    let head = format!("POST {IDENTITY_KEYS} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let said = read_to_the_end(stream).unwrap();
    assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n") && said.ends_with(b"\"SHOPPER\"}}"), "{said:?}");
}

/// Two are being answered, so that neither makes room; the management port has a cap of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_cap_a_connection_waits_and_is_served_when_another_ends() {
    let process = with_stalling_key(&[("server.max_connections", "2"), ("commerce.enabled", "false")]).await;
    let url = format!("{}{IDENTITY_KEYS}", process.api);
    let ask = || tokio::spawn(client().post(&url).body(scan_with_key(b"slow").to_string()).send());
    let began = Instant::now();
    let running = [ask(), ask()];
    until("both requests run", || in_flight(&process, 2)).await;
    let third = tokio::spawn(client().get(format!("{}/livez", process.api)).send());
    assert_eq!(readyz(&process.management).await, Some(200));
    assert!(!third.is_finished() || began.elapsed() > STALLED);
    assert_eq!(third.await.unwrap().unwrap().status().as_u16(), 200);
    for answer in running {
        assert_eq!(answer.await.unwrap().unwrap().status().as_u16(), 500, "nobody who is being answered makes room");
    }
}

/// Nobody has been imported yet: it starts, says so, and knows no store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_starts_with_an_empty_directory_and_says_so() {
    let process = Process::start("serve", &[("storage.url", "memory:")]).await;
    let body = scan_with_key(b"valid_shopper_key").to_string();
    let answer = client().post(format!("{}{IDENTITY_KEYS}", process.api)).body(body).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
        (400, r#"{"message":"Invalid storeId"}"#)
    );
    process.signal("TERM");
    let ended = process.ended();
    assert!(ended.stderr.contains("the directory has no store"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(0));
}
