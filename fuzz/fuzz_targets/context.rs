//! The customer context. None passes but the one that was made for the token beside it, byte for byte.
#![no_main]

use std::cell::RefCell;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use identity_connector_fuzz::{CONTEXT_KEY, Connector, base64url, header_value, with_connector};
use libfuzzer_sys::fuzz_target;

/// Somebody who is let in, and another, whose context is as good.
struct Known {
    token: String,
    context: String,
    others: String,
}

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    with_connector(async |connector| {
        let known = match KNOWN.take() {
            Some(known) => known,
            None => meet(connector).await,
        };
        let context = match data.split_first() {
            // The right one or another's, and what is to be changed of it.
            Some((b'X', changes)) => changed(&known.context, changes),
            Some((b'O', changes)) => changed(&known.others, changes),
            // Sealed under the right key for the right token, with any content.
            Some((b'S', content)) => sealed(&known.token, content),
            _ => header_value(data),
        };
        // The head of a request has its limit.
        if context.len() <= 8 * 1024 {
            let answer = connector.carts(known.token.as_bytes(), &context).await;
            match answer.status {
                200 => assert!(context == known.context.as_bytes(), "{}", String::from_utf8_lossy(&context)),
                401 => {
                    assert!(context != known.context.as_bytes(), "the right one was refused");
                    assert_eq!(answer.message(), "Unauthorized");
                }
                status => panic!("{status} {}", answer.text()),
            }
        }
        KNOWN.set(Some(known));
    });
});

async fn meet(connector: &mut Connector) -> Known {
    let mut contexts = Vec::new();
    for _ in 0..2 {
        let token = connector.anonymous_token().await;
        let answer = connector.context_of(token.as_bytes()).await.json();
        contexts.push((token, answer["customerContext"].as_str().expect("a context").to_owned()));
    }
    let [(token, context), (_, others)] = contexts.try_into().expect("two");
    Known { token, context, others }
}

/// Each two bytes of `changes` are a place and what is turned over there; one that is left over is how many are cut off.
fn changed(context: &str, changes: &[u8]) -> Vec<u8> {
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(context).expect("Base64");
    let (changes, cut) = changes.as_chunks::<2>();
    for [place, bits] in changes {
        let place = usize::from(*place) % bytes.len();
        bytes[place] ^= bits;
    }
    bytes.truncate(bytes.len().saturating_sub(cut.first().copied().unwrap_or_default().into()));
    base64url(bytes).into_bytes()
}

fn sealed(token: &str, content: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, CONTEXT_KEY).expect("a key"));
    let mut sealed = content.to_vec();
    let bound_to = Aad::from(digest(&SHA256, token.as_bytes()));
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), bound_to, &mut sealed).expect("sealed");
    base64url([&[1][..], &[0; 12], &sealed].concat()).into_bytes()
}
