//! Carts that expire, owners that are forgotten, and the capacity of the memory store.

use crate::shopper::carts::tests::*;

const MONTH: i64 = 30 * 24;

pub(crate) async fn anonymous_cart_expires_after_exactly_30_days(fixture: Fixture) {
    for customer in [anonymous(1), known("k")] {
        fixture.add(&customer, "Default", "a", 2, at(0)).await;
        let just_before = at(MONTH).checked_sub_signed(TimeDelta::nanoseconds(1)).expect("in range");
        assert_eq!(fixture.get(&customer, just_before).await.all().len(), 1);
        let left = usize::from(!customer.is_anonymous());
        assert_eq!(fixture.get(&customer, at(MONTH)).await.all().len(), left);
    }
}

pub(crate) async fn expired_cart_neither_moves_nor_counts(fixture: Fixture) {
    let (from, to) = (anonymous(1), known("k"));
    fixture.add(&from, "Old", "a", 2, at(0)).await;
    fixture.add(&from, "New", "b", 3, at(1)).await;
    let seen = fixture
        .cart_store
        .change(&from, at(MONTH), |carts| Ok(carts.all().len()))
        .await
        .expect("the carts are available");
    assert_eq!(seen, Ok(1));
    let moved = fixture.migrate(1, &to, at(MONTH)).await.expect("the migration succeeds");
    assert_eq!(moved.all().iter().map(|cart| cart.name.as_str()).collect::<Vec<_>>(), ["New"]);
    assert_eq!((fixture.amounts(&to).await, fixture.owners().await), (vec![("b".to_owned(), 3)], 1));
}

pub(crate) async fn sweep_deletes_expired_carts(fixture: Fixture) {
    fixture.add(&known("k"), "Default", "a", 1, at(0)).await;
    // More than one batch. Owner 1 also has a cart that has not expired.
    for number in 1..=220 {
        fixture.add(&anonymous(number), "Default", "a", 1, at(0)).await;
    }
    fixture.add(&anonymous(1), "Wishes", "b", 1, at(1)).await;
    let just_before = at(MONTH).checked_sub_signed(TimeDelta::nanoseconds(1)).expect("in range");
    fixture.cart_store.sweep(just_before).await.expect("the sweep succeeds");
    assert_eq!(fixture.owners().await, 221);
    fixture.cart_store.sweep(at(MONTH)).await.expect("the sweep succeeds");
    assert_eq!(fixture.owners().await, 2);
    assert_eq!(fixture.get(&anonymous(1), at(MONTH)).await.all().len(), 1);
    fixture.cart_store.sweep(at(MONTH + 1)).await.expect("the sweep succeeds");
    assert_eq!(fixture.owners().await, 1);
    assert_eq!(fixture.get(&known("k"), at(MONTH + 1)).await.all().len(), 1);
}

pub(crate) async fn forgotten_owner_has_no_carts(fixture: Fixture) {
    for customer in [anonymous(1), known("k"), known("another")] {
        fixture.add(&customer, "Default", "a", 1, at(0)).await;
    }
    for customer in [anonymous(1), known("k"), known("k"), known("unknown")] {
        fixture.cart_store.forget(fixture.cart_store.hash_key.customer(&customer)).await.expect("the owner is deleted");
        assert!(fixture.get(&customer, at(0)).await.is_empty());
    }
    assert_eq!(fixture.amounts(&known("another")).await, [("a".to_owned(), 1)]);
    assert_eq!(fixture.owners().await, 1);
}

#[tokio::test]
async fn memory_store_refuses_a_new_owner_at_its_capacity() {
    let fixture = in_memory_for(2);
    for customer in [anonymous(1), anonymous(2)] {
        fixture.add(&customer, "Default", "a", 1, at(0)).await;
    }
    let one_more =
        add(&fixture.cart_store, &known("k"), "Default", "a", 1, at(0)).await.expect("the carts are available");
    assert_eq!(one_more.expect_err("the store is full"), CartRefusal::Full);
    assert_eq!(fixture.owners().await, 2);
    fixture.add(&anonymous(1), "Wishes", "b", 1, at(0)).await;
    assert_eq!(
        fixture
            .migrate(1, &known("k"), at(0))
            .await
            .expect("the customer takes the anonymous owner's entry")
            .all()
            .len(),
        2
    );
    fixture.cart_store.forget(fixture.cart_store.hash_key.customer(&anonymous(2))).await.expect("the owner is deleted");
    fixture.add(&anonymous(3), "Default", "a", 1, at(0)).await;
}

/// Covers more than one batch of a sweep.
#[tokio::test]
async fn sweep_of_memory_reaches_every_owner() {
    let fixture = in_memory().await;
    let owner = |number: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Customer::Anonymous(AnonymousId::from_random_bytes(bytes))
    };
    for number in 0..2500 {
        fixture.add(&owner(number), "Default", "a", 1, at(i64::from(number % 2))).await;
    }
    fixture.cart_store.sweep(at(MONTH)).await.expect("the sweep succeeds");
    assert_eq!(fixture.owners().await, 1250);
}
