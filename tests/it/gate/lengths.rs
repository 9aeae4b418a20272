//! The API contract's maximum lengths: they count Unicode characters, not bytes or UTF-16 units.

use crate::trials::{apply, test};
use serde_json::json;

use crate::{
    checks::*,
    support::{Server, scan_with_key},
};

/// Characters with different numbers of bytes and UTF-16 units.
const CHARACTERS: [&str; 4] = ["a", "é", "語", "𝒳"];

#[apply(test)]
async fn store_id_limit_is_255_characters_not_bytes() {
    let server = Server::demo(&[]).await;
    for character in CHARACTERS {
        let longest = server.verify(&scan_with("storeId", character.repeat(255))).await;
        assert_refused(&longest, 400, INVALID_STORE, character);
        let longer = server.verify(&scan_with("storeId", character.repeat(256))).await;
        assert_refused(&longer, 400, STORE_TOO_LONG, character);
    }
    let far_longer = server.verify(&scan_with("storeId", "a".repeat(60_000))).await;
    assert_refused(&far_longer, 400, STORE_TOO_LONG, "60 000 characters");
}

#[apply(test)]
async fn escaped_character_counts_once() {
    let server = Server::demo(&[]).await;
    for (length, refusal) in [(255, INVALID_STORE), (256, STORE_TOO_LONG)] {
        let escaped = "\\ud835\\udcb3".repeat(length);
        let body = scan_with("storeId", "<here>").to_string().replace("<here>", &escaped);
        assert_refused(&server.post(body).await, 400, refusal, &length.to_string());
    }
}

#[apply(test)]
async fn store_with_an_id_of_255_characters_is_accepted() {
    for character in CHARACTERS {
        let store = character.repeat(255);
        let directory = json!({
            "stores": [{ "id": store }],
            "shoppers": [{ "id": "v1", "type": "SHOPPER" }],
            "identityKeys": [{ "key": "valid_shopper_key", "shopper": "v1" }],
        });
        let server = Server::with_directory(directory, &[]).await;
        assert_granted(&server.verify(&scan_with("storeId", store)).await, "v1", "SHOPPER", character);
    }
}

#[apply(test)]
async fn identity_key_limit_is_1000_characters_not_bytes() {
    let server = Server::demo(&[]).await;
    let longest = server.verify(&scan_with_key(&[b'k'; 750])).await;
    assert_refused(&longest, 401, INVALID_KEY, "750 bytes are 1000 characters");
    let longer = server.verify(&scan_with_key(&[b'k'; 751])).await;
    assert_refused(&longer, 400, KEY_TOO_LONG, "751 bytes are 1004 characters");
    let longer = server.verify(&scan_with("identityKey", "!".repeat(1001))).await;
    assert_refused(&longer, 400, KEY_TOO_LONG, "the length is checked before the encoding");
    for character in ["é", "語", "𝒳"] {
        let longest = server.verify(&scan_with("identityKey", character.repeat(1000))).await;
        assert_refused(&longest, 400, BAD_KEY, character);
        let longer = server.verify(&scan_with("identityKey", character.repeat(1001))).await;
        assert_refused(&longer, 400, KEY_TOO_LONG, character);
    }
}
