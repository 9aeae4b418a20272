//! The bearer token. It gets the uniform 401, or a 200 only if it is signed with a right key, has not expired, and
//! names the right issuer and audience. The customer context in that 200 must then be accepted.
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
            // Header and claims, one line each, signed with the connector's or the provider's key: otherwise no
            // mutation would pass the signature check. `@` is replaced by the provider's address, which differs in each
            // run.
            Some((b'H', rest)) => ours(&lines(rest, connector)),
            Some((b'E', rest)) => {
                let [header, claims] = lines(rest, connector);
                connector.provider.token_of(&header, &claims).into_bytes()
            }
            _ => header_value(data),
        };
        // The head of a request has a limit. Tokens have a much lower one.
        if token.len() > 12 * 1024 {
            return;
        }
        let answer = connector.context_of(&token).await;
        match answer.status {
            200 => {
                assert!(is_valid(&token, connector), "{}", String::from_utf8_lossy(&token));
                let context =
                    answer.json()["customerContext"].as_str().expect("a 200 has a customerContext").to_owned();
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

/// Whether a token is valid, checked independently of the connector's code.
fn is_valid(token: &[u8], connector: &Connector) -> bool {
    let token = std::str::from_utf8(token).expect("an accepted token is ASCII");
    let [header, claims, signature] =
        token.split('.').collect::<Vec<_>>().try_into().expect("an accepted token has three parts");
    let [head, payload, signature] =
        [header, claims, signature].map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).expect("each part is Base64"));
    let message = format!("{header}.{claims}");
    let payload: Value = serde_json::from_slice(&payload).expect("the claims are JSON");
    // Unknown members may have any JSON value, including numbers that are out of range, so the values stay unparsed.
    let head = String::from_utf8(head).expect("the header is UTF-8");
    let head: BTreeMap<String, &RawValue> = serde_json::from_str(&head).expect("the header is a JSON object");
    let algorithm: String = serde_json::from_str(head["alg"].get()).expect("alg is a string");
    let is_for = |audience: &str| {
        payload["aud"] == audience || payload["aud"].as_array().is_some_and(|all| all.contains(&audience.into()))
    };
    let is_unexpired = payload["exp"].as_f64().is_some_and(|ends| ends > NOW as f64);
    let is_ours = algorithm == "HS256"
        && hmac::verify(&key(), message.as_bytes(), &signature).is_ok()
        && payload["iss"] == "JhooseCommerceApi"
        && payload["sub"] == "anonymous"
        && is_for("JhooseCommerceApi");
    let is_the_providers = algorithm == "EdDSA"
        && connector.provider.has_signed(message.as_bytes(), &signature)
        && connector.provider.is_named_by(&payload)
        && is_for(AUDIENCE);
    is_unexpired && (is_ours || is_the_providers)
}
