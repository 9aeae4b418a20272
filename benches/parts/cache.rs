//! Caches: adding the last entries before a cache is full, the first ones beyond its capacity, and later ones.

use criterion::{BatchSize, Criterion, Throughput};
use identity_connector::testing::cache::{Cache, keeping_newest, keeping_used};

use crate::fixture::CAPACITY;

type Entries = Cache<[u64; 4], u64>;

/// The number of entries added in one measurement.
const ADDED: u64 = 100;

pub(crate) fn measure(criterion: &mut Criterion) {
    measure_kind(criterion, "cache of used entries", keeping_used);
    measure_kind(criterion, "cache of the newest entries", keeping_newest);
}

fn measure_kind(criterion: &mut Criterion, name: &str, new: fn(usize) -> Entries) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(ADDED)).sample_size(10);
    for (name, before) in [
        ("add up to entry 100 000", CAPACITY - ADDED),
        ("add from entry 100 001", CAPACITY),
        ("add from entry 400 001", 4 * CAPACITY),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    let cache = new(usize::try_from(CAPACITY).unwrap());
                    add(&cache, 0, before);
                    cache
                },
                |cache| {
                    add(&cache, before, ADDED);
                    cache
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn add(cache: &Entries, before: u64, number: u64) {
    for entry in before..before + number {
        cache.insert([entry; 4], entry); // a key of the length of a digest
    }
}
