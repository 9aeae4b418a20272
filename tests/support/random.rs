//! Property tests: checks on random values.

use std::panic::Location;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// Runs `check` on this number of values. If it panics, the test fails with the simplest such value, which is also
/// kept in `tests/proptest-regressions` and checked first from then on.
#[track_caller]
pub(crate) fn check_random<S: Strategy>(cases: u32, values: S, check: impl AsyncFn(S::Value)) {
    let source_file = Some(Location::caller().file());
    let config = Config { cases, source_file, max_shrink_iters: 500, ..Config::default() };
    let outcome = TestRunner::new(config).run(&values, |value| {
        block_in_place(|| Handle::current().block_on(check(value)));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// A small change to a text: a byte inserted, replaced or removed, or the rest cut off.
type Mutation = (u8, Index, u8);

/// Some changes at random positions.
pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    vec((0..4_u8, any::<Index>(), any::<u8>()), 0..6)
}

/// The text with these changes.
pub(crate) fn mutate(text: &str, mutations: Vec<Mutation>) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (kind, position, byte) in mutations {
        let at = position.index(bytes.len() + 1);
        match kind {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}
