//! The management port's guard: with a token set, metrics and administration ask for it, and the probes do not.

use serde_json::json;

use crate::support::{Answer, Server, scan, stranger};

const TOKEN: &str = "a-token-of-sixteen-or-more";

async fn ask(server: &Server, path: &str, authorization: Option<&str>) -> Answer {
    let request = stranger().get(format!("{}{path}", server.management));
    let request = match authorization {
        Some(value) => request.header("authorization", value),
        None => request,
    };
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token_set_nothing_is_told_without_it() {
    let server = Server::demo(&[("management.token", TOKEN)]).await;
    server.verify(&scan()).await;
    let right = format!("Bearer {TOKEN}");
    let wrong = [
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
    for path in ["/metrics", "/admin/v1/sessions"] {
        for authorization in &wrong {
            let answer = ask(&server, path, authorization.as_deref()).await;
            assert_eq!(answer.status, 401, "{path} {authorization:?}");
            assert_eq!(answer.json(), json!({ "message": "Unauthorized" }));
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
        for authorization in [&right, &right.replace("Bearer", "bearer")] {
            assert_eq!(ask(&server, path, Some(authorization)).await.status, 200, "{path} {authorization}");
        }
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(&server, path, None).await.status, 200, "{path} asks nobody");
    }
    assert_eq!(ask(&server, "/nowhere", None).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_counted_up_and_down() {
    let server = Server::demo(&[]).await;
    for body in [scan().to_string(), "{}".to_owned()] {
        server.post(body).await;
    }
    assert!(server.metrics().await.contains("connector_in_flight 0\n"));
}
