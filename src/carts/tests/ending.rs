//! Carts that end: by themselves, or because their owner is forgotten; and what there is no room for.

use super::*;

const MONTH: i64 = 30 * 24;

pub(super) async fn an_anonymous_cart_ends_after_exactly_30_days(kept: Kept) {
    for customer in [anonymous(1), known("k")] {
        kept.add(&customer, "Default", "a", 2, at(0)).await;
        let just_before = at(MONTH).checked_sub_signed(TimeDelta::nanoseconds(1)).expect("in range");
        assert_eq!(kept.of(&customer, just_before).await.all().len(), 1);
        let left = usize::from(!customer.is_anonymous());
        assert_eq!(kept.of(&customer, at(MONTH)).await.all().len(), left);
    }
}

pub(super) async fn what_has_ended_neither_moves_nor_counts(kept: Kept) {
    let (from, to) = (anonymous(1), known("k"));
    kept.add(&from, "Old", "a", 2, at(0)).await;
    kept.add(&from, "New", "b", 3, at(1)).await;
    let seen = kept.store.change(&from, at(MONTH), |carts| Ok(carts.all().len())).await.expect("asked");
    assert_eq!(seen, Ok(1));
    let moved = kept.migrate(1, &to, at(MONTH)).await.expect("moved");
    assert_eq!(moved.all().iter().map(|cart| cart.name.as_str()).collect::<Vec<_>>(), ["New"]);
    assert_eq!((kept.amounts(&to).await, kept.owners().await), (vec![("b".to_owned(), 3)], 1));
}

pub(super) async fn a_sweep_lets_go_of_what_has_ended(kept: Kept) {
    kept.add(&known("k"), "Default", "a", 1, at(0)).await;
    // More than one batch; of one of them only one cart has ended.
    for number in 1..=220 {
        kept.add(&anonymous(number), "Default", "a", 1, at(0)).await;
    }
    kept.add(&anonymous(1), "Wishes", "b", 1, at(1)).await;
    let just_before = at(MONTH).checked_sub_signed(TimeDelta::nanoseconds(1)).expect("in range");
    kept.store.sweep(just_before).await.expect("swept");
    assert_eq!(kept.owners().await, 221);
    kept.store.sweep(at(MONTH)).await.expect("swept");
    assert_eq!(kept.owners().await, 2);
    assert_eq!(kept.of(&anonymous(1), at(MONTH)).await.all().len(), 1);
    kept.store.sweep(at(MONTH + 1)).await.expect("swept");
    assert_eq!(kept.owners().await, 1);
    assert_eq!(kept.of(&known("k"), at(MONTH + 1)).await.all().len(), 1);
}

pub(super) async fn who_is_forgotten_has_no_carts(kept: Kept) {
    for customer in [anonymous(1), known("k"), known("another")] {
        kept.add(&customer, "Default", "a", 1, at(0)).await;
    }
    for customer in [anonymous(1), known("k"), known("k"), known("nobody")] {
        kept.store.forget(kept.store.hash_key.customer(&customer)).await.expect("forgotten");
        assert!(kept.of(&customer, at(0)).await.is_empty());
    }
    assert_eq!(kept.amounts(&known("another")).await, [("a".to_owned(), 1)]);
    assert_eq!(kept.owners().await, 1);
}

#[tokio::test]
async fn memory_is_for_so_many_owners() {
    let kept = in_memory_for(2);
    for customer in [anonymous(1), anonymous(2)] {
        kept.add(&customer, "Default", "a", 1, at(0)).await;
    }
    let one_more = add(&kept.store, &known("k"), "Default", "a", 1, at(0)).await.expect("asked");
    assert_eq!(one_more.expect_err("there is no room"), CartRefusal::Full);
    assert_eq!(kept.owners().await, 2);
    kept.add(&anonymous(1), "Wishes", "b", 1, at(0)).await;
    assert_eq!(kept.migrate(1, &known("k"), at(0)).await.expect("one takes the other's place").all().len(), 2);
    kept.store.forget(kept.store.hash_key.customer(&anonymous(2))).await.expect("forgotten");
    kept.add(&anonymous(3), "Default", "a", 1, at(0)).await;
}

/// In a sweep's second batch as well as in its first.
#[tokio::test]
async fn a_sweep_of_memory_reaches_everybody() {
    let kept = in_memory().await;
    let nobody = |number: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Customer::Anonymous(AnonymousId::from_random_bytes(bytes))
    };
    for number in 0..2500 {
        kept.add(&nobody(number), "Default", "a", 1, at(i64::from(number % 2))).await;
    }
    kept.store.sweep(at(MONTH)).await.expect("swept");
    assert_eq!(kept.owners().await, 1250);
}
