//! Requests that the administration refuses. The answer has the position of the mistake and a valid value, and never
//! contains a key.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::checks::*;
use crate::support::{LISTS, Server};

/// A key in every position whose value an answer might quote.
const SECRET: &str = "badge-4711-secret";

#[apply(test)]
async fn invalid_rows_are_refused_with_the_position_of_each_mistake() {
    let server = Server::demo(&[]).await;
    let before = server.everything().await;
    let key = |member: &str, value: Value| {
        ("identity-keys", set(json!({ "key": SECRET, "shopper": "shopper-uuid-001" }), member, value))
    };
    let store = |member: &str, value: Value| ("stores/S", set(json!({}), member, value));
    let customer = |member: &str, value: Value| {
        let row = json!({ "issuer": SECRET, "subject": SECRET, "shopper": "shopper-uuid-001" });
        ("customers", set(row, member, value))
    };
    let shopper = |member: &str, value: Value| ("shoppers/v", set(json!({ "type": "SHOPPER" }), member, value));
    let single = [
        (store("id", json!("T")), "id: must be the id in the path, or absent"),
        (store("id", json!("")), "id: must be the id in the path, or absent"),
        (store("id", json!(null)), "id: invalid type: null"),
        (store("enabled", json!("yes")), "enabled: invalid type: string, expected a boolean"),
        (store("scanKeyWindowSeconds", json!(91)), "scanKeyWindowSeconds: must be 30 to 90"),
        (store("exitPolicy", json!(SECRET)), "exitPolicy: unknown variant, expected"),
        (store(SECRET, json!(1)), "the body: unknown field, expected one of `id`"),
        (shopper("type", json!("VIP")), "type: unknown variant, expected"),
        (shopper("account", json!("odd")), "account: unknown variant, expected"),
        (shopper("paymentMethod", json!({ "lastMonth": "2024-13" })), "paymentMethod.lastMonth: must be a month"),
        (shopper("paymentMethod", json!({ "lastMonth": "2024-12", "pan": SECRET })), "paymentMethod: unknown field"),
        (shopper("devices", json!(["d", ""])), "devices[1]: is empty"),
        (shopper(SECRET, json!(1)), "the body: unknown field"),
        (("shoppers/v", json!({})), "the body: missing field `type`"),
        (key("shopper", json!("unknown")), "shopper: no such shopper"),
        (key("device", json!("not-theirs")), "device: not one of that shopper's devices"),
        (key("shopper", json!(null)), "shopper: is missing"),
        (key("channel", json!(SECRET)), "channel: unknown variant, expected"),
        (key("key", json!(format!("{SECRET}é"))), "key: must be 1 to 750 printable ASCII characters"),
        (key("key", json!(format!("JWO{}", SECRET.repeat(4)))), "key: starts with JWO"),
        (key("key", json!([SECRET])), "key: invalid type: sequence, expected a string"),
        (key("digest", json!("00")), "digest: give either the key or the digest"),
        (key(SECRET, json!(1)), "the body: unknown field"),
        (("identity-keys", json!({ "shopper": "shopper-uuid-001" })), "key: is missing"),
        (("identity-keys", json!({ "digest": SECRET, "revoked": true })), "digest: must be 64 hexadecimal digits"),
        (
            ("recognition-tokens", json!({ "token": SECRET, "shopper": "shopper-uuid-001" })),
            "token: a recognition token is 32",
        ),
        (("recognition-tokens", json!({ "shopper": "unknown" })), "shopper: no such shopper"),
        (("recognition-tokens", json!({})), "shopper: is missing"),
        (customer("shopper", json!("unknown")), "shopper: no such shopper"),
        (customer("shopper", json!(null)), "shopper: is missing"),
        (customer("issuer", json!("")), "issuer: is empty"),
        (customer("issuer", json!(null)), "issuer: is missing"),
        (customer("subject", json!(SECRET.repeat(16))), "subject: is longer than 255 characters"),
        (customer("subject", json!([SECRET])), "subject: invalid type: sequence, expected a string"),
        (customer("digest", json!("0".repeat(64))), "digest: give either the issuer and the subject or the digest"),
        (customer("device", json!(SECRET)), "the body: unknown field"),
        (customer(SECRET, json!(1)), "the body: unknown field"),
        (("customers", json!({ "digest": SECRET, "shopper": "shopper-uuid-001" })), "digest: must be 64 hexadecimal"),
    ];
    let several = [
        (
            "identity-keys",
            json!({ "key": "", "shopper": "" }),
            vec![
                "key: must be 1 to 750 printable ASCII characters: a gate cannot send any other key",
                "shopper: is empty",
            ],
        ),
        (
            "stores/S",
            json!({ "id": "T", "enabled": "yes", "takesCash": "no", "scanKeyWindowSeconds": 91, SECRET: 1, "other": 2 }),
            vec![
                "enabled: invalid type: string, expected a boolean",
                "takesCash: invalid type: string, expected a boolean",
                "id: must be the id in the path, or absent",
                "scanKeyWindowSeconds: must be 30 to 90",
                "the body: unknown field",
            ],
        ),
        (
            "stores/S",
            json!({ "id": null, "scanKeyWindowSeconds": 1 }),
            vec!["id: invalid type: null", "scanKeyWindowSeconds: must"],
        ),
        (
            "shoppers/v",
            json!({ "type": "VIP", "account": 7, "devices": [7, "", [], "d"], "paymentMethod": { "id": "", "pan": SECRET } }),
            vec![
                "type: unknown variant, expected",
                "account: invalid type: integer",
                "devices[0]: invalid type: integer",
                "devices[1]: is empty",
                "devices[2]: invalid type: sequence",
                "paymentMethod: unknown field",
                "paymentMethod: missing field `lastMonth`",
                "paymentMethod.id: is empty",
            ],
        ),
        ("shoppers/v", json!({ "devices": [""] }), vec!["the body: missing field `type`", "devices[0]: is empty"]),
        (
            "identity-keys",
            json!({ "key": [SECRET], "shopper": "", "channel": SECRET, "revoked": SECRET, "device": "" }),
            vec![
                "key: invalid type",
                "shopper: is empty",
                "channel: unknown variant",
                "revoked: invalid type",
                "device: is empty",
            ],
        ),
        (
            "recognition-tokens",
            json!({ "token": 7, "device": "" }),
            vec!["token: invalid type", "device: is empty", "shopper: is missing"],
        ),
        ("recognition-tokens", json!({ "key": SECRET }), vec!["the body: unknown field", "shopper: is missing"]),
        ("customers", json!({}), vec!["issuer: is missing", "subject: is missing", "shopper: is missing"]),
        ("customers", json!({ "digest": 7, "shopper": 7 }), vec!["digest: invalid type", "shopper: invalid type"]),
    ];
    let single = single.map(|((path, row), mistake)| (path, row, vec![mistake]));
    for (path, row, mistakes) in single.into_iter().chain(several) {
        let answer = server.admin_with("PUT", path, row.to_string()).await;
        assert_error_form(&answer, 400, path);
        let message = answer.message().unwrap();
        assert!(!message.contains(SECRET), "{row}: {message}");
        let named: Vec<&str> = message.split("; ").collect();
        for mistake in &mistakes {
            assert!(named.iter().any(|named| named.starts_with(*mistake)), "{row}: {mistake} is not in {message}");
        }
        assert_eq!(named.len(), mistakes.len(), "{row}: {message}");
    }
    let twice = r#"{"enabled":true,"enabled":true,"scanKeyWindowSeconds":1}"#;
    let message = server.admin_with("PUT", "stores/S", twice).await.message().unwrap();
    assert!(
        message.contains("duplicate field `enabled`") && message.contains("; scanKeyWindowSeconds: must"),
        "{message}"
    );
    // A body may have thousands of mistakes.
    let many: serde_json::Map<_, _> = (0..5000).map(|number| (format!("x{number}"), json!(number))).collect();
    let message = server.admin_with("PUT", "stores/S", Value::from(many).to_string()).await.message().unwrap();
    assert!(message.starts_with("the body: unknown field") && message.len() < 300, "{message}");
    assert_eq!(server.everything().await, before);
}

