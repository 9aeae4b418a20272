//! Reads `authEvent.timestamp`. Only one strict form of UTC is accepted, so every part of the service reads it the same
//! way.

use std::ops::Range;

use chrono::{DateTime, NaiveDate, Utc};

/// Reads `YYYY-MM-DDTHH:MM:SS`, a fraction of 1 to 9 digits or none, then `Z` or `+00:00`; capitals, seconds 00 to 59.
/// `None` for anything else, a date that does not exist included.
#[must_use]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_strict_utc_form_is_accepted() {
        for good in [
            "2024-02-09T17:53:57Z",
            "2024-02-29T00:00:00+00:00",
            "2024-02-09T17:53:57.1Z",
            "2024-02-09T17:53:57.123456789+00:00",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert!(parse_utc(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "Z",
            "2024-02-09T17:53:57",
            "2024-02-09t17:53:57Z",
            "2024-02-09T17:53:57z",
            "2024-02-09 17:53:57Z",
            "2024-02-09T17:53:57-00:00",
            "2024-02-09T17:53:57+01:00",
            "2024-02-09T17:53:57.Z",
            "2024-02-09T17:53:57.1234567890Z",
            "2024-02-09T17:53:60Z",
            "2024-02-09T24:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-2-9T17:53:57Z",
            "+024-02-09T17:53:57Z",
            "12024-02-09T17:53:57Z",
            "2024-02-09T17:53:57.12.3Z",
            "２024-02-09T17:53:57Z",
            "2024-02-09T17:53:57ZZ",
        ] {
            assert_eq!(parse_utc(bad), None, "{bad}");
        }
    }

    #[test]
    fn fraction_is_kept_to_the_nanosecond() {
        let time = parse_utc("2024-02-09T17:53:57.000000001Z").expect("valid");
        assert_eq!(time.timestamp_subsec_nanos(), 1);
    }
}
