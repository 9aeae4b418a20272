//! The address of a caller behind a proxy: `X-Forwarded-For` is used only from a trusted peer, and is read from the
//! right, because the caller can write anything further left.

use crate::trials::{apply, test};
use reqwest::Client;
use serde_json::json;

use crate::support::{IDENTITY_KEYS, Server, scan};

/// Far more requests than one allowance and its refill during a test.
const MANY: usize = 30;

struct Caller {
    client: Client,
    url: String,
    server: Server,
}

impl Caller {
    async fn new(trusted_proxies: Option<&str>) -> Self {
        let mut settings = vec![("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "5")];
        settings.extend(trusted_proxies.map(|proxies| ("server.trusted_proxies", proxies)));
        let server = Server::demo(&settings).await;
        Self { client: crate::support::client(), url: format!("{}{IDENTITY_KEYS}", server.api), server }
    }

    /// Sends one request with these `X-Forwarded-For` lines, and returns its status.
    async fn ask(&self, lines: &[&str]) -> u16 {
        let request = self.client.post(&self.url).body(scan().to_string());
        let request = lines.iter().fold(request, |request, line| request.header("x-forwarded-for", *line));
        request.send().await.unwrap().status().as_u16()
    }

    /// Whether the caller of these lines has used up its allowance, apart from what was refilled since.
    async fn is_exhausted(&self, lines: &[&str]) -> bool {
        for _ in 0..4 {
            if self.ask(lines).await == 429 {
                return true;
            }
        }
        false
    }

    /// Whether requests with these lines share one allowance: one of `MANY` requests is refused.
    async fn share_one_allowance(&self, lines: impl Fn(usize) -> Vec<String>) -> bool {
        for number in 0..MANY {
            let lines = lines(number);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            if self.ask(&lines).await == 429 {
                return true;
            }
        }
        false
    }
}

#[apply(test)]
async fn without_trusted_proxies_the_header_is_ignored() {
    for trusted in [None, Some("10.0.0.1")] {
        let caller = Caller::new(trusted).await;
        assert!(caller.share_one_allowance(|number| vec![format!("192.0.2.{number}")]).await, "{trusted:?}");
        assert!(caller.is_exhausted(&[]).await, "{trusted:?}");
    }
}

#[apply(test)]
async fn callers_behind_a_trusted_proxy_have_separate_allowances() {
    // An IPv6 socket shows the address of the proxy as an IPv4-mapped address.
    for proxy in ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104"] {
        let caller = Caller::new(Some(proxy)).await;
        assert!(!caller.share_one_allowance(|number| vec![format!("203.0.113.{number}")]).await, "{proxy}");
    }
    let caller = Caller::new(Some("127.0.0.1")).await;
    assert!(caller.share_one_allowance(|_| vec!["192.0.2.1".to_owned()]).await);
    for other in ["192.0.2.2", "198.51.100.1", "2001:db8::1"] {
        assert_eq!(caller.ask(&[other]).await, 200, "{other}");
    }
    assert!(
        !caller.share_one_allowance(|number| vec![format!("203.0.113.{number}")]).await,
        "each has its own allowance"
    );
}

#[apply(test)]
async fn entries_left_of_the_callers_address_are_ignored() {
    let caller = Caller::new(Some("127.0.0.1")).await;
    let spoofed = |number: usize| vec![format!("203.0.113.{number}, 198.51.100.{number},192.0.2.1")];
    assert!(caller.share_one_allowance(spoofed).await);
    assert!(caller.is_exhausted(&["192.0.2.1"]).await, "the same caller");
    assert_eq!(caller.ask(&["192.0.2.1, 192.0.2.2"]).await, 200, "another caller, which names the first");
}

#[apply(test)]
async fn trusted_proxies_in_the_header_are_skipped() {
    let caller = Caller::new(Some("127.0.0.1")).await;
    assert!(caller.share_one_allowance(|_| vec!["192.0.2.1, 127.0.0.1".to_owned()]).await);
    assert!(caller.is_exhausted(&["192.0.2.1"]).await, "the same caller");
    assert_eq!(caller.ask(&["192.0.2.1, 192.0.2.2, 127.0.0.1"]).await, 200, "another caller");
}

#[apply(test)]
async fn several_header_lines_form_one_list() {
    let caller = Caller::new(Some("127.0.0.1")).await;
    let spoofed = |number: usize| vec![format!("203.0.113.{number}"), format!("198.51.100.{number}, 192.0.2.1")];
    assert!(caller.share_one_allowance(spoofed).await);
    assert!(caller.is_exhausted(&["203.0.113.250", "192.0.2.1"]).await, "the last line names the same caller");
    assert_eq!(caller.ask(&["192.0.2.1", "192.0.2.2"]).await, 200, "the last line names another caller");
}

#[apply(test)]
async fn malformed_entry_gives_no_new_allowance() {
    for malformed in ["garbage", "999.999.999.999", "1.2.3", "192.0.2.1;", "_hidden", "\"", "192.0.2.0/24"] {
        let caller = Caller::new(Some("127.0.0.1")).await;
        let spoofed = |number: usize| vec![format!("203.0.113.{number}, {malformed}")];
        assert!(caller.share_one_allowance(spoofed).await, "{malformed}");
    }
    let caller = Caller::new(Some("127.0.0.1")).await;
    assert!(caller.share_one_allowance(|number| vec![format!("garbage-{number}")]).await);
}

#[apply(test)]
async fn malformed_header_gives_no_500() {
    let caller = Caller::new(Some("127.0.0.1")).await;
    let long = "1,".repeat(2_000);
    for header in ["", ",", " , ,, ", "::", "[::1]:80", "1.2.3.4:80", "\u{ff}", "fe80::1%eth0", &long] {
        let status = caller.ask(&[header]).await;
        assert!([200, 429].contains(&status), "{header:?}: {status}");
    }
    let answer = caller.server.verify(&json!({})).await;
    assert!([400, 429].contains(&answer.status), "{}", answer.status);
}

#[apply(test)]
async fn proxy_without_the_header_is_a_caller_itself() {
    let caller = Caller::new(Some("127.0.0.1")).await;
    assert!(caller.share_one_allowance(|_| Vec::new()).await);
    assert_eq!(caller.ask(&["192.0.2.1"]).await, 200, "other callers are accepted");
}
