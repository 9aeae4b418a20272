//! The decision rules, for an identified shopper.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use identity_connector::testing::domain::decision::{Decision, Denial, decide};
use identity_connector::testing::domain::ids::{StoreId, VisitorId};
use identity_connector::testing::domain::store::{ExitPolicy, GateDefault, ScanKeyWindow, Store};
use identity_connector::testing::domain::visitor::{
    Account, Holder, Month, PaymentMethod, Shopper, Visitor, VisitorType,
};

use crate::fixture::{SHOPPER, STORE, scan};

pub(crate) fn measure(criterion: &mut Criterion) {
    let event = scan(1).event;
    let store = Store {
        id: StoreId::parse(STORE).unwrap(),
        enabled: true,
        takes_cash: false,
        default_gate_decision: GateDefault::Closed,
        scan_key_window: ScanKeyWindow::DEFAULT,
        exit_policy: ExitPolicy::LetOut,
    };
    let mut group = criterion.benchmark_group("decision");
    for (name, last_month, accepts) in [("accepted", "2099-12", true), ("refused", "2026-10", false)] {
        let holder = paying_until(last_month);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || holder.clone(),
                |holder| {
                    let decision = decide(black_box(&event), black_box(&store), holder, false);
                    match &decision {
                        Decision::Accepted(_) => assert!(accepts),
                        Decision::Denied { reason, .. } => assert!(!accepts && *reason == Denial::PaymentExpired),
                    }
                    decision
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A shopper with a payment method that is valid until this month. The rule about it is the last one about an account.
fn paying_until(month: &str) -> Holder {
    let shopper = Shopper {
        visitor: Visitor { id: VisitorId::parse(SHOPPER).unwrap(), kind: VisitorType::Shopper },
        account: Account::Active,
        payment_method: Some(PaymentMethod { id: None, last_valid_month: Month::parse(month).unwrap() }),
    };
    Holder { shopper: Arc::new(shopper), device: None }
}
