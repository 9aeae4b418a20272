//! Start and stop: SIGTERM lets running requests finish within the grace period. Other clients do not delay the stop.

use crate::trials::{apply, test};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::checks::PATIENCE;
use crate::support::{IDENTITY_KEYS, Process, client, scan_with_key};

/// A scan with the stalling key takes at least this long: its deadline is 1.5 s after its head was read.
const STALLED: Duration = Duration::from_millis(1_400);

/// Starts a demo in which the scan of one key stalls until its deadline.
async fn start_with_stalling_key(settings: &[(&str, &str)]) -> Process {
    let directory = json!({ "stores": [{ "id": "STORE-001" }], "faults": [{ "key": "slow", "fault": "stall" }] });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), directory.to_string()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let settings: Vec<_> = [("directory.file", path.as_str())].into_iter().chain(settings.iter().copied()).collect();
    Process::demo(&settings).await
}

/// Polls until a condition is true.
async fn wait_until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await; // poll until the deadline above
    }
}

/// Whether the metrics show this number of running requests.
async fn in_flight(process: &Process, requests: u32) -> bool {
    let answer = client().get(format!("{}/metrics", process.management)).send().await.unwrap();
    answer.text().await.unwrap().contains(&format!("connector_in_flight {requests}\n"))
}

async fn readyz(url: &str) -> Option<u16> {
    let answer = client().get(format!("{url}/readyz")).send().await.ok()?;
    Some(answer.status().as_u16())
}

#[apply(test)]
async fn sigterm_finishes_running_requests_and_accepts_no_new_ones() {
    let process = start_with_stalling_key(&[("server.stop_delay", "3s")]).await;
    assert_eq!(readyz(&process.api).await, Some(200));
    let url = format!("{}{IDENTITY_KEYS}", process.api);
    let running = tokio::spawn(client().post(url).body(scan_with_key(b"slow").to_string()).send());
    wait_until("the request runs", || in_flight(&process, 1)).await;

    process.signal("TERM");
    wait_until("not ready", || async { readyz(&process.management).await == Some(503) }).await;
    wait_until("no new connection", || async { readyz(&process.api).await.is_none() }).await;

    let answer = running.await.unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 500, "the scan reaches its deadline");
    let ended = process.wait_for_end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"stopped\""), "{}", ended.stderr);
}

#[apply(test)]
async fn silent_and_idle_clients_do_not_delay_the_stop() {
    // Longer than `Process::wait_for_end` waits.
    let process = Process::demo(&[("server.grace_period", "60s")]).await;
    let address = process.api.strip_prefix("http://").unwrap().to_owned();
    let silent = TcpStream::connect(&address).unwrap();
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").unwrap();
    let idle = client();
    assert!(idle.get(format!("{}/livez", process.api)).send().await.is_ok());

    process.signal("TERM");
    assert_eq!(process.wait_for_end().code, Some(0), "it stops long before the grace period ends");
    drop((silent, half));
}

#[apply(test)]
async fn requests_that_outlast_the_grace_period_are_cut_off() {
    let process = start_with_stalling_key(&[("server.grace_period", "0s")]).await;
    let url = format!("{}{IDENTITY_KEYS}", process.api);
    let running = tokio::spawn(client().post(url).body(scan_with_key(b"slow").to_string()).send());
    wait_until("the request runs", || in_flight(&process, 1)).await;
    process.signal("INT");
    let ended = process.wait_for_end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(running.await.unwrap().is_err(), "the request was cut off");
    assert!(ended.stderr.contains("requests were cut off at the end of server.grace_period"), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"reason\":\"cut_off\""), "the request is logged\n{}", ended.stderr);
}

/// Reads until the server closes the connection, which is an error if it takes longer than [`PATIENCE`].
fn read_to_end_of_stream(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map(|_| answer)
}

#[apply(test)]
async fn a_client_that_sends_no_request_is_disconnected() {
    let process = Process::demo(&[("server.header_timeout", "1s"), ("server.idle_timeout", "1h")]).await;
    let address = process.api.strip_prefix("http://").unwrap();
    let silent = TcpStream::connect(address).unwrap();
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").unwrap();
    assert_eq!(read_to_end_of_stream(silent).unwrap(), b"");
    assert_eq!(read_to_end_of_stream(half).unwrap(), b"");
}

/// The answer takes half a second longer than `server.header_timeout`.
#[apply(test)]
async fn the_header_timeout_does_not_limit_the_answer() {
    let process = start_with_stalling_key(&[("server.header_timeout", "1s")]).await;
    let body = scan_with_key(b"slow").to_string();
    let answer = client().post(format!("{}{IDENTITY_KEYS}", process.api)).body(body).send().await;
    assert_eq!(answer.unwrap().status().as_u16(), 500);
}

#[apply(test)]
async fn an_idle_client_is_disconnected() {
    let process = Process::demo(&[("server.header_timeout", "1h"), ("server.idle_timeout", "1s")]).await;
    let mut idle = TcpStream::connect(process.api.strip_prefix("http://").unwrap()).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(read_to_end_of_stream(idle).unwrap().starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// The client pipelines requests and reads no answer until the buffers of both ends are full. Then the server must
/// close the connection.
#[apply(test)]
async fn a_client_that_reads_no_answer_is_disconnected() {
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
    assert_eq!(answer.unwrap().status().as_u16(), 200, "its connection slot is free again");
    drop(greedy);
}

#[apply(test)]
async fn a_client_that_closes_its_sending_half_gets_the_answer() {
    let process = Process::demo(&[]).await;
    let mut stream = TcpStream::connect(process.api.strip_prefix("http://").unwrap()).unwrap();
    let body = scan_with_key(b"valid_shopper_key").to_string();
    let head = format!("POST {IDENTITY_KEYS} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_to_end_of_stream(stream).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\"SHOPPER\"}}"), "{answer:?}");
}

/// Both open connections have a running request, so neither is closed when the third arrives. The management port has
/// its own limit.
#[apply(test)]
async fn beyond_max_connections_a_connection_waits_for_a_free_slot() {
    let process = start_with_stalling_key(&[("server.max_connections", "2"), ("commerce.enabled", "false")]).await;
    let url = format!("{}{IDENTITY_KEYS}", process.api);
    let ask = || tokio::spawn(client().post(&url).body(scan_with_key(b"slow").to_string()).send());
    let began = Instant::now();
    let running = [ask(), ask()];
    wait_until("both requests run", || in_flight(&process, 2)).await;
    let third = tokio::spawn(client().get(format!("{}/livez", process.api)).send());
    assert_eq!(readyz(&process.management).await, Some(200));
    assert!(!third.is_finished() || began.elapsed() > STALLED);
    assert_eq!(third.await.unwrap().unwrap().status().as_u16(), 200);
    for answer in running {
        assert_eq!(
            answer.await.unwrap().unwrap().status().as_u16(),
            500,
            "a connection with a running request is not closed for another"
        );
    }
}

/// Before the first import, `serve` starts, logs that the directory is empty, and knows no store.
#[apply(test)]
async fn serve_starts_with_an_empty_directory_and_logs_it() {
    let process = Process::start("serve", &[("storage.url", "memory:")]).await;
    let body = scan_with_key(b"valid_shopper_key").to_string();
    let answer = client().post(format!("{}{IDENTITY_KEYS}", process.api)).body(body).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
        (400, r#"{"message":"Invalid storeId"}"#)
    );
    process.signal("TERM");
    let ended = process.wait_for_end();
    assert!(ended.stderr.contains("the directory has no store"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(0));
}
