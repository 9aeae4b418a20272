use tokio::time::advance;

use super::*;

fn key(number: u32, store: &str, channel: Option<KeyChannel>) -> Key {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let (digest, store) = (Digest::from_bytes(bytes), StoreId::parse(store).expect("an id"));
    Key { kind: Kind::IdentityKey, digest, store, channel }
}

fn keep(cache: &Cache, key: &Key) {
    cache.keep(key, cache.generation(), Instant::now(), Registration::Revoked);
}

fn is_found(cache: &Cache, key: &Key) -> bool {
    cache.find(key, Instant::now()).is_some()
}

#[tokio::test(start_paused = true)]
async fn what_was_found_counts_for_its_time_from_the_question_on() {
    let cache = Cache::new(Duration::from_secs(5));
    let one = key(1, "S", None);
    let asked_at = Instant::now();
    advance(Duration::from_secs(1)).await; // it was slow
    cache.keep(&one, cache.generation(), asked_at, Registration::Revoked);
    advance(Duration::from_millis(3_999)).await;
    assert!(is_found(&cache, &one));
    advance(Duration::from_millis(1)).await;
    assert!(!is_found(&cache, &one));
    cache.sweep(Instant::now());
    assert!(cache.found.is_empty() && cache.len.load(Ordering::Relaxed) == 0);
}

#[test]
fn another_store_or_channel_is_another_question() {
    let cache = Cache::new(Duration::from_secs(60));
    keep(&cache, &key(1, "S", Some(KeyChannel::Radio)));
    assert!(is_found(&cache, &key(1, "S", Some(KeyChannel::Radio))));
    for other in [key(2, "S", Some(KeyChannel::Radio)), key(1, "T", Some(KeyChannel::Radio)), key(1, "S", None)] {
        assert!(!is_found(&cache, &other), "{other:?}");
    }
    let token = Key { kind: Kind::RecognitionToken, ..key(1, "S", Some(KeyChannel::Radio)) };
    assert!(!is_found(&cache, &token));
}

#[test]
fn without_time_nothing_is_kept() {
    let cache = Cache::new(Duration::ZERO);
    keep(&cache, &key(1, "S", None));
    assert!(cache.found.is_empty());
}

#[test]
fn what_was_asked_before_all_was_forgotten_is_not_kept() {
    let cache = Cache::new(Duration::from_secs(60));
    keep(&cache, &key(1, "S", None));
    let before = cache.generation();
    cache.forget();
    assert!(!is_found(&cache, &key(1, "S", None)));
    cache.keep(&key(1, "S", None), before, Instant::now(), Registration::Revoked);
    assert!(!is_found(&cache, &key(1, "S", None)));
}

#[test]
fn it_is_bounded() {
    let cache = Cache::new(Duration::from_secs(60));
    for number in 0..=u32::try_from(CAPACITY).expect("it fits") {
        keep(&cache, &key(number, "S", None));
    }
    assert_eq!(cache.found.len(), 1);
}
