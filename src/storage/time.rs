//! Conversion between times and the integers in database columns.

use chrono::{DateTime, Utc};

/// Nanoseconds since 1970. Times outside the years 1677 to 2262 become the nearest value that an `i64` can hold.
pub(crate) fn to_nanos(time: DateTime<Utc>) -> i64 {
    let bound = if time < DateTime::UNIX_EPOCH { i64::MIN } else { i64::MAX };
    time.timestamp_nanos_opt().unwrap_or(bound)
}

/// The time of a number of nanoseconds since 1970.
pub(crate) fn from_nanos(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}
