//! `commerce.bind`: the shopper's side on a port of its own; and what of it there is where it is not enabled.

use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpStream;

use crate::checks::assert_refused;
use crate::on_the_demo;
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, context, token};
use crate::support::trials::lone_properties;
use crate::support::{Answer, IDENTITY_KEYS, Server, scan, stranger};

pub(crate) fn trials() -> Vec<Trial> {
    let properties = lone_properties![
        without_one_it_shares_the_apis,
        with_one_it_has_no_more_than_its_own,
        with_one_it_has_connections_of_its_own,
        an_address_that_is_taken_is_named,
        where_it_is_not_enabled_there_is_none,
        it_is_never_on_the_management_port,
    ];
    on_the_demo(module_path!(), properties)
}

async fn ask(base: &str, path: &str) -> Answer {
    let post = path == TOKENS || path == IDENTITY_KEYS;
    let url = format!("{base}{path}");
    let request = if post { stranger().post(url).body(scan().to_string()) } else { stranger().get(url) };
    Answer::of(request.header("x-auth-key", AUTH_KEY).send().await.unwrap()).await
}

async fn without_one_it_shares_the_apis() {
    let server = Server::demo(&[]).await;
    assert_eq!(server.shoppers, server.api);
    assert_eq!(ask(&server.api, TOKENS).await.status, 200);
}

async fn with_one_it_has_no_more_than_its_own() {
    let server = Server::demo(&[("commerce.bind", "127.0.0.1:0")]).await;
    assert_ne!(server.shoppers, server.api);
    let token = token(&server, &json!({})).await;
    assert_eq!(context(&server, &token).await.status, 200);
    assert_refused(&ask(&server.shoppers, IDENTITY_KEYS).await, 404, "Not found", IDENTITY_KEYS);
    for path in ["/metrics", "/admin/v1/sessions"] {
        assert_refused(&ask(&server.shoppers, path).await, 404, "Not found", path);
    }
    for base in [&server.api, &server.shoppers] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(ask(base, path).await.status, 200, "{base}{path}");
        }
    }
    assert_eq!(ask(&server.api, IDENTITY_KEYS).await.status, 200);
}

async fn with_one_it_has_connections_of_its_own() {
    let server = Server::demo(&[("commerce.bind", "127.0.0.1:0"), ("commerce.max_connections", "1")]).await;
    let shoppers = server.shoppers.clone();
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(shoppers.trim_start_matches("http://")).await.unwrap());
    }
    for _ in 0..20 {
        assert_eq!(ask(&server.api, IDENTITY_KEYS).await.status, 200, "the gate");
    }
    assert_eq!(ask(&shoppers, TOKENS).await.status, 200, "who only waits makes room");
    let metrics = server.metrics().await;
    for (port, turned_out) in [("shoppers", 5), ("api", 0)] {
        let wanted = format!("connector_connections_turned_out_total{{port=\"{port}\"}} {turned_out}\n");
        assert!(metrics.contains(&wanted), "{wanted}{metrics}");
    }
}

async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Server::try_demo(&[("commerce.bind", &address)]).await.err().unwrap();
    assert!(error.contains(&format!("commerce.bind = {address}")), "{error}");
}

async fn where_it_is_not_enabled_there_is_none() {
    for settings in
        [&[("commerce.enabled", "false")][..], &[("commerce.enabled", "false"), ("commerce.bind", "127.0.0.1:0")]]
    {
        let server = Server::demo(settings).await;
        assert_eq!(server.shoppers, "");
        for path in [TOKENS, CONTEXTS] {
            assert_refused(&ask(&server.api, path).await, 404, "Not found", path);
        }
    }
}

async fn it_is_never_on_the_management_port() {
    let server = Server::demo(&[]).await;
    for path in [TOKENS, CONTEXTS] {
        assert_refused(&ask(&server.management, path).await, 404, "Not found", path);
    }
}
