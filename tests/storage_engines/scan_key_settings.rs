//! What is configured for the codes of apps: how many, for how long, whether they are signed and open once, and none at all.

use std::time::Duration;

use libtest_mimic::Trial;
use reqwest::Method;

use super::scan_key_codes::{CODES, SHOPPER, issue, shown};
use crate::checks::*;
use crate::engine::{Engine, on_every_engine, properties};
use crate::support::carts::signed_in;
use crate::support::shopper::UNLIMITED;

pub(crate) fn trials() -> Vec<Trial> {
    on_every_engine(
        module_path!(),
        properties![
            of_too_many_codes_the_oldest_go,
            a_token_ends_with_its_lifetime,
            a_signed_code_opens_once,
            without_a_prefix_there_are_none,
        ],
    )
}

async fn of_too_many_codes_the_oldest_go(engine: Engine) {
    let settings = [&UNLIMITED[..], &[("commerce.codes_per_shopper", "2")]].concat();
    let server = engine.demo(&settings).await;
    let app = signed_in(&server, SHOPPER).await;
    let others = issue(&signed_in(&server, "associate-uuid-001").await).await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        let code = issue(&app).await;
        assert_granted(&server.verify(&shown(&code)).await, SHOPPER, "SHOPPER", "it is new");
        codes.push(code);
        server.clock.advance(Duration::from_secs(1));
    }
    for (place, code) in codes.iter().enumerate() {
        let answer = server.verify(&shown(code)).await;
        assert_outcome(&answer, (place < 2).then_some(KEY_NOT_FOUND), &place.to_string());
    }
    assert_granted(&server.verify(&shown(&others)).await, "associate-uuid-001", "ASSOCIATE", "others have their own");
    assert_outcome(&server.verify(&scan_with("identityKey", base64(code(SCANNED_AT, "")))).await, None, "not issued");
}

async fn a_token_ends_with_its_lifetime(engine: Engine) {
    let settings = [&UNLIMITED[..], &[("commerce.code_lifetime", "3m")]].concat();
    let server = engine.demo(&settings).await;
    let code = issue(&signed_in(&server, SHOPPER).await).await;
    let entry = shown(&code);
    server.clock.advance(Duration::from_secs(179));
    assert_granted(&server.verify(&entry).await, SHOPPER, "SHOPPER", "a second before");
    server.clock.advance(Duration::from_secs(1));
    assert_refused(&server.verify(&shown(&code)).await, 401, KEY_NOT_FOUND, "at its end");
    assert_granted(&server.verify(&retry(&entry)).await, SHOPPER, "SHOPPER", "what was decided stands");
}

async fn a_signed_code_opens_once(engine: Engine) {
    let key = base64([1; 32]);
    let on = [("scan_key.signing_keys", key.as_str()), ("scan_key.single_use", "true")];
    let server = engine.demo(&[&UNLIMITED[..], &on].concat()).await;
    let app = signed_in(&server, SHOPPER).await;
    for _ in 0..3 {
        let code = issue(&app).await;
        let text = code["scanKeyCode"].as_str().unwrap();
        assert_eq!((text.len(), &text[..7]), (66, PREFIX), "with a signature of 17");
        let (first, second) = (shown(&code), shown(&code));
        assert_granted(&server.verify(&first).await, SHOPPER, "SHOPPER", "once");
        assert_refused(&server.verify(&second).await, 401, "Identity key already used", "not twice");
        assert_granted(&server.verify(&retry(&first)).await, SHOPPER, "SHOPPER", "a retry");
        let last = if text.ends_with('a') { 'b' } else { 'a' };
        let forged = base64(format!("{}{last}", &text[..65]));
        assert_refused(&server.verify(&set(shown(&code), "identityKey", forged)).await, 401, INVALID_KEY, "forged");
        let unsigned = base64(&text[..49]);
        assert_refused(&server.verify(&set(shown(&code), "identityKey", unsigned)).await, 401, INVALID_KEY, "unsigned");
    }
}

async fn without_a_prefix_there_are_none(engine: Engine) {
    let server = engine.demo(&[&UNLIMITED[..], &[("scan_key.customer_prefix", "")]].concat()).await;
    let app = signed_in(&server, SHOPPER).await;
    for path in [CODES, "/v1/scan-key-codes/"] {
        assert_refused(&app.request(Method::POST, path, None).await, 404, "Not found", path);
    }
    app.add("a", 1).await;
}
