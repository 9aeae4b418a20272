use tokio::time::advance;

use super::*;
use crate::digest::Digest;

fn key(number: u8) -> Subject {
    Digest::from_bytes([number; 32]).into()
}

fn is_asked(circuit: &Circuit, number: u8) -> bool {
    circuit.admits(key(number), Instant::now())
}

fn fails(circuit: &Circuit, number: u8) -> Verdict {
    circuit.unanswered(key(number), Instant::now())
}

const ILL: Verdict = Verdict::TheBackend { is_news: false };
const ILL_NOW: Verdict = Verdict::TheBackend { is_news: true };

fn opened() -> Circuit {
    let circuit = Circuit::new();
    for number in 0..15 {
        assert_eq!(fails(&circuit, number), ILL, "it was never well");
    }
    assert!(is_asked(&circuit, 15));
    assert_eq!(fails(&circuit, 15), ILL_NOW);
    circuit
}

#[tokio::test(start_paused = true)]
async fn one_key_that_fails_for_ever_opens_nothing() {
    let circuit = Circuit::new();
    for _ in 0..1000 {
        assert_eq!(fails(&circuit, 7), ILL);
        assert!(is_asked(&circuit, 7) && circuit.is_up(Instant::now()));
        advance(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_others_are_answered_a_failure_is_the_keys_own_doing() {
    let circuit = Circuit::new();
    circuit.answered(Instant::now());
    for _ in 0..100 {
        assert_eq!((fails(&circuit, 1), fails(&circuit, 2)), (Verdict::TheKey, Verdict::TheKey));
    }
    assert_eq!(fails(&circuit, 3), ILL, "the third with no answer in between");
    assert!(!circuit.is_up(Instant::now()));
    circuit.answered(Instant::now());
    assert_eq!(fails(&circuit, 3), Verdict::TheKey);
    advance(WELL).await;
    assert_eq!(fails(&circuit, 3), ILL, "nobody knows whether it is still well");
}

#[tokio::test(start_paused = true)]
async fn no_more_keys_than_a_gate_can_show_open_anything() {
    let circuit = Circuit::new();
    for number in 0..250 {
        fails(&circuit, number);
        assert!(is_asked(&circuit, number));
        advance(Duration::from_millis(300)).await; // ten in three seconds
    }
}

#[tokio::test(start_paused = true)]
async fn many_keys_within_a_short_time_open_it_unless_one_is_answered() {
    let circuit = Circuit::new();
    for number in 0..200 {
        if number % 15 == 0 {
            circuit.answered(Instant::now());
        }
        fails(&circuit, number);
    }
    assert!(is_asked(&circuit, 0));
    assert!(!is_asked(&opened(), 0));
}

#[tokio::test(start_paused = true)]
async fn three_keys_that_find_nobody_open_it() {
    let circuit = Circuit::new();
    circuit.answered(Instant::now());
    for _ in 0..10 {
        assert_eq!(circuit.unreachable(key(1), Instant::now()), ILL, "no key's doing");
    }
    circuit.unreachable(key(2), Instant::now());
    assert!(is_asked(&circuit, 3));
    assert_eq!(circuit.unreachable(key(3), Instant::now()), ILL_NOW);
    assert!(!is_asked(&circuit, 3) && !circuit.is_up(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_open_one_is_let_through_every_so_often_and_an_answer_closes_it() {
    let circuit = opened();
    assert!(!is_asked(&circuit, 1));
    advance(TRIAL).await;
    assert!(is_asked(&circuit, 1));
    assert!(!is_asked(&circuit, 2), "one");
    assert_eq!(fails(&circuit, 1), ILL);
    advance(TRIAL).await;
    assert!(!is_asked(&circuit, 1), "another is tried: it may be this one that is not answered");
    assert!(is_asked(&circuit, 2), "though the first had not come back");
    assert!(circuit.answered(Instant::now()), "news");
    assert!(!circuit.answered(Instant::now()), "none");
    assert!(is_asked(&circuit, 1) && is_asked(&circuit, 3) && circuit.is_up(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_tried_in_vain_is_tried_again_later() {
    let circuit = opened();
    advance(TRIAL).await;
    assert!(is_asked(&circuit, 1));
    advance(BARRED - Duration::from_millis(1)).await;
    assert!(!is_asked(&circuit, 1));
    advance(Duration::from_millis(1)).await;
    assert!(is_asked(&circuit, 1));
}

#[tokio::test(start_paused = true)]
async fn what_ran_out_of_its_scans_time_counts_for_nothing() {
    let circuit = Circuit::new();
    circuit.answered(Instant::now());
    for _ in 0..100 {
        assert_eq!(circuit.not_waited_for(Instant::now()), Verdict::TheKey);
    }
    assert!(circuit.is_up(Instant::now()));
}
