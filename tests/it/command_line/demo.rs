//! `demo` as a person runs it: how it stops, and what it prints with `--publish`.

use crate::trials::{apply, test};
use serde_json::json;

use crate::support::{Answer, MANAGEMENT_TOKEN, Process, client_without_credentials};

#[apply(test)]
async fn ctrl_c_and_a_closed_terminal_stop_the_demo() {
    for signal in ["INT", "HUP", "TERM"] {
        let demo = Process::demo(&[]).await;
        demo.signal(signal);
        let ended = demo.wait_for_end();
        assert_eq!(ended.code, Some(0), "SIG{signal}: {}", ended.stderr);
        assert!(ended.stderr.contains("\"stopped\""), "SIG{signal}: {}", ended.stderr);
    }
}

/// The value that the demo prints after this name.
fn printed_value(demo: &Process, name: &str) -> String {
    demo.wait_for_output(&format!("  {name} ")).split_whitespace().nth(name.split(' ').count()).unwrap().to_owned()
}

/// The token in the printed command that lists sessions.
fn printed_token(demo: &Process) -> String {
    let line = demo.wait_for_output("/admin/v1/sessions");
    let (_, rest) = line.split_once("Bearer ").unwrap();
    rest.split('\'').next().unwrap().to_owned()
}

/// The status of a request for an anonymous customer's token.
async fn anonymous_token_status(demo: &Process, key: &str) -> u16 {
    let url = format!("{}/commerceapi/authentication", demo.api);
    Answer::read(client_without_credentials().post(url).header("X-Auth-Key", key).send().await.unwrap()).await.status
}

/// The status of a request for the list of sessions.
async fn sessions_status(demo: &Process, token: &str) -> u16 {
    let url = format!("{}/admin/v1/sessions", demo.management);
    Answer::read(client_without_credentials().get(url).bearer_auth(token).send().await.unwrap()).await.status
}

#[apply(test)]
async fn published_demo_listens_off_loopback_with_random_keys() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let settings = [("server.bind", "0.0.0.0:0"), ("management.bind", "0.0.0.0:0"), ("management.token", "")];
        let mut demo = Process::start("demo --publish", &settings).await;
        for url in [&mut demo.api, &mut demo.management] {
            *url = url.replace("0.0.0.0", "127.0.0.1");
        }
        let page = printed_value(&demo, "Page");
        assert_eq!(printed_value(&demo, "API"), demo.api, "the printed URL can be used on this machine");
        let app_key = printed_value(&demo, "App key");
        let token = printed_token(&demo);
        assert_eq!(sessions_status(&demo, &token).await, 200);
        let (_, page_key) = page.split_once("/demo#key=").unwrap_or_else(|| panic!("{page}"));
        assert_eq!(anonymous_token_status(&demo, "demo-authorization-key").await, 401, "the key of a local demo");
        assert_eq!(anonymous_token_status(&demo, &app_key).await, 200);
        let sign_in = format!("{}/demo/sign-in", demo.api);
        let sign_in_request =
            || client_without_credentials().post(&sign_in).body(json!({ "shopper": "shopper-uuid-001" }).to_string());
        assert_eq!(sign_in_request().send().await.unwrap().status(), 401, "without the page's key");
        assert_eq!(sign_in_request().header("X-Demo-Key", page_key).send().await.unwrap().status(), 200);
        seen.extend([app_key, page_key.to_owned(), token]);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6, "each run has different keys");
}

#[apply(test)]
async fn the_management_token_is_printed_unless_it_is_configured() {
    let demo = Process::demo(&[("management.token", "")]).await;
    let line = demo.wait_for_output("/admin/v1/sessions");
    let (before, rest) = line.split_once(" 'Authorization: Bearer ").unwrap();
    let (token, url) = rest.split_once("' ").unwrap();
    assert_eq!((before.trim_start(), url), ("curl -H", format!("{}/admin/v1/sessions", demo.management).as_str()));
    assert_eq!((sessions_status(&demo, token).await, sessions_status(&demo, "another").await), (200, 401));
    assert_eq!(token.len(), 32, "{token}");
    let ended = demo.stop();
    assert!(!ended.stderr.contains(token), "{}", ended.stderr);
    let demo = Process::demo(&[]).await;
    assert_eq!(printed_token(&demo), "<management.token>", "a configured token is not printed");
    assert_eq!(sessions_status(&demo, "").await, 401);
    assert!(!demo.stop().stdout.contains(MANAGEMENT_TOKEN));
}
