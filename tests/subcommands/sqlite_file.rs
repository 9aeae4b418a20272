//! What is in the bytes of a SQLite file and of its log, and what becomes of the log; and that no other name leads round its lock.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tempfile::TempDir;

use crate::support::carts::CARTS;
use crate::support::checks::{PATIENCE, base64, retry, set};
use crate::support::shopper::CONTEXTS;
use crate::support::{Ended, IDENTITY_KEYS, Process, client, scan};

/// A connector on a file of its own.
struct Connector {
    process: Process,
    folder: TempDir,
}

impl Connector {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("connector.db").display());
        let settings =
            [("storage.url", url.as_str()), ("rate_limit.burst", "1000000"), ("answer.payment_source", "true")];
        Self { process: Process::demo(&settings).await, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn admin(&self, method: &str, path: &str, body: &Value) -> u16 {
        let url = format!("{}/admin/v1/{path}", self.process.management);
        let request = client().request(method.parse().unwrap(), url).body(body.to_string());
        request.send().await.unwrap().status().as_u16()
    }

    async fn verify(&self, body: &Value) -> u16 {
        let request = client().post(format!("{}{IDENTITY_KEYS}", self.process.api)).body(body.to_string());
        request.send().await.unwrap().status().as_u16()
    }

    /// Puts a cart of that name into the account of a shopper.
    async fn open_cart(&self, shopper: &str, name: &str) {
        let ask = async |request: RequestBuilder| request.send().await.unwrap().json::<Value>().await.unwrap();
        let url = |path| format!("{}{path}", self.process.api);
        let signed_in = ask(client().post(url("/demo/sign-in")).body(json!({ "shopper": shopper }).to_string())).await;
        let token = signed_in.get("accessToken").and_then(Value::as_str).unwrap();
        let context = ask(client().get(url(CONTEXTS)).bearer_auth(token)).await;
        let context = context.get("customerContext").and_then(Value::as_str).unwrap();
        let cart = json!({ "id": -1, "name": name, "market": "US", "currency": "USD" }).to_string();
        let request = client().post(url(CARTS)).bearer_auth(token).header("x-customer-context", context).body(cart);
        assert_eq!(ask(request).await.get("name").and_then(Value::as_str), Some(name));
    }

    /// How often a text is in the files and their logs.
    fn count(&self, text: &str) -> usize {
        let count = |path: PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
        };
        ["", "-wal", ".carts", ".carts-wal"]
            .map(|ending| count(self.file(&format!("connector.db{ending}"))))
            .iter()
            .sum()
    }

    async fn log_length(&self) -> f64 {
        let metrics = client().get(format!("{}/metrics", self.process.management)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("connector_database_log_bytes "));
        line.unwrap().parse().unwrap()
    }
}

/// A connection of another process.
async fn connection(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// A reader that has begun to read and does not end.
async fn reader(path: &Path) -> SqliteConnection {
    let mut reader = connection(path).await;
    reader.execute("BEGIN").await.unwrap();
    reader.execute("SELECT count(*) FROM decision").await.unwrap();
    reader
}

const NAMES: [&str; 4] =
    ["somebody-4711-of-springfield", "device-0815-of-somebody", "payment-2342-of-somebody", "birthday-of-somebody"];

/// A shopper who has been in the store often.
async fn visited(connector: &Connector) {
    let [shopper, device, payment, cart] = NAMES;
    let row = json!({
        "type": "SHOPPER", "devices": [device], "paymentMethod": { "id": payment, "lastMonth": "2099-12" }
    });
    assert_eq!(connector.admin("PUT", &format!("shoppers/{shopper}"), &row).await, 200);
    let key = json!({ "key": "badge of somebody", "shopper": shopper, "device": device });
    assert_eq!(connector.admin("PUT", "identity-keys", &key).await, 200);
    let entry = set(scan(), "identityKey", base64("badge of somebody"));
    for number in 0..200 {
        let others = scan();
        let body = if number % 5 == 0 { &entry } else { &others };
        let body = set(retry(body), "authEvent.id", uuid::Uuid::new_v4().to_string());
        assert_eq!(connector.verify(&body).await, 200);
    }
    connector.open_cart(shopper, cart).await;
    for name in NAMES {
        assert!(connector.count(name) > 0, "{name} is not in the bytes at all");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_name_is_in_no_byte_when_the_204_is_given() {
    let connector = Connector::start().await;
    visited(&connector).await;
    assert_eq!(connector.admin("DELETE", &format!("shoppers/{}", NAMES[0]), &json!(null)).await, 204);
    assert_eq!(NAMES.map(|name| connector.count(name)), [0; 4]);
    assert_eq!(connector.verify(&scan()).await, 200, "others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_204_is_given_while_a_reader_keeps_the_name_in_the_log() {
    let connector = Connector::start().await;
    visited(&connector).await;
    let reader = reader(&connector.file("connector.db")).await;
    let erase = format!("shoppers/{}", NAMES[0]);
    assert_eq!(connector.admin("DELETE", &erase, &json!(null)).await, 500);
    assert!(connector.process.logged("\"status\":500").contains("another process reads the SQLite file"));
    assert_eq!(connector.verify(&scan()).await, 200, "scans are not held up");
    reader.close().await.unwrap();
    assert_eq!(connector.admin("DELETE", &erase, &json!(null)).await, 204);
    assert_eq!(NAMES.map(|name| connector.count(name)), [0; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_a_reader_has_made_long_is_short_again_once_the_reader_has_gone() {
    let connector = Connector::start().await;
    assert_eq!(connector.verify(&scan()).await, 200);
    let path = connector.file("connector.db");
    let reader = reader(&path).await;
    let mut writer = connection(&path).await;
    writer.execute("CREATE TABLE big (bytes BLOB); INSERT INTO big VALUES (zeroblob(40000000))").await.unwrap();
    writer.close().await.unwrap();
    assert!(connector.log_length().await > 4e7);
    reader.close().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while connector.log_length().await > 1e6 {
        assert!(Instant::now() < deadline, "it stays {} bytes long", connector.log_length().await);
        tokio::time::sleep(Duration::from_millis(50)).await; // a poll towards the deadline
    }
    assert_eq!(connector.verify(&scan()).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_link_does_not_lead_round_the_lock() {
    let connector = Connector::start().await;
    let (path, link) = (connector.file("connector.db"), connector.folder.path().join("elsewhere"));
    std::fs::create_dir(&link).unwrap();
    let link = link.join("other.db");
    std::fs::hard_link(&path, &link).unwrap();
    std::fs::copy(connector.file("connector.db.key"), link.with_file_name("other.db.key")).unwrap();
    let url = format!("sqlite://{}", link.display());
    let ports = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0"), ("storage.url", &url)];
    let second = Ended::of(&["demo"], &ports);
    assert_eq!(second.code, Some(64), "{}", second.stderr);
    assert!(second.stderr.contains("other.db has 2 names (hard links)"), "{}", second.stderr);
    assert_eq!(connector.verify(&scan()).await, 200, "the first is not disturbed");
}
