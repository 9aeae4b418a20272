//! The whole use case in memory: from a scan to its recorded decision.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use identity_connector::testing::domain::decision::Decision;
use identity_connector::testing::domain::scan::Scan;
use identity_connector::testing::observe::metrics::Metrics;
use identity_connector::testing::verify::{Connector, Verdict};
use tokio::runtime::Builder;
use tokio::time::Instant;

use crate::fixture::{connector, directory, now, scan};
use crate::fresh::Fresh;

pub(crate) fn measure(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let directory = runtime.block_on(directory());
    let deadline = Instant::now() + Duration::from_secs(3600);

    let mut group = criterion.benchmark_group("verify");
    group.bench_function("a new event", |bencher| {
        let mut connectors = Fresh::new(|| connector(&directory, Metrics::new()));
        bencher.to_async(&runtime).iter_batched(
            || {
                let (connector, event) = connectors.next();
                (connector, scan(event))
            },
            |(connector, scan)| async move {
                assert!(!is_replay(&connector, scan, deadline).await);
                connector
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("a replay", |bencher| {
        let connector = Arc::new(connector(&directory, Metrics::new()));
        assert!(!runtime.block_on(is_replay(&connector, scan(1), deadline)));
        bencher.to_async(&runtime).iter_batched(
            || scan(1),
            async |scan| assert!(is_replay(&connector, scan, deadline).await),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Verifies an accepted scan. Returns whether it was answered from its record.
async fn is_replay(connector: &Arc<Connector>, scan: Scan, deadline: Instant) -> bool {
    let fingerprint = connector.fingerprint(&scan);
    match connector.verify(scan, fingerprint, now(), deadline, ()).await.unwrap() {
        Verdict::Decided { record, replay } => {
            assert!(matches!(record.decision, Decision::Accepted(_)));
            replay
        }
        Verdict::Refused(refusal) => panic!("{refusal:?}"),
    }
}
