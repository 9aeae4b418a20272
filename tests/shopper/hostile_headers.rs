//! Tokens whose header says what a provider never said, and tokens that are written in another way.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::against_a_provider;
use crate::support::Server;
use crate::support::keys::{Key, base64url, rsa, signed, token_under};
use crate::support::provider::Provider;
use crate::support::shopper::{assert_token_refused, assert_unauthorized, context, with_token};
use crate::support::trials::lone_properties;

pub(crate) fn trials() -> Vec<Trial> {
    let properties = lone_properties![
        a_good_token_passes_with_each_algorithm_that_is_allowed,
        an_unsigned_token_is_refused,
        a_public_key_is_no_secret,
        an_algorithm_that_is_not_the_issuers_is_refused,
        a_header_that_brings_keys_or_changes_the_meaning_is_refused,
        a_token_of_another_kind_is_refused,
        a_header_that_is_none_is_refused,
        a_token_has_three_parts_and_no_more_than_8_kib,
        a_token_is_written_in_one_way_alone,
        no_bit_of_it_may_change,
    ];
    against_a_provider(module_path!(), properties)
}

/// A provider with [`rsa`], a connector that trusts it, and what a good token says.
async fn trusted() -> (Provider, Server, Value) {
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(&[]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200, "a good one passes");
    (provider, server, claims)
}

/// The header of a good token with this changed.
fn header_with(changes: Value) -> Value {
    let mut header = rsa().header();
    let Value::Object(changes) = changes else { panic!("{changes}") };
    header.as_object_mut().unwrap().extend(changes);
    header
}

async fn a_good_token_passes_with_each_algorithm_that_is_allowed() {
    let [ec, ed] = [Key::ec("ec"), Key::ed("ed")];
    let keys = [rsa(), &ec, &ed];
    let provider = Provider::start(&keys).await;
    let all = provider.connector(&[("commerce.identity_providers.test.algorithms", "RS256, ES256,EdDSA")]).await;
    let claims = provider.claims(all.clock.now());
    for key in keys {
        let shopper = with_token(&all, &key.token(&claims)).await;
        assert_eq!(shopper.anonymous_id, None, "a known customer");
    }
    for only in keys {
        let name = only.algorithm();
        let server = provider.connector(&[("commerce.identity_providers.test.algorithms", name)]).await;
        let claims = provider.claims(server.clock.now());
        for key in keys {
            let token = key.token(&claims);
            if key.id == only.id {
                assert_eq!(context(&server, &token).await.status, 200, "{name}");
            } else {
                assert_token_refused(&server, &token, "algorithm_not_allowed", name).await;
            }
        }
    }
}

async fn an_unsigned_token_is_refused() {
    let (_provider, server, claims) = trusted().await;
    for alg in ["none", "None", "NONE", "nOnE", "", " RS256", "RS256 ", "rs256", "RS256\u{0}"] {
        let header = header_with(json!({ "alg": alg }));
        for token in
            [signed(&header.to_string(), &claims.to_string(), |_| Vec::new()), rsa().token_with(&header, &claims)]
        {
            assert_token_refused(&server, &token, "algorithm_not_allowed", alg).await;
        }
    }
    let stripped = signed(&rsa().header().to_string(), &claims.to_string(), |_| Vec::new());
    assert_token_refused(&server, &stripped, "wrong_signature", "RS256 without a signature").await;
}

async fn a_public_key_is_no_secret() {
    let (_provider, server, claims) = trusted().await;
    let (modulus, exponent) = rsa().rsa_parts();
    let pem = rsa().pem();
    let texts = [pem.clone(), pem.trim_end().to_owned(), base64url(&modulus), rsa().jwk().to_string()];
    let secrets = texts.map(String::into_bytes).into_iter().chain([rsa().der(), modulus, exponent, Vec::new()]);
    for secret in secrets {
        for alg in ["HS256", "HS384", "HS512"] {
            let token = token_under(&secret, &header_with(json!({ "alg": alg })), &claims);
            assert_token_refused(&server, &token, "algorithm_not_allowed", alg).await;
        }
        let token = token_under(&secret, &rsa().header(), &claims);
        assert_token_refused(&server, &token, "wrong_signature", "as if it were RS256").await;
    }
}

async fn an_algorithm_that_is_not_the_issuers_is_refused() {
    let (_provider, server, claims) = trusted().await;
    for alg in ["RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "HS256", "ES256K", "RSA1_5", "dir"] {
        let token = rsa().token_with(&header_with(json!({ "alg": alg })), &claims);
        assert_token_refused(&server, &token, "algorithm_not_allowed", alg).await;
    }
}

async fn a_header_that_brings_keys_or_changes_the_meaning_is_refused() {
    let (provider, server, claims) = trusted().await;
    let other = Key::rsa("rsa");
    let keys_at = provider.url("/keys");
    for (name, value) in [
        ("jku", json!(keys_at)),
        ("jku", json!("https://evil.example/keys")),
        ("jwk", other.jwk()),
        ("jwk", json!({})),
        ("x5u", json!(keys_at)),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
    ] {
        for value in [value, Value::Null] {
            let header = header_with(json!({ name: value }));
            for key in [rsa(), &other] {
                let token = key.token_with(&header, &claims);
                assert_token_refused(&server, &token, "token_header_not_allowed", &header.to_string()).await;
            }
        }
    }
    assert_eq!(provider.fetches(), 1, "nothing was fetched for any of them");
    // What is not understood and demands nothing is ignored (RFC 7515, section 4).
    let harmless = header_with(json!({ "x5t": "x", "cty": "x", "unknown": { "deep": [1] } }));
    assert_eq!(context(&server, &rsa().token_with(&harmless, &claims)).await.status, 200);
}

