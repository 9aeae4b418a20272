//! Tokens in a non-canonical encoding.

use crate::trials::{apply, test};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

use crate::shopper::hostile_headers::start_with_trusted_provider;
use crate::support::keys::{Key, base64url, rsa};
use crate::support::provider::Provider;
use crate::support::shopper::{assert_token_refused, assert_unauthorized, context};

#[apply(test)]
async fn invalid_header_is_refused() {
    let (_provider, server, claims) = start_with_trusted_provider().await;
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
    // JSON must be UTF-8 throughout, also in members that are ignored.
    for (header, padding) in
        [(&b"{\"alg\":\"RS256\",\"x\":\"\xf4+\"}"[..], &b"ok"[..]), (b"{\"alg\":\"RS256\",\"x\":\"ok\"}", b"\xf4+")]
    {
        let mut padded = claims.to_string().into_bytes();
        padded.splice(1..1, [b"\"padding\":\"", padding, b"\","].concat());
        let message = format!("{}.{}", base64url(header), base64url(padded));
        let token = format!("{message}.{}", base64url(rsa().sign(message.as_bytes())));
        assert_token_refused(&server, &token, "malformed_token", "a byte that is not UTF-8").await;
    }
}

#[apply(test)]
async fn token_has_three_parts_and_at_most_8_kib() {
    let (_provider, server, mut claims) = start_with_trusted_provider().await;
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
    // The limit is exact to the byte.
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
    assert_token_refused(&server, &format!("{longest}A"), "token_too_long", "8 KiB and one byte").await;
    let huge = context(&server, &"A".repeat(1024 * 1024)).await;
    assert_eq!(huge.status, 431, "beyond the limit for HTTP headers");
}

#[apply(test)]
async fn only_the_canonical_token_encoding_is_accepted() {
    let (_provider, server, claims) = start_with_trusted_provider().await;
    let token = rsa().token(&claims);
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let bytes = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    // 256 bytes of signature end in a character with four unused bits.
    let set_unused_bits = |part: &str| {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (rest, last) = part.split_at(part.len() - 1);
        let index = alphabet.find(last).unwrap();
        format!("{rest}{}", &alphabet[index + 1..index + 2])
    };
    for (variant, what) in [
        (format!("{header}.{payload}.{signature}=="), "a padded signature"),
        (format!("{header}.{payload}.{}", BASE64_URL_SAFE.encode(bytes(signature))), "a padded signature"),
        (format!("{header}.{payload}.{}", set_unused_bits(signature)), "unused bits set"),
        (format!("{header}.{payload}.{signature}A"), "one more character"),
        (format!("{header}.{payload}.{}", &signature[..signature.len() - 1]), "one character less"),
        (format!("{header}.{payload}.{}", BASE64_STANDARD.encode(bytes(signature))), "the other alphabet"),
    ] {
        assert_token_refused(&server, &variant, "wrong_signature", what).await;
    }
    // Correctly signed, but in another form of Base64.
    for (header, payload) in [
        (format!("{header}="), payload.to_owned()),
        (header.to_owned(), format!("{payload}=")),
        (BASE64_STANDARD.encode(format!("{}  ", rsa().header())), payload.to_owned()),
        (header.to_owned(), format!("{payload}\u{2c}")),
    ] {
        let message = format!("{header}.{payload}");
        let token = format!("{message}.{}", base64url(rsa().sign(message.as_bytes())));
        if !header.contains(['=', '+', '/']) && !payload.contains(['=', ',']) {
            continue; // the text is the same in both alphabets
        }
        assert_token_refused(&server, &token, "malformed_token", &message).await;
    }
}

#[apply(test)]
async fn token_with_a_changed_bit_is_refused() {
    let ec = Key::ec("ec");
    let provider = Provider::start(&[&ec]).await;
    let server = provider.connector(&[("commerce.identity_providers.test.algorithms", "ES256")]).await;
    let token = ec.token(&provider.claims(server.clock.now()));
    assert_eq!(context(&server, &token).await.status, 200);
    let parts: Vec<Vec<u8>> = token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    for (index, part) in parts.iter().enumerate() {
        for bit in 0..part.len() * 8 {
            let mut flipped = parts.clone();
            flipped[index][bit / 8] ^= 1 << (bit % 8);
            let flipped: Vec<String> = flipped.iter().map(base64url).collect();
            let answer = context(&server, &flipped.join(".")).await;
            assert_unauthorized(&answer, &format!("bit {bit} of part {index}"));
        }
    }
}
