//! Decides which requests the demo answers.
//!
//! Every web page that is open in the user's browser can send requests to a demo on loopback, so requests of other
//! pages are refused. A demo that is published off loopback also needs a key, since signing in takes no password.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::demo::page;
use crate::http::error::Refused;
use crate::loopback;

const KEY: &str = "x-demo-key";

/// Refuses requests from the scripts of other pages and, on loopback, requests with another host name.
pub(crate) async fn require_own_page(State(is_published): State<bool>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &str| origin.strip_prefix("http://") == Some(host);
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().is_ok_and(is_own));
    let is_from_here = !is_cross_site(headers) || is_link(&request);
    if (is_published || is_loopback(host)) && origin.unwrap_or(true) && is_from_here {
        next.run(request).await
    } else {
        let message = "The demo answers requests of its own page only";
        Refused::with_reason(StatusCode::FORBIDDEN, "not_from_here", message).into_response()
    }
}

/// Refuses requests without the key of a published demo.
pub(crate) async fn require_key(State(key): State<Option<SecretString>>, request: Request, next: Next) -> Response {
    if key.is_none_or(|key| is_given(&key, request.headers())) {
        next.run(request).await
    } else {
        let message = "This demo needs a key: open the link that it printed when it started";
        Refused::new(StatusCode::UNAUTHORIZED, message, "demo_key").into_response()
    }
}

/// Whether the request has the key. Compares in constant time.
fn is_given(key: &SecretString, headers: &HeaderMap) -> bool {
    let given = headers.get(KEY).map_or(&[][..], |value| value.as_bytes());
    given.ct_eq(key.expose_secret().as_bytes()).into()
}

/// Whether a host name is `localhost` or a loopback address. An attacker can make any other name resolve to this
/// machine (DNS rebinding).
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    loopback::is_loopback(name)
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// Whether the user follows a link to the page, for example from a README or a chat. The page is the same for every
/// user, and the site with the link cannot read it.
fn is_link(request: &Request) -> bool {
    let has = |name: &str, value: &str| request.headers().get(name).is_some_and(|given| given == value);
    let is_page = matches!(request.uri().path(), "/" | page::PAGE);
    is_page && has("sec-fetch-mode", "navigate") && has("sec-fetch-dest", "document")
}

#[cfg(test)]
mod tests {
    use crate::demo::guard::is_loopback;

    #[test]
    fn only_loopback_addresses_and_localhost_are_loopback() {
        for own in [
            "127.0.0.1:8080",
            "127.9.9.9",
            "localhost:8080",
            "LOCALHOST",
            "[::1]:8080",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "demo.example.com:8080",
            "127.0.0.1.example.com",
            "localhost.example.com:80",
            "192.0.2.1:8080",
            "[::ffff:192.0.2.1]",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
