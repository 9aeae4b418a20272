//! Migration of carts after a customer has signed in.

use crate::shopper::carts::tests::*;

pub(crate) async fn second_migration_moves_only_new_lines(fixture: Fixture) {
    let (from, to) = (anonymous(1), known("k"));
    fixture.add(&from, "Default", "a", 2, at(0)).await;
    fixture.add(&from, "Wishes", "b", 3, at(0)).await;
    fixture.add(&to, "Default", "a", 5, at(0)).await;
    for _ in 0..2 {
        let moved = fixture.migrate(1, &to, at(1)).await.expect("the migration succeeds");
        assert_eq!(moved, fixture.get(&to, at(1)).await);
        assert_eq!(fixture.amounts(&to).await, [("a".to_owned(), 7), ("b".to_owned(), 3)]);
        assert!(fixture.get(&from, at(1)).await.is_empty());
        assert_eq!(fixture.owners().await, 1);
    }
    fixture.add(&from, "Default", "a", 1, at(2)).await;
    fixture.migrate(1, &to, at(3)).await.expect("the migration succeeds");
    assert_eq!(fixture.amounts(&to).await, [("a".to_owned(), 8), ("b".to_owned(), 3)]);
    assert!(fixture.migrate(2, &known("unknown"), at(3)).await.expect("nothing to move").is_empty());
    assert_eq!(fixture.owners().await, 1);
}

/// Runs these migrations concurrently; none may be refused.
async fn migrate_at_once(fixture: &Fixture, moves: Vec<(u8, Customer)>) {
    let mut moving = JoinSet::new();
    for (from, to) in moves {
        let cart_store = Arc::clone(&fixture.cart_store);
        moving.spawn(async move {
            cart_store.migrate(anonymous_id(from), &to, at(1)).await.expect("the carts are written")
        });
    }
    assert!(moving.join_all().await.iter().all(Result::is_ok));
}

pub(crate) async fn concurrent_migrations_of_one_owner_move_carts_once(fixture: Fixture) {
    let to = known("k");
    fixture.add(&anonymous(1), "Default", "a", 2, at(0)).await;
    migrate_at_once(&fixture, vec![(1, to.clone()); 8]).await;
    assert_eq!(fixture.amounts(&to).await, [("a".to_owned(), 2)]);
    assert_eq!(fixture.owners().await, 1);
}

pub(crate) async fn concurrent_migrations_of_several_owners_move_all_carts(fixture: Fixture) {
    let to = known("k");
    for from in 1..=8 {
        fixture.add(&anonymous(from), "Default", "a", 2, at(0)).await;
        fixture.add(&anonymous(from), "Default", &format!("own {from}"), 1, at(0)).await;
    }
    migrate_at_once(&fixture, (1..=8).map(|from| (from, to.clone())).collect()).await;
    let mut expected = vec![("a".to_owned(), 16)];
    expected.extend((1..=8).map(|from| (format!("own {from}"), 1)));
    assert_eq!(fixture.amounts(&to).await, expected);
    assert_eq!(fixture.owners().await, 1);
}

pub(crate) async fn concurrent_opposite_migrations_lose_nothing(fixture: Fixture) {
    for round in 0..8 {
        let (first, second) = (round, 100_u8.saturating_add(round));
        fixture.add(&anonymous(first), "Default", "a", 2, at(0)).await;
        fixture.add(&anonymous(second), "Default", "a", 3, at(0)).await;
        migrate_at_once(&fixture, vec![(first, anonymous(second)), (second, anonymous(first))]).await;
        let amounts = [fixture.amounts(&anonymous(first)).await, fixture.amounts(&anonymous(second)).await].concat();
        assert_eq!(amounts, [("a".to_owned(), 5)]);
    }
}

pub(crate) async fn migration_to_the_same_owner_or_beyond_a_limit_moves_nothing(fixture: Fixture) {
    let (from, to) = (anonymous(1), known("k"));
    for first in (0..2000).step_by(100) {
        fixture.fill(&from, first).await;
        assert!(fixture.migrate(1, &to, at(1)).await.is_ok());
    }
    fixture.fill(&from, 2000).await;
    let [before, target] = [fixture.get(&from, at(1)).await, fixture.get(&to, at(1)).await];
    assert_eq!(fixture.migrate(1, &from, at(1)).await, Ok(before.clone()));
    assert_eq!(fixture.migrate(1, &to, at(1)).await, Err(CartRefusal::TooManyLines));
    assert_eq!([fixture.get(&from, at(1)).await, fixture.get(&to, at(1)).await], [before, target]);
}
