use tokio::time::advance;

use super::*;
use crate::digest::Digest;

fn key(number: u8) -> Subject {
    Digest::from_bytes([number; 32]).into()
}

fn is_admitted(circuit: &Circuit, number: u8) -> bool {
    circuit.admits(key(number), Instant::now())
}

/// Records a request without an answer. Returns whether it opens the breaker.
fn fails(circuit: &Circuit, number: u8) -> bool {
    circuit.unanswered(key(number), Instant::now())
}

fn opened() -> Circuit {
    let circuit = Circuit::new();
    for number in 0..15 {
        assert!(!fails(&circuit, number));
    }
    assert!(is_admitted(&circuit, 15));
    assert!(fails(&circuit, 15), "the sixteenth");
    circuit
}

#[tokio::test(start_paused = true)]
async fn one_key_that_always_fails_does_not_open_the_breaker() {
    let circuit = Circuit::new();
    for _ in 0..1000 {
        assert!(!fails(&circuit, 7));
        assert!(is_admitted(&circuit, 7) && circuit.is_up(Instant::now()));
        advance(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn three_keys_that_fail_with_no_answer_in_between_count_as_down() {
    let circuit = Circuit::new();
    for number in 0..2 {
        fails(&circuit, number);
        assert!(circuit.is_up(Instant::now()));
    }
    fails(&circuit, 2);
    assert!(!circuit.is_up(Instant::now()));
    circuit.answered(Instant::now());
    assert!(circuit.is_up(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn answer_is_known_from_its_time_on() {
    let circuit = Circuit::new();
    let asked = Instant::now();
    assert!(!circuit.is_answered_since(asked));
    circuit.answered(asked);
    assert!(circuit.is_answered_since(asked));
    advance(Duration::from_millis(1)).await;
    assert!(!circuit.is_answered_since(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn as_many_keys_as_one_gate_can_send_do_not_open_the_breaker() {
    let circuit = Circuit::new();
    for number in 0..250 {
        fails(&circuit, number);
        assert!(is_admitted(&circuit, number));
        advance(Duration::from_millis(300)).await; // ten in three seconds
    }
}

#[tokio::test(start_paused = true)]
async fn many_keys_within_a_short_time_open_the_breaker_unless_one_is_answered() {
    let circuit = Circuit::new();
    for number in 0..200 {
        if number % 15 == 0 {
            circuit.answered(Instant::now());
        }
        fails(&circuit, number);
    }
    assert!(is_admitted(&circuit, 0));
    assert!(!is_admitted(&opened(), 0));
}

#[tokio::test(start_paused = true)]
async fn failed_connections_for_three_keys_open_the_breaker() {
    let circuit = Circuit::new();
    circuit.answered(Instant::now());
    for _ in 0..10 {
        assert!(!circuit.unreachable(key(1), Instant::now()));
    }
    circuit.unreachable(key(2), Instant::now());
    assert!(is_admitted(&circuit, 3));
    assert!(circuit.unreachable(key(3), Instant::now()));
    assert!(!is_admitted(&circuit, 3) && !circuit.is_up(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_lets_one_key_through_per_interval_and_an_answer_closes_it() {
    let circuit = opened();
    assert!(!is_admitted(&circuit, 1));
    advance(TRIAL_INTERVAL).await;
    assert!(is_admitted(&circuit, 1));
    assert!(!is_admitted(&circuit, 2), "one key per interval");
    assert!(!fails(&circuit, 1), "the breaker was open before");
    advance(TRIAL_INTERVAL).await;
    assert!(!is_admitted(&circuit, 1), "the same key is not tried again so soon");
    assert!(is_admitted(&circuit, 2), "another key is tried");
    assert!(circuit.answered(Instant::now()), "the first answer closes it");
    assert!(!circuit.answered(Instant::now()), "it is closed already");
    assert!(is_admitted(&circuit, 1) && is_admitted(&circuit, 3) && circuit.is_up(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_tried_without_success_is_tried_again_later() {
    let circuit = opened();
    advance(TRIAL_INTERVAL).await;
    assert!(is_admitted(&circuit, 1));
    advance(SAME_KEY_AFTER - Duration::from_millis(1)).await;
    assert!(!is_admitted(&circuit, 1));
    advance(Duration::from_millis(1)).await;
    assert!(is_admitted(&circuit, 1));
}
