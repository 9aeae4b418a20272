//! The bearer token. Whatever it is, it gets the one 401 that there is; a 200 only if it is signed under a right key, has not ended, and
//! says that it is for us. What is then given for it lets its holder in.
#![no_main]

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use identity_connector_fuzz::{AUDIENCE, Connector, NOW, SIGNING_KEY, base64url, header_value, with_connector};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    with_connector(async |connector| {
        let token = match data.split_first() {
            // Header and claims, a line each, signed by us or by the provider: else no mutation gets past the signature. The provider
            // has another address each time, which `@` stands for.
            Some((b'H', rest)) => ours(&lines(rest, connector)),
            Some((b'E', rest)) => {
                let [header, claims] = lines(rest, connector);
                connector.provider.token_of(&header, &claims).into_bytes()
            }
            _ => header_value(data),
        };
        // The head of a request has its limit; tokens have theirs well below it.
        if token.len() > 12 * 1024 {
            return;
        }
        let answer = connector.context_of(&token).await;
        match answer.status {
            200 => {
                assert!(holds(&token, connector), "{}", String::from_utf8_lossy(&token));
                let context = answer.json()["customerContext"].as_str().expect("a context").to_owned();
                assert_eq!(connector.carts(&token, context.as_bytes()).await.status, 200);
            }
            401 => assert_eq!(answer.message(), "Unauthorized"),
            status => panic!("{status} {}", answer.text()),
        }
    });
});

/// Header and claims.
fn lines(bytes: &[u8], connector: &Connector) -> [Vec<u8>; 2] {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    [lines.next(), lines.next()].map(|line| {
        let line = line.unwrap_or_default();
        line.iter()
            .flat_map(
                |byte| if *byte == b'@' { connector.provider.issuer().as_bytes() } else { std::slice::from_ref(byte) },
            )
            .copied()
            .collect()
    })
}

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, SIGNING_KEY)
}

fn ours([header, claims]: &[Vec<u8>; 2]) -> Vec<u8> {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signature = base64url(hmac::sign(&key(), message.as_bytes()));
    format!("{message}.{signature}").into_bytes()
}

/// What must be so of a token that is taken, seen without the code that takes it.
fn holds(token: &[u8], connector: &Connector) -> bool {
    let token = std::str::from_utf8(token).expect("a token in ASCII");
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let [head, said, signature] =
        [header, claims, signature].map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).expect("Base64"));
    let message = format!("{header}.{claims}");
    let said: Value = serde_json::from_slice(&said).expect("JSON");
    // What nobody asks for may be any JSON, numbers that no machine can hold included; but text it must be.
    let head = String::from_utf8(head).expect("a text");
    let head: BTreeMap<String, &RawValue> = serde_json::from_str(&head).expect("an object");
    let algorithm: String = serde_json::from_str(head["alg"].get()).expect("a text");
    let is_for = |audience: &str| {
        said["aud"] == audience || said["aud"].as_array().is_some_and(|all| all.contains(&audience.into()))
    };
    let lasts = said["exp"].as_f64().is_some_and(|ends| ends > NOW as f64);
    let is_ours = algorithm == "HS256"
        && hmac::verify(&key(), message.as_bytes(), &signature).is_ok()
        && said["iss"] == "JhooseCommerceApi"
        && said["sub"] == "anonymous"
        && is_for("JhooseCommerceApi");
    let is_the_providers = algorithm == "EdDSA"
        && connector.provider.has_signed(message.as_bytes(), &signature)
        && connector.provider.is_named_by(&said)
        && is_for(AUDIENCE);
    lasts && (is_ours || is_the_providers)
}
