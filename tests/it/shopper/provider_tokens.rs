//! Tokens of a provider: which are accepted, and for which reason each other token is refused.

use crate::trials::{apply, test};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use chrono::DateTime;
use serde_json::{Value, json};

use crate::checks::{set, unset};
use crate::shopper::tokens::{KEY, KEY_BASE64};
use crate::support::keys::{Key, base64url, rsa, signed, token_under};
use crate::support::provider::{AUDIENCE, Provider};
use crate::support::shopper::{ACCEPTED, assert_table, assert_tokens, claims, context, token};

const ALGORITHMS: &str = "commerce.identity_providers.test.algorithms";

#[apply(test)]
async fn header_is_checked_before_the_signature() {
    let (provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    let token = |signer: Option<&Key>, name: &str, value: &Value| {
        let header = set(rsa().header(), name, value.clone()).to_string();
        signed(header, claims.to_string(), |message| signer.map_or_else(Vec::new, |key| key.sign(message)))
    };
    let accepted = json!({ ACCEPTED: {
        "typ": ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"],
        // Unknown members that are not critical are ignored (RFC 7515, section 4).
        "x5t": ["x"], "cty": ["x"], "unknown": [{ "deep": [1] }],
    } });
    assert_table(&server, &accepted, |name, value| token(Some(rsa()), name, value)).await;
    let no_type = rsa().token_with(&unset(rsa().header(), "typ"), &claims);
    assert_tokens(&server, [("no type", no_type, ACCEPTED)]).await;

    let other_key = Key::rsa("rsa");
    let keys_at = provider.url("/keys");
    let refused = json!({
        "algorithm_not_allowed": { "alg": [
            "none", "None", "NONE", "nOnE", "", " RS256", "RS256 ", "rs256", "RS256\u{0}", "RS384", "RS512", "PS256",
            "ES256", "ES384", "EdDSA", "HS256", "ES256K", "RSA1_5", "dir",
        ] },
        "token_header_not_allowed": {
            "jku": [keys_at, "https://evil.example/keys", null],
            "jwk": [other_key.jwk(), {}, null],
            "x5u": [keys_at, null],
            "x5c": [["AAAA"], null],
            "crit": [["exp"], [], null],
            "b64": [false, true, null],
            "zip": ["DEF", null],
        },
        "wrong_token_type": { "typ": [
            "logout+jwt", "dpop+jwt", "secevent+jwt", "application/logout+jwt", "JWE", "JOSE", "", "jwt ", "at+jwt;x",
        ] },
    });
    for signer in [Some(rsa()), Some(&other_key), None] {
        assert_table(&server, &refused, |name, value| token(signer, name, value)).await;
    }
    assert_eq!(provider.fetches(), 1, "no token caused a fetch");
}

#[apply(test)]
async fn only_allowed_algorithms_are_accepted() {
    let [ec, ed] = [Key::ec("ec"), Key::ed("ed")];
    let keys = [rsa(), &ec, &ed];
    let provider = Provider::start(&keys).await;
    for allowed in ["RS256, ES256,EdDSA", "RS256", "ES256", "EdDSA"] {
        let server = provider.connector(&[(ALGORITHMS, allowed)]).await;
        let claims = provider.claims(server.clock.now());
        let rows = keys.map(|key| {
            let is_allowed = allowed.contains(key.algorithm());
            let expected = if is_allowed { ACCEPTED } else { "algorithm_not_allowed" };
            (format!("{} with {allowed}", key.id), key.token(&claims), expected)
        });
        assert_tokens(&server, rows).await;
    }
}

#[apply(test)]
async fn forged_token_is_refused() {
    let (provider, server, theirs) = Provider::trusted(&[rsa()], &[("commerce.signing_keys", KEY_BASE64)]).await;
    let ours = claims(&token(&server, &json!({})).await);
    let renamed = set(set(ours.clone(), "iss", provider.issuer()), "aud", AUDIENCE);
    let [rs256, hs256] = ["RS256", "HS256"].map(|alg| json!({ "alg": alg, "typ": "JWT", "kid": "rsa" }));
    let unsigned = signed(rs256.to_string(), theirs.to_string(), |_| Vec::new());
    let mut rows = vec![
        ("no signature", unsigned, "wrong_signature"),
        ("another key with the same id", Key::rsa("rsa").token(&theirs), "wrong_signature"),
        ("our claims under the provider's key", rsa().token(&ours), "algorithm_not_allowed"),
        ("the same as a plain JWT", rsa().token_with(&rs256, &ours), "algorithm_not_allowed"),
        ("the same with our algorithm", rsa().token_with(&hs256, &ours), "wrong_signature"),
        ("the provider's claims under our key", token_under(KEY, &hs256, &theirs), "algorithm_not_allowed"),
        ("our claims under our key, renamed", token_under(KEY, &hs256, &renamed), "algorithm_not_allowed"),
    ];
    let (modulus, exponent) = rsa().rsa_parts();
    let texts = [rsa().pem(), rsa().pem().trim_end().to_owned(), base64url(&modulus), rsa().jwk().to_string()];
    for secret in texts.map(String::into_bytes).into_iter().chain([rsa().der(), modulus, exponent, Vec::new()]) {
        for alg in ["HS256", "HS384", "HS512"] {
            let token = token_under(&secret, &set(rsa().header(), "alg", alg), &theirs);
            rows.push(("the public key as a secret", token, "algorithm_not_allowed"));
        }
        let token = token_under(&secret, &rsa().header(), &theirs);
        rows.push(("the public key as a secret, as if it were RS256", token, "wrong_signature"));
    }
    assert_tokens(&server, rows).await;
}

#[apply(test)]
async fn claims_are_checked() {
    let audiences = [("commerce.identity_providers.test.audience", "shop, app")];
    let (provider, server, _) = Provider::trusted(&[rsa()], &audiences).await;
    // Start at a whole second, so that a minute is exact.
    let since = server.clock.now().timestamp_subsec_nanos();
    server.clock.advance(Duration::from_nanos(u64::from(1_000_000_000 - since)));
    let (issuer, claims, now) =
        (provider.issuer(), provider.claims(server.clock.now()), server.clock.now().timestamp());
    let started = json!([now, now + 60, 0, -5, now as f64 - 0.5]);
    let future = json!([now + 61, now + 3600, 4_102_444_800_u64]);
    let no_time = json!([now.to_string(), false, [now], 1e300, u64::MAX, null]);
    let table = json!({
        ACCEPTED: {
            "aud": ["shop", "app", ["shop"], ["other", "app"], [5, "shop"]],
            "sub": ["x", "x".repeat(255), "ß".repeat(255), "a b\n\u{1F600}", "'; --"],
            "exp": [now + 1, now as f64 + 1.5, 4_102_444_800_u64],
            "nbf": started,
            "iat": started,
        },
        "unknown_issuer": { "iss": [
            format!("{issuer}/"), issuer.to_uppercase(), issuer.replace("http:", "https:"),
            issuer.replace("127.0.0.1", "localhost"), format!(" {issuer}"), "", "https://evil.example", [issuer], 5, null,
        ] },
        "wrong_audience": { "aud": [
            "other", "Shop", "shop ", "shop, app", "shop app", "JhooseCommerceApi", "", [], ["other"], [["shop"]],
            { "shop": true }, true, null,
        ] },
        "sender_constrained_token": { "cnf": [{ "jkt": "x" }, { "x5t#S256": "x" }, {}, null] },
        "no_customer": { "sub": [
            "", "x".repeat(256), "ß".repeat(256), "a\u{0}b", "\u{0}", 5, true, ["customer-1"], { "sub": "customer-1" }, null,
        ] },
        "token_expired": { "exp": [now, now - 1, now - 3600, 0, -1, now as f64 + 0.01] },
        "token_not_yet_valid": { "nbf": future, "iat": future },
        "malformed_token": {
            "exp": [
                (now + 60).to_string(), "never", true, [now + 60], {}, 1e300, -1e300, u64::MAX, i64::MAX, i64::MIN, null,
            ],
            "nbf": no_time,
            "iat": no_time,
        },
    });
    assert_table(&server, &table, |claim, value| rsa().token(&set(claims.clone(), claim, value.clone()))).await;
    let missing = [
        ("iss", "unknown_issuer"),
        ("aud", "wrong_audience"),
        ("sub", "no_customer"),
        ("exp", "malformed_token"),
        ("nbf", ACCEPTED),
        ("iat", ACCEPTED),
    ];
    let without = |(claim, expected)| (claim, rsa().token(&unset(claims.clone(), claim)), expected);
    assert_tokens(&server, missing.map(without)).await;
}

#[apply(test)]
async fn times_are_exact_to_the_nanosecond() {
    let (_provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    // The first token expires, and the others become valid, at this time.
    let time = server.clock.now().timestamp() + 10;
    let token = |claim: &str, seconds: i64| rsa().token(&set(claims.clone(), claim, seconds));
    let [exp, nbf, iat] = [token("exp", time), token("nbf", time + 60), token("iat", time + 60)];
    let left = DateTime::from_timestamp(time, 0).unwrap() - server.clock.now();
    server.clock.advance(left.to_std().unwrap() - Duration::from_nanos(1));
    let [early, late] = ["token_not_yet_valid", "token_expired"];
    assert_tokens(&server, [("exp", exp.clone(), ACCEPTED), ("nbf", nbf.clone(), early), ("iat", iat.clone(), early)])
        .await;
    server.clock.advance(Duration::from_nanos(1));
    assert_tokens(&server, [("exp", exp, late), ("nbf", nbf, ACCEPTED), ("iat", iat, ACCEPTED)]).await;
}

#[apply(test)]
async fn malformed_token_is_refused() {
    let (_provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    let good = claims.to_string();
    let cut = good.strip_suffix('}').unwrap();
    let with = |members: &str| format!("{cut},{members}}}");
    let header = rsa().header().to_string();
    let valid = rsa().token(&claims);
    let [head, payload, signature] = valid.split('.').collect::<Vec<_>>().try_into().unwrap();
    let malformed = json!({ "malformed_token": {
        "header": [
            "", "null", "[]", "\"RS256\"", "{", "{}", r#"{"typ":"JWT"}"#, r#"{"alg":null}"#, r#"{"alg":["RS256"]}"#,
            r#"{"alg":"RS256","alg":"none"}"#, r#"{"alg":"none","alg":"RS256"}"#, r#"{"alg":"RS256","kid":5}"#,
            r#"{"alg":"RS256","typ":["JWT"]}"#, r#"{"alg":"RS256"}{}"#,
            format!(r#"{{"alg":{}{}}}"#, "[".repeat(1500), "]".repeat(1500)),
        ],
        "claims": [
            "", "null", "[]", "5", "\"x\"", cut, format!("{good}{{}}"), format!("[{good}]"), with("\"x\":\"\\ud800\""),
            with(&format!("\"x\":{}{}", "[".repeat(1000), "]".repeat(1000))), with(&format!("\"x\":{}", "[".repeat(5000))),
        ],
        "token": [
            "x", "..", "....", head, format!("{head}.{payload}"), format!("{head}..{signature}"),
            format!(".{payload}.{signature}"), format!("{valid}.{signature}"), format!("{valid}.."), format!(".{valid}"),
            format!("{head}.{payload}.{payload}.{payload}.{signature}"),
            // JSON must be UTF-8 throughout, also in members that are ignored.
            rsa().token_of(b"{\"alg\":\"RS256\",\"x\":\"\xf4+\"}", &good),
            rsa().token_of(&header, [cut.as_bytes(), b",\"x\":\"\xf4+\"}"].concat()),
        ],
    } });
    let token = |part: &str, text: &Value| match (part, text.as_str().unwrap()) {
        ("header", text) => rsa().token_of(text, &good),
        ("claims", text) => rsa().token_of(&header, text),
        (_, text) => text.to_owned(),
    };
    assert_table(&server, &malformed, token).await;
    // RFC 7519, section 4: a parser refuses duplicate claims or uses the last one.
    let duplicates = [
        (format!(" {good}\n"), ACCEPTED),
        (with("\"exp\":1"), "token_expired"),
        (with("\"aud\":\"other\""), "wrong_audience"),
        (with("\"iss\":\"other\""), "unknown_issuer"),
        (with("\"sub\":\"\""), "no_customer"),
    ];
    let duplicates = duplicates.map(|(claims, expected)| (claims.clone(), rsa().token_of(&header, claims), expected));
    assert_tokens(&server, duplicates).await;
}

#[apply(test)]
async fn only_the_canonical_encoding_is_accepted() {
    let (_provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    let token = rsa().token(&claims);
    let [head, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    // 256 bytes of signature end in a character with four unused bits.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (shorter, last) = signature.split_at(signature.len() - 1);
    let next = &alphabet[alphabet.find(last).unwrap() + 1..][..1];
    let other_alphabet = BASE64_STANDARD.encode(BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap());
    let variants = [
        ("padded", format!("{signature}==")),
        ("unused bits set", format!("{shorter}{next}")),
        ("one more character", format!("{signature}A")),
        ("one character less", shorter.to_owned()),
        ("the other alphabet", other_alphabet),
    ];
    let variants = variants.map(|(what, signature)| (what, format!("{head}.{payload}.{signature}"), "wrong_signature"));
    assert_tokens(&server, variants).await;
    // With a valid signature of the text as it is.
    let slash = r#"{"alg":"RS256","kid":"rsa","x":"?????"}"#;
    let messages = [
        ("the right alphabet", format!("{}.{payload}", base64url(slash)), ACCEPTED),
        ("the other alphabet", format!("{}.{payload}", BASE64_STANDARD_NO_PAD.encode(slash)), "malformed_token"),
        ("a padded header", format!("{head}=.{payload}"), "malformed_token"),
        ("padded claims", format!("{head}.{payload}="), "malformed_token"),
        ("a comma", format!("{head}.{payload},"), "malformed_token"),
    ];
    let sign = |message: String| format!("{message}.{}", base64url(rsa().sign(message.as_bytes())));
    assert_tokens(&server, messages.map(|(what, message, expected)| (what, sign(message), expected))).await;
}

#[apply(test)]
async fn token_may_have_8_kib() {
    let (_provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    let max = 8 * 1024;
    let padded = |length: usize| rsa().token(&set(claims.clone(), "padding", "x".repeat(length)));
    let about = (max - padded(0).len()) * 3 / 4;
    let longest = (about - 3..).map(padded).find(|token| token.len() >= max).unwrap();
    assert_eq!(longest.len(), max);
    let longer = format!("{longest}A");
    assert_tokens(&server, [("8 KiB", longest, ACCEPTED), ("a byte more", longer, "token_too_long")]).await;
    let huge = context(&server, &"A".repeat(1024 * 1024)).await;
    assert_eq!(huge.status, 431, "beyond the limit for HTTP headers");
}
