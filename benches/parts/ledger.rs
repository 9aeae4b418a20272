//! Ledgers: recording a decision and finding a record.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use identity_connector::testing::domain::decision::{Decision, Grant};
use identity_connector::testing::domain::ids::VisitorId;
use identity_connector::testing::domain::scan::ScanDetails;
use identity_connector::testing::domain::visitor::{Visitor, VisitorType};
use identity_connector::testing::ledger::{Ledger, Lookup, MemoryLedger, NewRecord, Recorded, SqlLedger};
use identity_connector::testing::storage::{Database, Location};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::fixture::{SHOPPER, hash_key, limits, now, scan};
use crate::fresh::Fresh;

pub(crate) fn measure(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    memory(criterion, &runtime);
    sqlite(criterion, &runtime);
}

fn memory(criterion: &mut Criterion, runtime: &Runtime) {
    let empty = || Ledger::Memory(MemoryLedger::new(limits()));
    let deadline = deadline();
    let mut group = criterion.benchmark_group("ledger in memory");
    group.bench_function("record a new event", |bencher| {
        let mut ledgers = Fresh::new(empty);
        bencher.to_async(runtime).iter_batched(
            || {
                let (ledger, event) = ledgers.next();
                (ledger, accepted(event))
            },
            |(ledger, entry)| async move {
                record(&ledger, entry, deadline).await;
                ledger
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("find a record", |bencher| {
        let ledger = empty();
        let entry = accepted(1);
        runtime.block_on(record(&ledger, entry.clone(), deadline));
        bencher.to_async(runtime).iter(|| async {
            let found = ledger.find(entry.scan.event.id, &entry.fingerprint, now()).await.unwrap();
            assert!(matches!(found, Lookup::Recorded(_)));
            found
        });
    });
    group.finish();
}

/// Records one decision at a time, so that each needs its own commit, as in a quiet store. The cost of a commit depends
/// on the disk.
fn sqlite(criterion: &mut Criterion, runtime: &Runtime) {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let location = Location::Sqlite(folder.path().join("connector.db"));
    let ledger = runtime.block_on(async {
        let database = Database::open(&location, Some(hash_key())).await.unwrap();
        Arc::new(Ledger::Sql(SqlLedger::open(database, limits()).await.unwrap()))
    });
    let deadline = deadline();
    let mut events = 0..;
    let mut group = criterion.benchmark_group("ledger in SQLite");
    group.bench_function("record a new event", |bencher| {
        bencher.to_async(runtime).iter_batched(
            || accepted(events.next().unwrap()),
            async |entry| record(&ledger, entry, deadline).await,
            BatchSize::SmallInput,
        );
    });
    group.finish();
    runtime.block_on(ledger.close()).unwrap();
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

async fn record(ledger: &Ledger, entry: NewRecord, deadline: Instant) {
    let recorded = ledger.record(entry, now(), deadline).await.unwrap();
    assert!(matches!(recorded, Recorded::New(_)));
}

fn accepted(event: u64) -> NewRecord {
    let scan = scan(event);
    let visitor = Visitor { id: VisitorId::parse(SHOPPER).unwrap(), kind: VisitorType::Shopper };
    NewRecord {
        fingerprint: hash_key().fingerprint(&scan.identity_key, &scan.store_id, scan.event.location),
        scan: ScanDetails { event: scan.event, store_id: scan.store_id, channel: scan.channel, caller: None },
        decision: Decision::Accepted(Grant { visitor, device: None, payment_source: None }),
        code: None,
    }
}
