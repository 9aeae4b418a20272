//! The published client of this API reads the error from the status line, so the reason phrase is the message.

use crate::trials::{apply, test};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::Server;
use crate::support::carts::CARTS;
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, UNLIMITED, anonymous};

/// Sends a request with these header lines and returns the raw answer.
async fn answer(server: &Server, line: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: connector\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[apply(test)]
async fn reason_phrase_is_the_message() {
    let settings = [&UNLIMITED[..], &[("commerce.failures_per_minute", "1")]].concat();
    let server = Server::demo(&settings).await;
    let key = format!("x-auth-key: {AUTH_KEY}\r\n");
    let [post, get] = [format!("POST {TOKENS}"), format!("GET {CONTEXTS}")];
    for (line, headers, body, phrase) in [
        (&post, &*key, "[]", "400 the body: must be a JSON object, or absent"),
        (&post, &key, r#"{"anonymousId":"x"}"#, "400 anonymousId: must be a GUID or null"),
        (&get, "", "", "401 Unauthorized"),
        (&get, "authorization: Bearer x\r\n", "", "401 Unauthorized"),
        (&post, "", "", "401 Unauthorized"),
        (&post, "", "", "429 Too Many Requests"),
        (&format!("PUT {TOKENS}"), "", "", "405 Method not allowed"),
    ] {
        let answer = answer(&server, line, headers, body).await;
        let (status, rest) = answer.split_once("\r\n").unwrap();
        assert_eq!(status, format!("HTTP/1.1 {phrase}"), "{line}");
        let message = phrase.split_once(' ').unwrap().1;
        assert!(rest.ends_with(&format!("\r\n\r\n{{\"message\":\"{message}\"}}")), "{rest}");
    }
}

#[apply(test)]
async fn reason_phrase_never_contains_text_of_the_client() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let cart = shopper.open("Default", "US").await;
    let headers = format!("authorization: Bearer {}\r\nx-customer-context: {}\r\n", shopper.token, shopper.context);
    let long = "K".repeat(60_000);
    let deep = format!(r#"[{{"sku":"a","qty":{{"{long}":{}{}}}}}]"#, "[".repeat(200), "]".repeat(200));
    let lines = format!("POST {CARTS}{cart}/lines");
    for (line, body) in [
        (&lines, &*deep),
        (&lines, &*format!(r#"[{{"{long}":1}}]"#)),
        (&lines, "[5]"),
        (&format!("POST {CARTS}"), r#"{"market":"DE","currency":5}"#),
        (&format!("POST {CARTS}"), r#"{"market":5,"currency":"EUR"}"#),
    ] {
        let answer = answer(&server, line, &headers, body).await;
        let (status, rest) = answer.split_once("\r\n").unwrap();
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{}", &body[..body.len().min(80)]);
        let (_, message) = rest.split_once("\r\n\r\n").unwrap();
        assert!(message.len() < 300 && !message.contains("NewCurrency") && !message.contains("enum"), "{message}");
    }
}

#[apply(test)]
async fn success_and_gate_answers_have_the_standard_phrase() {
    let server = Server::demo(&[]).await;
    let key = format!("x-auth-key: {AUTH_KEY}\r\n");
    let good = answer(&server, &format!("POST {TOKENS}"), &key, "").await;
    assert!(good.starts_with("HTTP/1.1 200 OK\r\n"), "{good}");
    let gate = answer(&server, "POST /v1/identity/identity-keys", "", "{}").await;
    assert!(gate.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{gate}");
}
