//! Reading and writing Scan Key Codes, with and without a signature.

use std::hint::black_box;

use criterion::Criterion;
use identity_connector::testing::domain::scan_key_code::{ScanKeyFormat, SigningKeys, TimestampUnit};
use identity_connector::testing::domain::store::ScanKeyWindow;

use crate::fixture::{CODE, format, now};

pub(crate) fn measure(criterion: &mut Criterion) {
    let keys = SigningKeys::new([[7; 32]]);
    let signed = ScanKeyFormat::new("ACME", TimestampUnit::Seconds, keys).unwrap();
    let (token, at) = (format().read(CODE).unwrap().token, now());

    let mut group = criterion.benchmark_group("Scan Key Code");
    for (name, format) in [("plain", format()), ("signed", signed)] {
        let code = format.write(&token, at, "").unwrap();
        group.bench_function(format!("read, {name}"), |bencher| {
            bencher.iter(|| {
                let code = format.read(black_box(&code)).unwrap();
                code.check_age(black_box(at), ScanKeyWindow::DEFAULT).unwrap();
                code
            });
        });
        group.bench_function(format!("write, {name}"), |bencher| {
            bencher.iter(|| format.write(black_box(&token), black_box(at), "").unwrap());
        });
    }
    group.finish();
}
