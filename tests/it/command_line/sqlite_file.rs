//! The bytes of a SQLite file and of its write-ahead log: erased names are gone from both, and a long log is truncated.
//! Also the lock of the file: links do not bypass it.

use crate::trials::{apply, test};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tempfile::TempDir;

use crate::support::carts::CARTS;
use crate::support::checks::{base64, retry, set};
use crate::support::shopper::CONTEXTS;
use crate::support::{Ended, Process, client, scan, wait_until};

/// A connector on its own SQLite file, `connector.db`, which it opens and creates through a symbolic link.
struct Connector {
    process: Process,
    folder: TempDir,
}

impl Connector {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let link = folder.path().join("link.db");
        symlink("connector.db", &link).unwrap();
        let url = format!("sqlite://{}", link.display());
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
        self.process.verify(body).await.status
    }

    /// Signs in as a shopper and opens a cart with this name.
    async fn open_cart(&self, shopper: &str, name: &str) {
        let answer = async |request: RequestBuilder| request.send().await.unwrap().json::<Value>().await.unwrap();
        let url = |path| format!("{}{path}", self.process.api);
        let signed_in =
            answer(client().post(url("/demo/sign-in")).body(json!({ "shopper": shopper }).to_string())).await;
        let token = signed_in.get("accessToken").and_then(Value::as_str).unwrap();
        let context = answer(client().get(url(CONTEXTS)).bearer_auth(token)).await;
        let context = context.get("customerContext").and_then(Value::as_str).unwrap();
        let cart = json!({ "id": -1, "name": name, "market": "US", "currency": "USD" }).to_string();
        let request = client().post(url(CARTS)).bearer_auth(token).header("x-customer-context", context).body(cart);
        assert_eq!(answer(request).await.get("name").and_then(Value::as_str), Some(name));
    }

    /// Number of occurrences of a text in the database files and their logs.
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
        self.process.metric("connector_database_log_bytes").await
    }
}

/// A connection that is not the connector's.
async fn connection(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// A connection with an open read transaction.
async fn reader(path: &Path) -> SqliteConnection {
    let mut reader = connection(path).await;
    reader.execute("BEGIN").await.unwrap();
    reader.execute("SELECT count(*) FROM decision").await.unwrap();
    reader
}

const NAMES: [&str; 4] = [
    "shopper-4711-of-springfield",
    "device-0815-of-springfield",
    "payment-2342-of-springfield",
    "birthday-in-springfield",
];

/// Creates a shopper with a device, a payment method and a cart, and records 200 scans, 40 of them of that shopper.
async fn create_shopper_and_scans(connector: &Connector) {
    let [shopper, device, payment, cart] = NAMES;
    let row = json!({
        "type": "SHOPPER", "devices": [device], "paymentMethod": { "id": payment, "lastMonth": "2099-12" }
    });
    assert_eq!(connector.admin("PUT", &format!("shoppers/{shopper}"), &row).await, 200);
    let key = json!({ "key": "badge of shopper 4711", "shopper": shopper, "device": device });
    assert_eq!(connector.admin("PUT", "identity-keys", &key).await, 200);
    let entry = set(scan(), "identityKey", base64("badge of shopper 4711"));
    for number in 0..200 {
        let others = scan();
        let body = if number % 5 == 0 { &entry } else { &others };
        let body = set(retry(body), "authEvent.id", uuid::Uuid::new_v4().to_string());
        assert_eq!(connector.verify(&body).await, 200);
    }
    connector.open_cart(shopper, cart).await;
    for name in NAMES {
        assert!(connector.count(name) > 0, "{name} is not in the files before it is erased");
    }
}

#[apply(test)]
async fn an_erased_name_is_in_no_byte_of_the_files_after_the_204() {
    let connector = Connector::start().await;
    create_shopper_and_scans(&connector).await;
    assert_eq!(connector.admin("DELETE", &format!("shoppers/{}", NAMES[0]), &json!(null)).await, 204);
    assert_eq!(NAMES.map(|name| connector.count(name)), [0; 4]);
    assert_eq!(connector.verify(&scan()).await, 200, "other shoppers can still enter");
}

#[apply(test)]
async fn erasing_fails_while_a_reader_keeps_the_name_in_the_log() {
    let connector = Connector::start().await;
    create_shopper_and_scans(&connector).await;
    let reader = reader(&connector.file("connector.db")).await;
    let erase = format!("shoppers/{}", NAMES[0]);
    assert_eq!(connector.admin("DELETE", &erase, &json!(null)).await, 500);
    assert!(connector.process.wait_for_log("\"status\":500").contains("another process reads the SQLite file"));
    assert_eq!(connector.verify(&scan()).await, 200, "scans are not blocked");
    reader.close().await.unwrap();
    assert_eq!(connector.admin("DELETE", &erase, &json!(null)).await, 204);
    assert_eq!(NAMES.map(|name| connector.count(name)), [0; 4]);
}

#[apply(test)]
async fn a_log_that_a_reader_kept_long_is_truncated_afterwards() {
    let connector = Connector::start().await;
    assert_eq!(connector.verify(&scan()).await, 200);
    let path = connector.file("connector.db");
    let reader = reader(&path).await;
    let mut writer = connection(&path).await;
    writer.execute("CREATE TABLE big (bytes BLOB); INSERT INTO big VALUES (zeroblob(40000000))").await.unwrap();
    writer.close().await.unwrap();
    assert!(connector.log_length().await > 4e7);
    reader.close().await.unwrap();
    wait_until("the log is short again", async || connector.log_length().await < 1e6).await;
    assert_eq!(connector.verify(&scan()).await, 200);
}

#[apply(test)]
async fn a_second_connector_cannot_open_the_file_not_even_by_a_hard_link() {
    let connector = Connector::start().await;
    let (path, link) = (connector.file("connector.db"), connector.folder.path().join("elsewhere"));
    std::fs::create_dir(&link).unwrap();
    let link = link.join("other.db");
    std::fs::hard_link(&path, &link).unwrap();
    std::fs::copy(connector.file("connector.db.key"), link.with_file_name("other.db.key")).unwrap();
    for (file, error) in [(&path, "in use by another connector"), (&link, "other.db has 2 names (hard links)")] {
        let url = format!("sqlite://{}", file.display());
        let ports = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0"), ("storage.url", &url)];
        let second = Ended::run(&["demo"], &ports);
        assert!(second.code == Some(64) && second.stderr.contains(error), "{}", second.stderr);
    }
    assert_eq!(connector.verify(&scan()).await, 200, "the first connector still answers");
}

/// The file is not changed.
#[apply(test)]
async fn a_file_with_another_schema_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("connector.db");
    let url = format!("sqlite://{}", path.display());
    let settings = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0"), ("storage.url", &url)];
    Process::demo(&settings).await.stop();
    let mut other = connection(&path).await;
    other.execute("UPDATE _sqlx_migrations SET checksum = x'00'").await.unwrap();
    other.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let ended = Ended::run(&["demo"], &settings);
    assert!(ended.code == Some(64) && ended.stderr.contains("was made by another build"), "{}", ended.stderr);
    assert!(std::fs::read(&path).unwrap() == before, "the file has changed");
}
