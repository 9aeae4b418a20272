//! What the tests, benchmarks and fuzz targets use besides [`app`](crate::app) and [`config`](crate::config). It
//! follows the layout of the crate, and may change at any time.

pub mod admin {
    pub mod openapi {
        pub use crate::admin::openapi::document;
    }
}
pub mod cache {
    pub use crate::cache::{Cache, keeping_newest, keeping_used};
}
pub mod callers {
    pub use crate::callers::{Caller, Callers, KeyDigest, Stores};
}
pub mod digest {
    pub use crate::digest::{Digest, Fingerprint, HashKey};
}
pub mod directory {
    pub use crate::directory::{
        Change, Directory, Fault, Faults, IdentityBackend, Issued, IssuedToken, Outcome, Refusal, Registration,
        ScanContext,
    };
    pub mod backend {
        pub use crate::directory::backend::{Credentials, Limits, Settings, parse_url};
    }
    pub mod file {
        pub use crate::directory::file::parse;
    }
}
pub mod domain {
    pub mod customer {
        pub use crate::domain::customer::{AnonymousId, Customer};
    }
    pub mod decision {
        pub use crate::domain::decision::{Decision, Denial, Grant, Known, decide};
    }
    pub mod identity_key {
        pub use crate::domain::identity_key::{IdentityKey, Presented};
    }
    pub mod ids {
        pub use crate::domain::ids::{DeviceId, EventId, Issuer, StoreId, SubjectId, VisitorId};
    }
    pub mod scan {
        pub use crate::domain::scan::{AuthEvent, KeyChannel, Location, Scan, ScanDetails};
    }
    pub mod scan_key_code {
        pub use crate::domain::scan_key_code::{
            MAX_LENGTH, MIN_LENGTH, RecognitionToken, ScanKeyFormat, SigningKeys, TimestampUnit, WriteError,
        };
    }
    pub mod store {
        pub use crate::domain::store::{ExitPolicy, GateDefault, ScanKeyWindow, Store};
    }
    pub mod visitor {
        pub use crate::domain::visitor::{Account, Holder, Month, PaymentMethod, Shopper, Visitor, VisitorType};
    }
}
pub mod gate_api {
    pub use crate::gate_api::{Admission, Api, IDENTITY_KEYS, InFlight, Invalid, read_scan, router};
}
pub mod http {
    pub use crate::http::Readiness;
}
pub mod ledger {
    pub use crate::ledger::{Ledger, Limits, Lookup, MemoryLedger, NewRecord, Recorded, SessionEffect, SqlLedger};
}
pub mod observe {
    pub mod logs {
        pub use crate::observe::logs::{dropped_lines, init};
    }
    pub mod metrics {
        pub use crate::observe::metrics::Metrics;
    }
}
pub mod rate_limit {
    pub use crate::rate_limit::{Allowance, RateLimits};
}
pub mod shopper {
    pub mod carts {
        pub use crate::shopper::carts::CartStore;
        pub mod rules {
            pub use crate::shopper::carts::rules::{
                CartId, CartName, CartRefusal, Carts, Currency, Market, Quantity, Sku,
            };
        }
    }
}
pub mod simulator {
    pub use crate::simulator::{Cause, Gate, GateDecision, GateReport, GateScan, GateSettings, Outcome};
}
pub mod storage {
    pub use crate::storage::{Database, Location};
}
pub mod tls {
    pub use crate::tls::Tls;
}
pub mod verify {
    pub use crate::verify::{Connector, Verdict};
}
