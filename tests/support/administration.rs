//! Requests to the management port.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Answer, Server, secrets};

/// Every list, with the member name of its rows in a page.
pub(crate) const LISTS: [(&str, &str); 8] = [
    ("stores", "stores"),
    ("shoppers", "shoppers"),
    ("identity-keys", "identityKeys"),
    ("recognition-tokens", "recognitionTokens"),
    ("customers", "customers"),
    ("sessions", "sessions"),
    ("decisions", "decisions"),
    ("audit", "audit"),
];

/// A text as one segment of a path, with every byte percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

impl Server {
    /// Sends a request to a path below `/admin/v1/`, such as `("GET", "stores/S")`.
    pub(crate) async fn admin(&self, method: &str, path: &str) -> Answer {
        self.admin_with(method, path, Vec::new()).await
    }

    /// Sends a request with a body.
    pub(crate) async fn admin_with(&self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let url = format!("{}/admin/v1/{path}", self.management);
        Answer::read(self.client.request(method.parse().unwrap(), url).body(body.into()).send().await.unwrap()).await
    }

    /// Puts a row, which must be accepted, and returns the answer.
    pub(crate) async fn put(&self, path: &str, row: &Value) -> Value {
        let answer = self.admin_with("PUT", path, row.to_string()).await;
        assert_eq!(answer.status, 200, "{path} {row}: {}", answer.json());
        let stored = answer.json();
        // This answer alone contains a generated token. No answer may contain a key or token that a request has set.
        let secrets = [&stored["token"], &row["token"], &row["key"]].map(Value::as_str);
        secrets.into_iter().flatten().for_each(secrets::keep);
        stored
    }

    /// One page of a list, and the cursor of the next page.
    pub(crate) async fn page(&self, list: &str, limit: usize, cursor: Option<&str>) -> (Vec<Value>, Option<String>) {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let answer = self.admin("GET", &format!("{list}?limit={limit}{cursor}")).await;
        assert_eq!(answer.status, 200, "{list}: {}", answer.json());
        let (page, (_, name)) = (answer.json(), LISTS.iter().find(|(path, _)| *path == list).unwrap());
        let rows = page[name].as_array().unwrap().clone();
        assert!(rows.len() <= limit, "{page}");
        (rows, page["nextCursor"].as_str().map(str::to_owned))
    }

    /// All rows of a list.
    pub(crate) async fn all(&self, list: &str) -> Vec<Value> {
        let (mut rows, mut cursor) = self.page(list, 1000, None).await;
        while let Some(next) = cursor {
            let (more, then) = self.page(list, 1000, Some(&next)).await;
            rows.extend(more);
            cursor = then;
        }
        rows
    }

    /// All rows of all lists, as one text.
    pub(crate) async fn everything(&self) -> String {
        let mut text = String::new();
        for (list, _) in LISTS {
            writeln!(text, "{list}: {}", Value::from(self.all(list).await)).unwrap();
        }
        text
    }
}
