//! Start and stop: SIGTERM lets running requests finish within the grace period. Other clients do not delay the stop.

use crate::trials::{apply, test};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::checks::PATIENCE;
use crate::support::{IDENTITY_KEYS, Process, client, scan_with_key, wait_until};

/// Starts a demo in which the scan of one key stalls until its deadline.
async fn start_with_stalling_key(settings: &[(&str, &str)]) -> Process {
    let directory = json!({ "stores": [{ "id": "STORE-001" }], "faults": [{ "key": "slow", "fault": "stall" }] });
    Process::with_directory(&directory, settings).await
}

/// Sends a scan that stalls, and waits until it runs.
async fn stalled_scan(process: &Process) -> JoinHandle<reqwest::Result<reqwest::Response>> {
    let url = format!("{}{IDENTITY_KEYS}", process.api);
    let running = tokio::spawn(client().post(url).body(scan_with_key(b"slow").to_string()).send());
    process.wait_for_metric("connector_in_flight", 1.0).await;
    running
}

fn connect(process: &Process) -> TcpStream {
    TcpStream::connect(process.api.strip_prefix("http://").unwrap()).unwrap()
}

/// A connection with half of a request's head.
fn half_a_request(process: &Process) -> TcpStream {
    let mut half = connect(process);
    half.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").unwrap();
    half
}

async fn readyz(url: &str) -> Option<u16> {
    let answer = client().get(format!("{url}/readyz")).send().await.ok()?;
    Some(answer.status().as_u16())
}

#[apply(test)]
async fn sigterm_finishes_running_requests_and_accepts_no_new_ones() {
    let process = start_with_stalling_key(&[("server.stop_delay", "2s")]).await;
    assert_eq!(readyz(&process.api).await, Some(200));
    let running = stalled_scan(&process).await;

    process.signal("TERM");
    wait_until("not ready", async || readyz(&process.management).await == Some(503)).await;
    wait_until("no new connection", async || readyz(&process.api).await.is_none()).await;

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
    let (silent, half, idle) = (connect(&process), half_a_request(&process), client());
    assert!(idle.get(format!("{}/livez", process.api)).send().await.is_ok());
    assert_eq!(process.stop().code, Some(0), "it stops long before the grace period ends");
    drop((silent, half));
}

#[apply(test)]
async fn requests_that_outlast_the_grace_period_are_cut_off() {
    let process = start_with_stalling_key(&[("server.grace_period", "0s")]).await;
    let running = stalled_scan(&process).await;
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
async fn the_first_head_and_later_heads_have_separate_timeouts() {
    let process = Process::demo(&[("server.header_timeout", "1s"), ("server.idle_timeout", "1h")]).await;
    for connection in [connect(&process), half_a_request(&process)] {
        assert_eq!(read_to_end_of_stream(connection).unwrap(), b"");
    }
    let process = Process::demo(&[("server.header_timeout", "1h"), ("server.idle_timeout", "1s")]).await;
    let mut idle = connect(&process);
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(read_to_end_of_stream(idle).unwrap().starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// The answer takes half a second longer than `server.header_timeout`.
#[apply(test)]
async fn the_header_timeout_does_not_limit_the_answer() {
    let process = start_with_stalling_key(&[("server.header_timeout", "1s")]).await;
    assert_eq!(process.verify(&scan_with_key(b"slow")).await.status, 500);
}

#[apply(test)]
async fn a_client_that_closes_its_sending_half_gets_the_answer() {
    let process = Process::demo(&[]).await;
    let mut stream = connect(&process);
    let body = scan_with_key(b"valid_shopper_key").to_string();
    let head = format!("POST {IDENTITY_KEYS} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_to_end_of_stream(stream).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\"SHOPPER\"}}"), "{answer:?}");
}

/// Before the first import, `serve` starts, logs that the directory is empty, and knows no store.
#[apply(test)]
async fn serve_starts_with_an_empty_directory_and_logs_it() {
    let process = Process::start("serve", &[("storage.url", "memory:")]).await;
    let answer = process.verify(&scan_with_key(b"valid_shopper_key")).await;
    assert_eq!((answer.status, answer.message().as_deref()), (400, Some("Invalid storeId")));
    let ended = process.stop();
    assert!(ended.stderr.contains("the directory has no store"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(0));
}
