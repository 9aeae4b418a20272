//! Settings of the codes for apps: their number, lifetime, signature and single use, and turning them off.

use crate::trials::{apply, on_every_engine};
use std::time::Duration;

use reqwest::Method;

use crate::checks::*;
use crate::engine::Engine;
use crate::shopper::scan_key_codes::{CODES, SHOPPER, issue, scan_of_code};
use crate::support::carts::signed_in;
use crate::support::shopper::UNLIMITED;

#[apply(on_every_engine)]
async fn oldest_codes_are_removed_at_the_limit(engine: Engine) {
    let settings = [&UNLIMITED[..], &[("commerce.codes_per_shopper", "2")]].concat();
    let server = engine.demo(&settings).await;
    let app = signed_in(&server, SHOPPER).await;
    let others = issue(&signed_in(&server, "associate-uuid-001").await).await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        let code = issue(&app).await;
        assert_granted(&server.verify(&scan_of_code(&code)).await, SHOPPER, "SHOPPER", "a new code");
        codes.push(code);
        server.clock.advance(Duration::from_secs(1));
    }
    for (index, code) in codes.iter().enumerate() {
        let answer = server.verify(&scan_of_code(code)).await;
        assert_outcome(&answer, (index < 2).then_some(KEY_NOT_FOUND), &index.to_string());
    }
    assert_granted(
        &server.verify(&scan_of_code(&others)).await,
        "associate-uuid-001",
        "ASSOCIATE",
        "each shopper has a separate limit",
    );
    assert_outcome(
        &server.verify(&scan_with("identityKey", base64(code(SCANNED_AT, "")))).await,
        None,
        "a token that was not issued",
    );
}

#[apply(on_every_engine)]
async fn token_expires_after_its_lifetime(engine: Engine) {
    let settings = [&UNLIMITED[..], &[("commerce.code_lifetime", "3m")]].concat();
    let server = engine.demo(&settings).await;
    let code = issue(&signed_in(&server, SHOPPER).await).await;
    let entry = scan_of_code(&code);
    server.clock.advance(Duration::from_secs(179));
    assert_granted(&server.verify(&entry).await, SHOPPER, "SHOPPER", "one second before its end");
    server.clock.advance(Duration::from_secs(1));
    assert_refused(&server.verify(&scan_of_code(&code)).await, 401, KEY_NOT_FOUND, "at the end of its lifetime");
    assert_granted(&server.verify(&retry(&entry)).await, SHOPPER, "SHOPPER", "the recorded decision is repeated");
}

#[apply(on_every_engine)]
async fn signed_code_opens_once(engine: Engine) {
    let key = base64([1; 32]);
    let on = [("scan_key.signing_keys", key.as_str()), ("scan_key.single_use", "true")];
    let server = engine.demo(&[&UNLIMITED[..], &on].concat()).await;
    let app = signed_in(&server, SHOPPER).await;
    for _ in 0..3 {
        let code = issue(&app).await;
        let text = code["scanKeyCode"].as_str().unwrap();
        assert_eq!((text.len(), &text[..7]), (66, PREFIX), "with a signature of 17 characters");
        let (first, second) = (scan_of_code(&code), scan_of_code(&code));
        assert_granted(&server.verify(&first).await, SHOPPER, "SHOPPER", "the first use");
        assert_refused(&server.verify(&second).await, 401, "Identity key already used", "the second use");
        assert_granted(&server.verify(&retry(&first)).await, SHOPPER, "SHOPPER", "a retry of the first use");
        let last = if text.ends_with('a') { 'b' } else { 'a' };
        let forged = base64(format!("{}{last}", &text[..65]));
        assert_refused(
            &server.verify(&set(scan_of_code(&code), "identityKey", forged)).await,
            401,
            INVALID_KEY,
            "forged",
        );
        let unsigned = base64(&text[..49]);
        assert_refused(
            &server.verify(&set(scan_of_code(&code), "identityKey", unsigned)).await,
            401,
            INVALID_KEY,
            "unsigned",
        );
    }
}

#[apply(on_every_engine)]
async fn no_codes_are_issued_without_a_prefix(engine: Engine) {
    let server = engine.demo(&[&UNLIMITED[..], &[("scan_key.customer_prefix", "")]].concat()).await;
    let app = signed_in(&server, SHOPPER).await;
    for path in [CODES, "/v1/scan-key-codes/"] {
        assert_refused(&app.request(Method::POST, path, None).await, 404, "Not found", path);
    }
    app.add("a", 1).await;
}
