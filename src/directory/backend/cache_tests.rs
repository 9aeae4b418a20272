use tokio::time::advance;

use super::*;

fn key(number: u32, store: &str, channel: Option<KeyChannel>) -> Key {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let (digest, store) = (Digest::from_bytes(bytes), StoreId::parse(store).expect("an id"));
    Key { kind: Kind::IdentityKey, digest, store, channel }
}

fn insert(cache: &Cache, key: &Key) {
    cache.insert(key, cache.generation(), Instant::now(), Registration::Revoked);
}

fn is_found(cache: &Cache, key: &Key) -> bool {
    cache.find(key, Instant::now()).is_some()
}

#[tokio::test(start_paused = true)]
async fn entry_expires_one_ttl_after_its_request() {
    let cache = Cache::new(Duration::from_secs(5));
    let cached = key(1, "S", None);
    let asked_at = Instant::now();
    advance(Duration::from_secs(1)).await; // a slow answer
    cache.insert(&cached, cache.generation(), asked_at, Registration::Revoked);
    advance(Duration::from_millis(3_999)).await;
    assert!(is_found(&cache, &cached));
    advance(Duration::from_millis(1)).await;
    assert!(!is_found(&cache, &cached));
    cache.sweep(Instant::now());
    assert!(cache.entries.is_empty());
}

#[test]
fn entries_are_separate_for_each_store_and_channel() {
    let cache = Cache::new(Duration::from_secs(60));
    insert(&cache, &key(1, "S", Some(KeyChannel::Radio)));
    assert!(is_found(&cache, &key(1, "S", Some(KeyChannel::Radio))));
    for other in [key(2, "S", Some(KeyChannel::Radio)), key(1, "T", Some(KeyChannel::Radio)), key(1, "S", None)] {
        assert!(!is_found(&cache, &other), "{other:?}");
    }
    let token = Key { kind: Kind::RecognitionToken, ..key(1, "S", Some(KeyChannel::Radio)) };
    assert!(!is_found(&cache, &token));
}

#[test]
fn nothing_is_cached_with_a_zero_ttl() {
    let cache = Cache::new(Duration::ZERO);
    insert(&cache, &key(1, "S", None));
    assert!(cache.entries.is_empty());
}

#[test]
fn answer_to_a_request_from_before_an_invalidation_is_not_cached() {
    let cache = Cache::new(Duration::from_secs(60));
    insert(&cache, &key(1, "S", None));
    let before = cache.generation();
    cache.invalidate();
    assert!(!is_found(&cache, &key(1, "S", None)));
    cache.insert(&key(1, "S", None), before, Instant::now(), Registration::Revoked);
    assert!(!is_found(&cache, &key(1, "S", None)));
}
