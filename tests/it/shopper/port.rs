//! `commerce.bind`: the shopper endpoints on their own port, on the API's port, or disabled.

use crate::trials::{apply, test};
use serde_json::json;
use tokio::net::TcpStream;

use crate::checks::{assert_refused, metric};
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, context, send, token};
use crate::support::{Answer, IDENTITY_KEYS, Server, client_without_credentials, scan};

const OWN_PORT: (&str, &str) = ("commerce.bind", "127.0.0.1:0");
const DISABLED: (&str, &str) = ("commerce.enabled", "false");

async fn ask(base: &str, path: &str) -> Answer {
    let url = format!("{base}{path}");
    let request = match path {
        TOKENS | IDENTITY_KEYS => client_without_credentials().post(url).body(scan().to_string()),
        _ => client_without_credentials().get(url),
    };
    send(request.header("x-auth-key", AUTH_KEY)).await
}

#[apply(test)]
async fn shopper_endpoints_share_the_api_port_by_default() {
    let server = Server::demo(&[]).await;
    assert_eq!(server.shoppers, server.api);
    assert_eq!(ask(&server.api, TOKENS).await.status, 200);
    for path in [TOKENS, CONTEXTS] {
        assert_refused(&ask(&server.management, path).await, 404, "Not found", path);
    }
}

#[apply(test)]
async fn own_port_serves_only_shopper_endpoints() {
    let server = Server::demo(&[OWN_PORT]).await;
    assert_ne!(server.shoppers, server.api);
    let token = token(&server, &json!({})).await;
    assert_eq!(context(&server, &token).await.status, 200);
    for path in [IDENTITY_KEYS, "/metrics", "/admin/v1/sessions"] {
        assert_refused(&ask(&server.shoppers, path).await, 404, "Not found", path);
    }
    for base in [&server.api, &server.shoppers] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(ask(base, path).await.status, 200, "{base}{path}");
        }
    }
    assert_eq!(ask(&server.api, IDENTITY_KEYS).await.status, 200);
}

#[apply(test)]
async fn own_port_has_its_own_connection_limit() {
    let server = Server::demo(&[OWN_PORT, ("commerce.max_connections", "1")]).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(server.shoppers.trim_start_matches("http://")).await.unwrap());
    }
    for _ in 0..20 {
        assert_eq!(ask(&server.api, IDENTITY_KEYS).await.status, 200, "the gate");
    }
    assert_eq!(ask(&server.shoppers, TOKENS).await.status, 200, "an idle connection is evicted");
    for (port, evicted) in [("shoppers", 5), ("api", 0)] {
        let name = format!("connector_connections_turned_out_total{{port=\"{port}\"}}");
        assert_eq!(metric(&server, &name).await, evicted, "{port}");
    }
}

#[apply(test)]
async fn address_in_use_is_named_in_the_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Server::try_demo(&[("commerce.bind", &address)]).await.err().unwrap();
    assert!(error.contains(&format!("commerce.bind = {address}")), "{error}");
}

#[apply(test)]
async fn disabled_endpoints_are_not_served() {
    for settings in [&[DISABLED][..], &[DISABLED, OWN_PORT]] {
        let server = Server::demo(settings).await;
        assert_eq!(server.shoppers, "");
        for path in [TOKENS, CONTEXTS] {
            assert_refused(&ask(&server.api, path).await, 404, "Not found", path);
        }
    }
}