async fn a_token_of_another_kind_is_refused() {
    let (_provider, server, claims) = trusted().await;
    for kind in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        let token = rsa().token_with(&header_with(json!({ "typ": kind })), &claims);
        assert_eq!(context(&server, &token).await.status, 200, "{kind}");
    }
    let mut without = rsa().header();
    without.as_object_mut().unwrap().remove("typ");
    assert_eq!(context(&server, &rsa().token_with(&without, &claims)).await.status, 200, "no kind at all");
    for kind in
        ["logout+jwt", "dpop+jwt", "secevent+jwt", "application/logout+jwt", "JWE", "JOSE", "", "jwt ", "at+jwt;x"]
    {
        let token = rsa().token_with(&header_with(json!({ "typ": kind })), &claims);
        assert_token_refused(&server, &token, "wrong_token_type", kind).await;
    }
}

async fn a_header_that_is_none_is_refused() {
    let (_provider, server, claims) = trusted().await;
    let deep = format!(r#"{{"alg":{}{}}}"#, "[".repeat(1500), "]".repeat(1500));
    for header in [
        "",
        "null",
        "[]",
        "\"RS256\"",
        "{",
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["RS256"]}"#,
        r#"{"alg":"RS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"RS256"}"#,
        r#"{"alg":"RS256","kid":5}"#,
        r#"{"alg":"RS256","typ":["JWT"]}"#,
        r#"{"alg":"RS256"}{}"#,
        &deep,
    ] {
        let token = rsa().token_of(header, &claims.to_string());
        assert_token_refused(&server, &token, "malformed_token", header).await;
    }
}

async fn a_token_has_three_parts_and_no_more_than_8_kib() {
    let (_provider, server, mut claims) = trusted().await;
    let token = rsa().token(&claims);
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    for malformed in [
        "x".to_owned(),
        "..".to_owned(),
        "....".to_owned(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{token}.{signature}"),
        format!("{token}.."),
        format!(".{token}"),
        format!("{header}.{payload}.{payload}.{payload}.{signature}"),
    ] {
        assert_token_refused(&server, &malformed, "malformed_token", &malformed).await;
    }
    // To the byte.
    claims["padding"] = "".into();
    let longest = loop {
        let length = claims["padding"].as_str().unwrap().len();
        let token = rsa().token(&claims);
        if token.len() >= 8 * 1024 {
            break token;
        }
        claims["padding"] = "x".repeat(length + ((8 * 1024 - token.len()) * 3 / 4).max(1)).into();
    };
    assert_eq!(longest.len(), 8 * 1024);
    assert_eq!(context(&server, &longest).await.status, 200, "8 KiB");
    assert_token_refused(&server, &format!("{longest}A"), "token_too_long", "a byte more").await;
    let huge = context(&server, &"A".repeat(1024 * 1024)).await;
    assert_eq!(huge.status, 431, "beyond what HTTP takes");
}

async fn a_token_is_written_in_one_way_alone() {
    let (_provider, server, claims) = trusted().await;
    let token = rsa().token(&claims);
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let bytes = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    // 256 bytes of signature end in a character that has four bits to spare.
    let spare = |part: &str| {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (rest, last) = part.split_at(part.len() - 1);
        let place = alphabet.find(last).unwrap();
        format!("{rest}{}", &alphabet[place + 1..place + 2])
    };
    for (again, what) in [
        (format!("{header}.{payload}.{signature}=="), "a padded signature"),
        (format!("{header}.{payload}.{}", BASE64_URL_SAFE.encode(bytes(signature))), "a padded signature"),
        (format!("{header}.{payload}.{}", spare(signature)), "trailing bits"),
        (format!("{header}.{payload}.{signature}A"), "a character more"),
        (format!("{header}.{payload}.{}", &signature[..signature.len() - 1]), "a character less"),
        (format!("{header}.{payload}.{}", BASE64_STANDARD.encode(bytes(signature))), "the other alphabet"),
    ] {
        assert_token_refused(&server, &again, "wrong_signature", what).await;
    }
    // As one would sign it oneself, but in Base64 of another form.
    for (header, payload) in [
        (format!("{header}="), payload.to_owned()),
        (header.to_owned(), format!("{payload}=")),
        (BASE64_STANDARD.encode(format!("{}  ", rsa().header())), payload.to_owned()),
        (header.to_owned(), format!("{payload}\u{2c}")),
    ] {
        let message = format!("{header}.{payload}");
        let token = format!("{message}.{}", base64url(rsa().sign(message.as_bytes())));
        if !header.contains(['=', '+', '/']) && !payload.contains(['=', ',']) {
            continue; // the alphabets do not differ here
        }
        assert_token_refused(&server, &token, "malformed_token", &message).await;
    }
}

async fn no_bit_of_it_may_change() {
    let ec = Key::ec("ec");
    let provider = Provider::start(&[&ec]).await;
    let server = provider.connector(&[("commerce.identity_providers.test.algorithms", "ES256")]).await;
    let token = ec.token(&provider.claims(server.clock.now()));
    assert_eq!(context(&server, &token).await.status, 200);
    let parts: Vec<Vec<u8>> = token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    for (place, part) in parts.iter().enumerate() {
        for bit in 0..part.len() * 8 {
            let mut flipped = parts.clone();
            flipped[place][bit / 8] ^= 1 << (bit % 8);
            let flipped: Vec<String> = flipped.iter().map(base64url).collect();
            let answer = context(&server, &flipped.join(".")).await;
            assert_unauthorized(&answer, &format!("bit {bit} of part {place}"));
        }
    }
}