#[apply(test)]
async fn one_byte_order_mark_before_a_row_is_accepted() {
    let server = Server::demo(&[]).await;
    let answer = server.admin_with("PUT", "stores/S", "\u{feff}{\"id\":\"S\",\"takesCash\":true}").await;
    assert_eq!((answer.status, &answer.json()["takesCash"]), (200, &json!(true)));
    let answer = server.admin_with("PUT", "stores/S", "\u{feff}\u{feff}{}").await;
    assert_error_form(&answer, 400, "two byte order marks");
}

#[apply(test)]
async fn unknown_query_parameters_are_refused() {
    let server = Server::demo(&[]).await;
    let before = server.everything().await;
    let page = "limit must be 1 to 1000, cursor must be the nextCursor of the page before";
    for (list, _) in LISTS {
        for (query, name) in [("state=open", "state"), ("limit=5&Limit=6", "Limit"), ("x", "x")] {
            let message = format!("{name}: unknown parameter; {page}");
            assert_refused(&server.admin("GET", &format!("{list}?{query}")).await, 400, &message, query);
        }
        for secret in [SECRET, "4711", &"k".repeat(33), "", "=", "%FF"] {
            let query = format!("{list}?{secret}=1");
            let message = format!("the query: unknown parameter; {page}");
            assert_refused(&server.admin("GET", &query).await, 400, &message, &query);
        }
        assert_eq!(server.admin("GET", &format!("{list}?")).await.status, 200, "{list}");
    }
    let digest = server.all("identity-keys").await[0]["digest"].as_str().unwrap().to_owned();
    for (method, path, body) in [
        ("GET", "stores/STORE-001", ""),
        ("PUT", "stores/STORE-001", "{}"),
        ("DELETE", "stores/STORE-001", ""),
        ("DELETE", "shoppers/shopper-uuid-001", ""),
        ("POST", "shoppers/shopper-uuid-001/flag", ""),
        ("PUT", "identity-keys", r#"{"key":"k","revoked":true}"#),
        ("POST", &format!("identity-keys/{digest}/revoke"), ""),
        ("DELETE", &format!("identity-keys/{digest}"), ""),
    ] {
        let answer = server.admin_with(method, &format!("{path}?limit=1"), body).await;
        assert_refused(&answer, 400, "limit: unknown parameter; this call takes none", path);
    }
    assert_eq!(server.everything().await, before);
}

#[apply(test)]
async fn bodies_that_are_not_a_row_are_refused() {
    let server = Server::demo(&[]).await;
    let bodies: [&[u8]; 11] = [
        b"",
        b"null",
        b"[]",
        b"\"badge-4711-secret\"",
        b"badge-4711-secret",
        b"{",
        b"{\"key\":\"badge-4711-secret",
        b"{\"key\":\"badge-4711-secret\",\"revoked\":true}badge-4711-secret",
        b"{\"key\":\"badge-4711-secret\",\"key\":\"badge-4711-secret\",\"revoked\":true}",
        b"{\"key\":\"badge-4711-secret\",\"revoked\":true,\"\xff\":1}",
        b"{\"key\":\"\\ud800badge-4711-secret\",\"revoked\":true}",
    ];
    for body in bodies {
        let answer = server.admin_with("PUT", "identity-keys", body).await;
        assert_error_form(&answer, 400, &String::from_utf8_lossy(body));
        assert!(!answer.message().unwrap().contains(SECRET), "{answer:?}", answer = answer.json());
    }
    let deep = format!("{{\"key\":{}1{}}}", "[".repeat(30_000), "]".repeat(30_000));
    assert_error_form(&server.admin_with("PUT", "identity-keys", deep).await, 400, "deeply nested JSON");
    let padded = |length: usize| format!("{}{{}}", " ".repeat(length - 2));
    assert_eq!(server.admin_with("PUT", "stores/S", padded(64 * 1024)).await.status, 200);
    let too_long = server.admin_with("PUT", "stores/S", padded(64 * 1024 + 1)).await;
    assert_refused(&too_long, 413, "the body: is longer than 64 KiB", "one byte above the limit");
    assert_refused(
        &server.admin_with("PUT", "stores/S", padded(900_000)).await,
        413,
        "the body: is longer than 64 KiB",
        "long",
    );
}

#[apply(test)]
async fn unknown_resources_get_404_and_wrong_methods_405() {
    let server = Server::demo(&[]).await;
    let digest = "0".repeat(64);
    for (method, path) in [
        ("GET", "stores/nowhere"),
        ("DELETE", "stores/nowhere"),
        ("GET", "shoppers/unknown"),
        ("POST", "shoppers/unknown/flag"),
        ("GET", &format!("identity-keys/{digest}")),
        ("DELETE", &format!("recognition-tokens/{digest}")),
        ("POST", &format!("identity-keys/{digest}/revoke")),
        ("GET", &format!("customers/{digest}")),
        ("DELETE", &format!("customers/{digest}")),
        ("GET", "stores/"),
        ("GET", "stores/a/b"),
        ("GET", "nothing"),
    ] {
        assert_refused(&server.admin(method, path).await, 404, "Not found", path);
    }
    for path in ["identity-keys/badge-4711-secret", "recognition-tokens/00", "identity-keys/%00", "identity-keys/%FF"] {
        for method in ["GET", "DELETE"] {
            let answer = server.admin(method, path).await;
            assert_error_form(&answer, 400, path);
            assert!(!answer.message().unwrap().contains(SECRET));
        }
    }
    for (list, _) in LISTS {
        for method in ["POST", "DELETE", "PATCH"] {
            assert_error_form(&server.admin(method, list).await, 405, list);
        }
    }
    for (method, path) in [("POST", "stores/STORE-001"), ("GET", "shoppers/shopper-uuid-001/flag"), ("PUT", "audit")] {
        assert_error_form(&server.admin(method, path).await, 405, path);
    }
}

#[apply(test)]
async fn generated_tokens_are_shown_once_and_given_tokens_never() {
    let server = Server::demo(&[]).await;
    let row = json!({ "shopper": "shopper-uuid-001" });
    let [first_token, second_token] =
        [server.put("recognition-tokens", &row).await, server.put("recognition-tokens", &row).await];
    assert!(first_token["token"] != second_token["token"] && first_token["digest"] != second_token["digest"]);
    let given = server.put("recognition-tokens", &set(row.clone(), "token", "G".repeat(32))).await;
    assert!(given.get("token").is_none(), "{given}");
    // The token in the answer is the stored one.
    let again = server.put("recognition-tokens", &set(row, "token", first_token["token"].clone())).await;
    assert_eq!(again["digest"], first_token["digest"]);
    let everything = server.everything().await;
    for token in [&first_token["token"], &second_token["token"], &json!("G".repeat(32))] {
        assert!(!everything.contains(token.as_str().unwrap()), "{everything}");
    }
}
