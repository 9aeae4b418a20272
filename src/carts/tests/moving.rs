//! Carts of somebody who has signed in.

use super::*;

pub(super) async fn carts_move_once_and_later_what_came_since(kept: Kept) {
    let (from, to) = (anonymous(1), known("k"));
    kept.add(&from, "Default", "a", 2, at(0)).await;
    kept.add(&from, "Wishes", "b", 3, at(0)).await;
    kept.add(&to, "Default", "a", 5, at(0)).await;
    for _ in 0..2 {
        let moved = kept.migrate(1, &to, at(1)).await.expect("moved");
        assert_eq!(moved, kept.of(&to, at(1)).await);
        assert_eq!(kept.amounts(&to).await, [("a".to_owned(), 7), ("b".to_owned(), 3)]);
        assert!(kept.of(&from, at(1)).await.is_empty());
        assert_eq!(kept.owners().await, 1);
    }
    kept.add(&from, "Default", "a", 1, at(2)).await;
    kept.migrate(1, &to, at(3)).await.expect("moved");
    assert_eq!(kept.amounts(&to).await, [("a".to_owned(), 8), ("b".to_owned(), 3)]);
    assert!(kept.migrate(2, &known("nobody"), at(3)).await.expect("nothing to move").is_empty());
    assert_eq!(kept.owners().await, 1);
}

/// All of these at the same instant; none is refused.
async fn migrate_at_once(kept: &Kept, moves: Vec<(u8, Customer)>) {
    let mut moving = JoinSet::new();
    for (from, to) in moves {
        let store = Arc::clone(&kept.store);
        moving.spawn(async move { store.migrate(anonymous_id(from), &to, at(1)).await.expect("written") });
    }
    assert!(moving.join_all().await.iter().all(Result::is_ok));
}

pub(super) async fn carts_that_move_twice_at_the_same_instant_arrive_once(kept: Kept) {
    let to = known("k");
    kept.add(&anonymous(1), "Default", "a", 2, at(0)).await;
    migrate_at_once(&kept, vec![(1, to.clone()); 8]).await;
    assert_eq!(kept.amounts(&to).await, [("a".to_owned(), 2)]);
    assert_eq!(kept.owners().await, 1);
}

pub(super) async fn carts_of_two_who_are_one_all_arrive(kept: Kept) {
    let to = known("k");
    for from in 1..=8 {
        kept.add(&anonymous(from), "Default", "a", 2, at(0)).await;
        kept.add(&anonymous(from), "Default", &format!("own {from}"), 1, at(0)).await;
    }
    migrate_at_once(&kept, (1..=8).map(|from| (from, to.clone())).collect()).await;
    let mut expected = vec![("a".to_owned(), 16)];
    expected.extend((1..=8).map(|from| (format!("own {from}"), 1)));
    assert_eq!(kept.amounts(&to).await, expected);
    assert_eq!(kept.owners().await, 1);
}

pub(super) async fn carts_that_move_to_and_fro_are_somewhere(kept: Kept) {
    for round in 0..8 {
        let (one, other) = (round, 100_u8.saturating_add(round));
        kept.add(&anonymous(one), "Default", "a", 2, at(0)).await;
        kept.add(&anonymous(other), "Default", "a", 3, at(0)).await;
        migrate_at_once(&kept, vec![(one, anonymous(other)), (other, anonymous(one))]).await;
        let amounts = [kept.amounts(&anonymous(one)).await, kept.amounts(&anonymous(other)).await].concat();
        assert_eq!(amounts, [("a".to_owned(), 5)]);
    }
}

pub(super) async fn carts_stay_where_they_are_when_they_move_to_themselves_or_are_refused(kept: Kept) {
    let (from, to) = (anonymous(1), known("k"));
    for first in (0..2000).step_by(100) {
        kept.fill(&from, first).await;
        assert!(kept.migrate(1, &to, at(1)).await.is_ok());
    }
    kept.fill(&from, 2000).await;
    let [before, target] = [kept.of(&from, at(1)).await, kept.of(&to, at(1)).await];
    assert_eq!(kept.migrate(1, &from, at(1)).await, Ok(before.clone()));
    assert_eq!(kept.migrate(1, &to, at(1)).await, Err(CartRefusal::TooManyLines));
    assert_eq!([kept.of(&from, at(1)).await, kept.of(&to, at(1)).await], [before, target]);
}
