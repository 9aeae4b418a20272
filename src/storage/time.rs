//! Times as columns hold them.

use chrono::{DateTime, Utc};

/// Our clock in nanoseconds, which reaches from 1677 to 2262; beyond, the nearest that can be said.
pub(crate) fn nanos(time: DateTime<Utc>) -> i64 {
    let bound = if time < DateTime::UNIX_EPOCH { i64::MIN } else { i64::MAX };
    time.timestamp_nanos_opt().unwrap_or(bound)
}

/// The time that such a number tells.
pub(crate) fn instant(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}
