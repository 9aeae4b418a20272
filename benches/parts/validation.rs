//! Validation: from the bytes of a body to a scan.

use std::hint::black_box;

use criterion::Criterion;
use identity_connector::testing::gate_api::{Invalid, read_scan};

use crate::fixture::{CODE, body};

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validation");
    let good = body(1, CODE, "OPTICAL");
    group.bench_function("a good body", |bencher| {
        bencher.iter(|| read_scan(black_box(good.as_bytes())).unwrap());
    });
    let refused = body(1, CODE, "optical");
    group.bench_function("a body that breaks the last rule", |bencher| {
        bencher.iter(|| assert_eq!(read_scan(black_box(refused.as_bytes())).err(), Some(Invalid::KeyChannel)));
    });
    group.finish();
}
