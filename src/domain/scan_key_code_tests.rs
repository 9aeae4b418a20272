use proptest::prelude::*;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789ABCDEF";

fn format(unit: TimestampUnit) -> ScanKeyFormat {
    ScanKeyFormat::new("ACME", unit).expect("a valid format")
}

fn token() -> RecognitionToken {
    RecognitionToken::parse(TOKEN).expect("a valid token")
}

fn at(seconds: i64, nanos: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, nanos).expect("in range")
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        prefix in "[0-9A-Za-z]{4,20}",
        token in "[0-9A-Za-z]{32}",
        seconds in 1_000_000_000_i64..=9_999_999_999,
        milliseconds in 0_u32..1000,
        custom in "[0-9A-Za-z]{0,80}",
        in_milliseconds: bool,
    ) {
        let unit = if in_milliseconds { TimestampUnit::Milliseconds } else { TimestampUnit::Seconds };
        let format = ScanKeyFormat::new(&prefix, unit).expect("valid");
        let token = RecognitionToken::parse(&token).expect("valid");
        let nanos = if in_milliseconds { milliseconds.saturating_mul(1_000_000) } else { 0 };
        let made_at = at(seconds, nanos);
        let code = format.write(&token, made_at, &custom).expect("fits");
        prop_assert_eq!(format.read(&code), Some(ScanKeyCode { token, made_at, custom: &custom }));
    }

    #[test]
    fn whatever_reads_writes_back_to_the_same_code(code in "JWOACME[0-9A-Za-z]{32}[1-9][0-9]{9}[0-9A-Za-z]{0,105}") {
        let format = format(TimestampUnit::Seconds);
        let read = format.read(&code);
        prop_assert!(read.is_some(), "{}", code);
        if let Some(read) = read {
            prop_assert_eq!(format.write(&read.token, read.made_at, read.custom), Ok(code.clone()));
        }
    }

    /// A good code with one character changed, put in or taken out: it is refused, or reads as what it then is.
    #[test]
    fn no_change_of_a_code_breaks_the_reader(
        code in "JWOACME[0-9A-Za-z]{32}[1-9][0-9]{9}[0-9A-Za-z]{0,105}",
        place in 0_usize..160,
        put in proptest::option::of(any::<char>()),
        keep: bool,
    ) {
        let format = format(TimestampUnit::Seconds);
        let mut characters: Vec<char> = code.chars().collect();
        let place = place.min(characters.len());
        let end = if keep { place } else { place.saturating_add(1).min(characters.len()) };
        characters.splice(place..end, put);
        let changed: String = characters.into_iter().collect();
        if let Some(read) = format.read(&changed)
            && read.made_at.timestamp() >= 1_000_000_000
        {
            prop_assert_eq!(format.write(&read.token, read.made_at, read.custom), Ok(changed.clone()));
        }
    }

    #[test]
    fn no_text_breaks_the_reader(code in any::<String>()) {
        prop_assert_eq!(format(TimestampUnit::Milliseconds).read(&code), None);
    }
}

#[test]
fn a_code_has_49_to_154_characters() {
    let format = format(TimestampUnit::Seconds);
    let shortest = format.write(&token(), at(1_707_501_237, 0), "").expect("fits");
    assert_eq!(shortest.len(), 49);
    assert!(format.read(&shortest).is_some());
    assert_eq!(format.read(shortest.get(..48).expect("ASCII")), None);

    let longest = format.write(&token(), at(1_707_501_237, 0), &"x".repeat(105)).expect("fits");
    assert_eq!(longest.len(), 154);
    assert!(format.read(&longest).is_some());
    assert_eq!(format.read(&format!("{longest}x")), None);
    assert_eq!(format.write(&token(), at(1_707_501_237, 0), &"x".repeat(106)), Err(WriteError::TooLong(105)));
}

#[test]
fn a_wrong_prefix_character_or_timestamp_does_not_read() {
    let format = format(TimestampUnit::Seconds);
    let good = format.write(&token(), at(1_707_501_237, 0), "abc").expect("fits");
    assert!(format.read(&good).is_some());
    for bad in [
        good.replacen("JWO", "ABC", 1),
        good.replacen("JWO", "jwo", 1),
        good.replacen("ACME", "ACMF", 1),
        good.replacen("0123456789a", "0123456789-", 1),
        good.replacen("1707501237", "170750123x", 1),
        good.replacen("abc", "ab ", 1),
        good.replacen("abc", "äbc", 1),
    ] {
        assert_eq!(format.read(&bad), None, "{bad}");
    }
}

#[test]
fn a_code_is_fresh_to_the_very_instant() {
    let code = ScanKeyCode { token: token(), made_at: at(1_707_501_000, 0), custom: "" };
    let window = ScanKeyWindow::from_seconds(60).expect("in range");
    for (event_at, want) in [
        (at(1_707_501_075, 0), Ok(())),
        (at(1_707_501_075, 1), Err(Denial::KeyExpired)),
        (at(1_707_501_076, 0), Err(Denial::KeyExpired)),
        (at(1_707_500_985, 0), Ok(())),
        (at(1_707_500_984, 999_999_999), Err(Denial::InvalidKey)),
        (at(1_707_500_984, 0), Err(Denial::InvalidKey)),
    ] {
        assert_eq!(code.check_age(event_at, window), want, "{event_at}");
    }
}

#[test]
fn a_format_whose_codes_have_no_lawful_length_is_refused() {
    assert_eq!(ScanKeyFormat::new("ABC", TimestampUnit::Seconds), Err(FormatError::Length(48)));
    assert!(ScanKeyFormat::new("A", TimestampUnit::Milliseconds).is_ok());
    assert!(ScanKeyFormat::new(&"A".repeat(109), TimestampUnit::Seconds).is_ok());
    assert_eq!(ScanKeyFormat::new(&"A".repeat(110), TimestampUnit::Seconds), Err(FormatError::Length(155)));
    assert_eq!(ScanKeyFormat::new("AC-E", TimestampUnit::Seconds), Err(FormatError::NotAlphanumeric));
}

#[test]
fn the_pattern_is_the_merchant_portals() {
    assert_eq!(format(TimestampUnit::Seconds).pattern(), "^JWOACME[0-9A-Za-z]{32}[0-9]{10}[0-9A-Za-z]{0,105}$");
    assert_eq!(format(TimestampUnit::Milliseconds).pattern(), "^JWOACME[0-9A-Za-z]{32}[0-9]{13}[0-9A-Za-z]{0,102}$");
}

#[test]
fn a_time_that_does_not_fit_is_refused() {
    let format = format(TimestampUnit::Seconds);
    for seconds in [-1, -999_999_999, 999_999_999, 10_000_000_000] {
        assert_eq!(format.write(&token(), at(seconds, 0), ""), Err(WriteError::Time), "{seconds}");
    }
}
