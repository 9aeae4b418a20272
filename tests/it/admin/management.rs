//! Authentication on the management port: with a configured token, metrics and administration require it and probes do
//! not. Without one, metrics are open and administration is closed.

use crate::trials::{apply, test};
use serde_json::json;

use crate::checks::assert_refused;
use crate::support::{Answer, LISTS, Server, client_without_credentials, scan};

const TOKEN: &str = "a-token-of-sixteen-or-more";

async fn ask(server: &Server, path: &str, authorization: Option<&str>) -> Answer {
    let request = client_without_credentials().get(format!("{}{path}", server.management));
    let request = match authorization {
        Some(value) => request.header("authorization", value),
        None => request,
    };
    Answer::read(request.send().await.unwrap()).await
}

#[apply(test)]
async fn metrics_and_administration_require_the_configured_token() {
    let server = Server::demo(&[("management.token", TOKEN)]).await;
    server.verify(&scan()).await;
    let lists = LISTS.map(|(list, _)| format!("/admin/v1/{list}"));
    let right = format!("Bearer {TOKEN}");
    let invalid_credentials = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(TOKEN.to_owned()),
        Some(format!("Basic {TOKEN}")),
        Some(format!("Bearer {TOKEN}x")),
        Some(format!("Bearer {}", TOKEN.to_uppercase())),
        Some(format!("Bearer {}", TOKEN.trim_end_matches('e'))),
    ];
    for path in lists.iter().map(String::as_str).chain(["/metrics", "/admin/v1/stores/STORE-001"]) {
        for authorization in &invalid_credentials {
            let answer = ask(&server, path, authorization.as_deref()).await;
            assert_eq!(answer.status, 401, "{path} {authorization:?}");
            assert_eq!(answer.json(), json!({ "message": "Unauthorized" }));
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
        for authorization in [&right, &right.replace("Bearer", "bearer"), &right.replace(' ', "   ")] {
            assert_eq!(ask(&server, path, Some(authorization)).await.status, 200, "{path} {authorization}");
        }
    }
    let url = format!("{}/admin/v1/stores", server.management);
    let twice = client_without_credentials().get(url).header("authorization", &right).header("authorization", &right);
    assert_eq!(twice.send().await.unwrap().status(), 401, "a proxy may have read the other of two headers");
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(&server, path, None).await.status, 200, "{path} needs no token");
    }
    assert_eq!(ask(&server, "/nowhere", None).await.status, 404);
}

/// All calls that change something, with a valid body.
const CHANGES: [(&str, &str, &str); 13] = [
    ("PUT", "stores/S", "{}"),
    ("DELETE", "stores/STORE-001", ""),
    ("PUT", "shoppers/v", r#"{"type":"SHOPPER"}"#),
    ("DELETE", "shoppers/shopper-uuid-001", ""),
    ("POST", "shoppers/shopper-uuid-001/flag", ""),
    ("POST", "shoppers/flagged-shopper-uuid-001/unflag", ""),
    ("PUT", "identity-keys", r#"{"key":"k","shopper":"shopper-uuid-001"}"#),
    ("PUT", "recognition-tokens", r#"{"shopper":"shopper-uuid-001"}"#),
    ("POST", "identity-keys/<key>/revoke", ""),
    ("DELETE", "identity-keys/<key>", ""),
    ("DELETE", "recognition-tokens/<token>", ""),
    ("PUT", "customers", r#"{"issuer":"i","subject":"s","shopper":"shopper-uuid-001"}"#),
    ("DELETE", "customers/<customer>", ""),
];

#[apply(test)]
async fn changes_require_the_token() {
    let server = Server::demo(&[]).await;
    let digest = async |list: &str| server.all(list).await[0]["digest"].as_str().unwrap().to_owned();
    server.put("customers", &json!({ "issuer": "i", "subject": "t", "shopper": "shopper-uuid-001" })).await;
    let (key, token) = (digest("identity-keys").await, digest("recognition-tokens").await);
    let customer = digest("customers").await;
    let before = server.everything().await;
    let stranger = client_without_credentials();
    for (method, path, body) in CHANGES {
        let path = path.replace("<key>", &key).replace("<token>", &token).replace("<customer>", &customer);
        for authorization in ["", "Bearer ", "Bearer wrong-wrong-wrong-wrong"] {
            let url = format!("{}/admin/v1/{path}", server.management);
            let request = stranger.request(method.parse().unwrap(), url).header("authorization", authorization);
            let answer = Answer::read(request.body(body).send().await.unwrap()).await;
            assert_refused(&answer, 401, "Unauthorized", &path);
        }
    }
    assert_eq!(server.everything().await, before);
}

#[apply(test)]
async fn without_a_configured_token_metrics_are_open_and_administration_is_closed() {
    let server = Server::demo(&[("management.token", "")]).await;
    assert_eq!(ask(&server, "/metrics", None).await.status, 200);
    for (list, _) in LISTS {
        for authorization in [None, Some(""), Some("Bearer "), Some("Bearer the-management-token-of-tests")] {
            let answer = ask(&server, &format!("/admin/v1/{list}"), authorization).await;
            assert_refused(&answer, 401, "Unauthorized: management.token is not set", list);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(server.admin("POST", "shoppers/shopper-uuid-001/flag").await.status, 401);
    assert_eq!(server.verify(&scan()).await.status, 200, "no shopper was flagged");
}

#[apply(test)]
async fn in_flight_gauge_returns_to_zero() {
    let server = Server::demo(&[]).await;
    for body in [scan().to_string(), "{}".to_owned()] {
        server.post(body).await;
    }
    assert!(server.metrics().await.contains("connector_in_flight 0\n"));
}
