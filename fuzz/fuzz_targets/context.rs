//! The customer context. Only the one that was issued for the token may pass, byte for byte.
#![no_main]

use std::cell::RefCell;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use identity_connector_fuzz::{CONTEXT_KEY, Connector, base64url, header_value, with_connector};
use libfuzzer_sys::fuzz_target;

/// A customer's token and context, and the valid context of another customer.
struct Known {
    token: String,
    context: String,
    other_context: String,
}

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    with_connector(async |connector| {
        let known = match KNOWN.take() {
            Some(known) => known,
            None => sign_in(connector).await,
        };
        let context = match data.split_first() {
            // The right context or the other customer's, with changes.
            Some((b'X', changes)) => changed(&known.context, changes),
            Some((b'O', changes)) => changed(&known.other_context, changes),
            // Any content, encrypted with the right key for the right token.
            Some((b'S', content)) => sealed(&known.token, content),
            _ => header_value(data),
        };
        // The head of a request has a limit.
        if context.len() <= 8 * 1024 {
            let answer = connector.carts(known.token.as_bytes(), &context).await;
            match answer.status {
                200 => assert!(context == known.context.as_bytes(), "{}", String::from_utf8_lossy(&context)),
                401 => {
                    assert!(context != known.context.as_bytes(), "the right context was refused");
                    assert_eq!(answer.message(), "Unauthorized");
                }
                status => panic!("{status} {}", answer.text()),
            }
        }
        KNOWN.set(Some(known));
    });
});

async fn sign_in(connector: &mut Connector) -> Known {
    let mut contexts = Vec::new();
    for _ in 0..2 {
        let token = connector.anonymous_token().await;
        let answer = connector.context_of(token.as_bytes()).await.json();
        contexts.push((token, answer["customerContext"].as_str().expect("a 200 has a customerContext").to_owned()));
    }
    let [(token, context), (_, other_context)] = contexts.try_into().expect("there are two contexts");
    Known { token, context, other_context }
}

/// Each pair of bytes in `changes` is a position and the bits to flip there. A single byte at the end is the number of
/// bytes to cut off.
fn changed(context: &str, changes: &[u8]) -> Vec<u8> {
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(context).expect("the context is Base64");
    let (changes, cut) = changes.as_chunks::<2>();
    for [position, bits] in changes {
        let position = usize::from(*position) % bytes.len();
        bytes[position] ^= bits;
    }
    bytes.truncate(bytes.len().saturating_sub(cut.first().copied().unwrap_or_default().into()));
    base64url(bytes).into_bytes()
}

fn sealed(token: &str, content: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, CONTEXT_KEY).expect("the key has 32 bytes"));
    let mut sealed = content.to_vec();
    let bound_to = Aad::from(digest(&SHA256, token.as_bytes()));
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), bound_to, &mut sealed)
        .expect("sealing succeeds");
    base64url([&[1][..], &[0; 12], &sealed].concat()).into_bytes()
}
