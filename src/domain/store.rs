//! A store and what it allows.

use chrono::TimeDelta;

use super::ids::StoreId;
use super::scan::Location;

/// One store of the retailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Amazon's name for it.
    pub id: StoreId,
    /// A disabled store lets nobody in; whoever is inside still gets out.
    pub enabled: bool,
    /// Whether cash shoppers may enter.
    pub takes_cash: bool,
    /// What Amazon's gate does when we answer 500 for too long. Amazon's setting, kept here for reference.
    pub default_gate_decision: GateDefault,
    /// How long a Scan Key Code is valid.
    pub scan_key_window: ScanKeyWindow,
    /// Whether the account is checked on the way out.
    pub exit_policy: ExitPolicy,
}

impl Store {
    /// Whether this store answers scans of that gate at all.
    #[must_use]
    pub fn serves(&self, location: Location) -> bool {
        self.enabled || location == Location::Exit
    }
}

/// The default gate decision of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateDefault {
    /// The gate opens when no answer can be had.
    Open,
    /// It stays shut.
    #[default]
    Closed,
}

/// What is checked at an exit gate once the shopper is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitPolicy {
    /// Nothing: nobody is locked in. The default.
    #[default]
    LetOut,
    /// The account rules, as at the entry.
    CheckAccount,
}

/// How long a Scan Key Code is valid: 30 to 90 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanKeyWindow(u8);

impl ScanKeyWindow {
    /// The window where none is given: 60 seconds.
    pub const DEFAULT: Self = Self(60);

    /// The longest window of a store: 90 seconds.
    pub const LONGEST: Self = Self(90);

    /// Takes 30 to 90 seconds.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        u8::try_from(seconds).ok().filter(|seconds| (30..=Self::LONGEST.0).contains(seconds)).map(Self)
    }

    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0.into()
    }

    /// As a span of time.
    #[must_use]
    pub fn as_delta(self) -> TimeDelta {
        TimeDelta::seconds(self.0.into())
    }
}
