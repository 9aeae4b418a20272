//! Reads `authEvent.timestamp`. Only one strict form of UTC is accepted, so every part of the service reads it the same
//! way.

use std::ops::Range;

use chrono::{DateTime, NaiveDate, Utc};

/// Reads `YYYY-MM-DDTHH:MM:SS`, a fraction of 1 to 9 digits or none, then `Z` or `+00:00`; capitals, seconds 00 to 59.
/// `None` for anything else, a date that does not exist included.
pub(crate) fn parse_utc(text: &str) -> Option<DateTime<Utc>> {
    let local = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (seconds, fraction) = match local.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (local, None),
    };
    // Check the shape first: `str::parse` also accepts signs and other widths.
    let shape = b"0000-00-00T00:00:00";
    let shaped = seconds.len() == shape.len()
        && seconds.bytes().zip(shape).all(|(byte, want)| match want {
            b'0' => byte.is_ascii_digit(),
            _ => byte == *want,
        });
    let fraction_fits =
        fraction.is_none_or(|digits| (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
    if !shaped || !fraction_fits {
        return None;
    }
    let number = |at: Range<usize>| seconds.get(at)?.parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(number(0..4)?.try_into().ok()?, number(5..7)?, number(8..10)?)?;
    let nanoseconds = match fraction {
        Some(digits) => format!("{digits:0<9}").parse().ok()?,
        None => 0,
    };
    date.and_hms_nano_opt(number(11..13)?, number(14..16)?, number(17..19)?, nanoseconds).map(|time| time.and_utc())
}
