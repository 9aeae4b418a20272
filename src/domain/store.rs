//! A store and its settings: whether it is enabled, takes cash, and what it checks at the exit.

use chrono::TimeDelta;

use super::ids::StoreId;
use super::scan::Location;
use super::words::words;

/// One store of the retailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The store id that Amazon assigned.
    pub id: StoreId,
    /// A disabled store refuses scans at entry gates and still answers exit gates.
    pub enabled: bool,
    /// Whether cash shoppers may enter.
    pub takes_cash: bool,
    /// What the gate does when the connector answers 500 until Amazon's retries are used up. This is a setting at
    /// Amazon; the connector uses its copy only in metrics and warnings.
    pub default_gate_decision: GateDefault,
    /// How long a Scan Key Code is valid.
    pub scan_key_window: ScanKeyWindow,
    /// Whether the account rules apply at exit gates.
    pub exit_policy: ExitPolicy,
}

impl Store {
    /// Whether this store answers scans at that location.
    pub fn serves(&self, location: Location) -> bool {
        self.enabled || location == Location::Exit
    }
}

/// The default gate decision of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateDefault {
    /// The gate opens if the connector gives no decision in time.
    Open,
    /// The gate stays closed.
    #[default]
    Closed,
}

words!(GateDefault { Open = "open", Closed = "closed" });

/// What is checked at an exit gate once the shopper is identified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitPolicy {
    /// Nothing, so that no shopper is locked in. The default.
    #[default]
    LetOut,
    /// The account rules, as at the entry.
    CheckAccount,
}

words!(ExitPolicy { LetOut = "let_out", CheckAccount = "check_account" });

/// How long a Scan Key Code is valid: 30 to 90 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanKeyWindow(u8);

impl ScanKeyWindow {
    /// The default window: 60 seconds.
    pub const DEFAULT: Self = Self(60);

    /// The longest window of a store: 90 seconds.
    pub const LONGEST: Self = Self(90);

    /// Takes 30 to 90 seconds.
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        u8::try_from(seconds).ok().filter(|seconds| (30..=Self::LONGEST.0).contains(seconds)).map(Self)
    }

    /// In seconds.
    pub fn seconds(self) -> u64 {
        self.0.into()
    }

    /// As a span of time.
    pub fn as_delta(self) -> TimeDelta {
        TimeDelta::seconds(self.0.into())
    }
}
