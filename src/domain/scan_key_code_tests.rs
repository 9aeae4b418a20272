//! Tests of Scan Key Codes: writing and reading them, the bounds of their length and age, and signatures.

use proptest::prelude::*;

use super::*;
use crate::domain::scan::parse_utc;

const TOKEN: &str = "0123456789abcdef0123456789ABCDEF";

fn format(unit: TimestampUnit) -> ScanKeyFormat {
    ScanKeyFormat::new("ACME", unit, None).expect("a valid format")
}

/// The same format, signed with these keys; the first one signs.
fn signed(keys: &[[u8; 32]]) -> ScanKeyFormat {
    ScanKeyFormat::new("ACME", TimestampUnit::Seconds, SigningKeys::new(keys)).expect("a valid format")
}

fn token() -> RecognitionToken {
    RecognitionToken::parse(TOKEN).expect("a valid token")
}

fn at(seconds: i64, nanos: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, nanos).expect("in range")
}

proptest! {
    #[test]
    fn written_code_reads_back(
        prefix in "[0-9A-Za-z]{4,20}",
        token in "[0-9A-Za-z]{32}",
        seconds in 1_000_000_000_i64..=9_999_999_999,
        milliseconds in 0_u32..1000,
        custom in "[0-9A-Za-z]{0,69}",
        in_milliseconds: bool,
        keys in proptest::collection::vec(any::<[u8; 32]>(), 0..3),
    ) {
        let unit = if in_milliseconds { TimestampUnit::Milliseconds } else { TimestampUnit::Seconds };
        let format = ScanKeyFormat::new(&prefix, unit, SigningKeys::new(&keys)).expect("valid");
        let token = RecognitionToken::parse(&token).expect("valid");
        let nanos = if in_milliseconds { milliseconds.saturating_mul(1_000_000) } else { 0 };
        let made_at = at(seconds, nanos);
        let code = format.write(&token, made_at, &custom).expect("fits");
        prop_assert_eq!(format.read(&code), Some(ScanKeyCode { token, made_at, custom: &custom }));
    }

    /// Covers the characters before the signature and the signature itself.
    #[test]
    fn signed_code_with_one_edit_is_refused(
        custom in "[0-9A-Za-z]{0,87}",
        key: [u8; 32],
        index in any::<prop::sample::Index>(),
        inserted in "[0-9A-Za-z]",
        change in 0..3,
    ) {
        let format = signed(&[key]);
        let code = format.write(&token(), at(1_707_501_237, 0), &custom).expect("fits");
        let mut changed = code.clone();
        let index = index.index(code.len());
        match change {
            0 => changed.replace_range(index..=index, &inserted),
            1 => changed.insert_str(index, &inserted),
            _ => drop(changed.remove(index)),
        }
        prop_assert_eq!(format.read(&changed).is_some(), changed == code, "{}", changed);
    }

    #[test]
    fn code_that_reads_is_written_back_unchanged(code in "JWOACME[0-9A-Za-z]{32}[1-9][0-9]{9}[0-9A-Za-z]{0,105}") {
        let format = format(TimestampUnit::Seconds);
        let read = format.read(&code);
        prop_assert!(read.is_some(), "{}", code);
        if let Some(read) = read {
            prop_assert_eq!(format.write(&read.token, read.made_at, read.custom), Ok(code.clone()));
        }
    }

    /// A valid code with one character changed, inserted or removed: it is refused, or reads as the changed code.
    #[test]
    fn edited_code_never_breaks_the_reader(
        code in "JWOACME[0-9A-Za-z]{32}[1-9][0-9]{9}[0-9A-Za-z]{0,105}",
        index in 0_usize..160,
        inserted in proptest::option::of(any::<char>()),
        insert_only: bool,
    ) {
        let format = format(TimestampUnit::Seconds);
        let mut characters: Vec<char> = code.chars().collect();
        let index = index.min(characters.len());
        let end = if insert_only { index } else { index.saturating_add(1).min(characters.len()) };
        characters.splice(index..end, inserted);
        let changed: String = characters.into_iter().collect();
        if let Some(read) = format.read(&changed)
            && read.made_at.timestamp() >= 1_000_000_000
        {
            prop_assert_eq!(format.write(&read.token, read.made_at, read.custom), Ok(changed.clone()));
        }
    }

    #[test]
    fn arbitrary_text_never_breaks_the_reader(code in any::<String>()) {
        prop_assert_eq!(format(TimestampUnit::Milliseconds).read(&code), None);
    }
}

#[test]
fn code_has_49_to_154_characters() {
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
fn wrong_prefix_character_or_timestamp_is_refused() {
    let format = format(TimestampUnit::Seconds);
    let good = format.write(&token(), at(1_707_501_237, 0), "Az09").expect("fits");
    assert!(format.read(&good).is_some());
    let prefixes = ["ABCACME", "jwoACME", "JW0ACME", "JWOacme", "JWOACMF", "JWOBCME", "ACMEJWO", "JWO0000", "JWO"];
    let mut bad: Vec<String> = prefixes.map(|prefix| good.replacen("JWOACME", prefix, 1)).into();
    let times = ["170750123a", "+707501237", "0x65C66B75", "17O7501237", "1e00000009", "          ", "170750123."];
    bad.extend(times.map(|time| good.replacen("1707501237", time, 1)));
    for character in ["@", " ", "-", "_", "=", "\n", "é"] {
        bad.extend([format!("{good}{character}"), format!("{character}{good}")]);
        for position in 0..good.len() {
            let mut edited = good.clone();
            edited.replace_range(position..=position, character);
            bad.push(edited);
        }
    }
    for bad in bad {
        assert_eq!(format.read(&bad), None, "{bad}");
    }
}

#[test]
fn age_is_compared_to_the_exact_instant() {
    let window = ScanKeyWindow::from_seconds(60).expect("in range");
    let (too_old, too_new) = (Err(Denial::KeyExpired), Err(Denial::InvalidKey));
    let last = "9999-12-31T23:59:59.999999999Z";
    for (made_at, event_at, want) in [
        ("1707501000", "2024-02-09T17:50:00Z", Ok(())),
        ("1707501000", "2024-02-09T17:51:15Z", Ok(())),
        ("1707501000", "2024-02-09T17:51:15.000000001Z", too_old),
        ("1707501000", "2024-02-09T17:51:15.999Z", too_old),
        ("1707501000", "2024-02-09T17:51:16Z", too_old),
        ("1707501000", "2024-02-09T17:49:45Z", Ok(())),
        ("1707501000", "2024-02-09T17:49:44.999999999Z", too_new),
        ("1707501000", "2024-02-09T17:49:44.5Z", too_new),
        ("0000000000", "1970-01-01T00:01:15Z", Ok(())),
        ("0000000000", "2024-02-09T17:50:00Z", too_old),
        ("0000000000", last, too_old),
        ("9999999999", last, too_old),
        ("9999999999", "2024-02-09T17:50:00Z", too_new),
        ("0000000000", "0001-01-01T00:00:00Z", too_new),
        ("9999999999", "0001-01-01T00:00:00Z", too_new),
        ("1707501000000", "2024-02-09T17:51:15Z", Ok(())),
        ("1707501000001", "2024-02-09T17:51:15.001Z", Ok(())),
        ("1707501000001", "2024-02-09T17:51:15.001000001Z", too_old),
        ("1707501000001", "2024-02-09T17:49:45.001Z", Ok(())),
        ("1707501000001", "2024-02-09T17:49:45.000999999Z", too_new),
    ] {
        let unit = if made_at.len() == 10 { TimestampUnit::Seconds } else { TimestampUnit::Milliseconds };
        let code = format!("JWOACME{TOKEN}{made_at}");
        let age = format(unit).read(&code).map(|code| code.check_age(parse_utc(event_at).expect("valid"), window));
        assert_eq!(age, Some(want), "made at {made_at}, scanned at {event_at}");
    }
}

#[test]
fn format_with_codes_of_invalid_length_is_refused() {
    let (seconds, milliseconds) = (TimestampUnit::Seconds, TimestampUnit::Milliseconds);
    let refusal =
        |prefix: &str, unit, keys: &[[u8; 32]]| ScanKeyFormat::new(prefix, unit, SigningKeys::new(keys)).err();
    assert_eq!(refusal("ABC", seconds, &[]), Some(FormatError::Length(48)));
    assert_eq!(refusal("A", milliseconds, &[]), None);
    assert_eq!(refusal(&"A".repeat(109), seconds, &[]), None);
    assert_eq!(refusal(&"A".repeat(110), seconds, &[]), Some(FormatError::Length(155)));
    assert_eq!(refusal("AC-E", seconds, &[]), Some(FormatError::NotAlphanumeric));

    let key = [[1; 32]];
    assert_eq!(refusal("A", seconds, &key), None);
    assert_eq!(refusal(&"A".repeat(92), seconds, &key), None);
    assert_eq!(refusal(&"A".repeat(93), seconds, &key), Some(FormatError::Length(155)));
    assert_eq!(refusal(&"A".repeat(89), milliseconds, &key), None);
    assert_eq!(refusal(&"A".repeat(90), milliseconds, &key), Some(FormatError::Length(155)));
}

#[test]
fn pattern_matches_the_merchant_portals_form() {
    assert_eq!(format(TimestampUnit::Seconds).pattern(), "^JWOACME[0-9A-Za-z]{32}[0-9]{10}[0-9A-Za-z]{0,105}$");
    assert_eq!(format(TimestampUnit::Milliseconds).pattern(), "^JWOACME[0-9A-Za-z]{32}[0-9]{13}[0-9A-Za-z]{0,102}$");
    assert_eq!(signed(&[[1; 32]]).pattern(), "^JWOACME[0-9A-Za-z]{32}[0-9]{10}[0-9A-Za-z]{17,105}$");
}

/// The expected value comes from another implementation (Python's `hmac`) that follows the module's documentation.
#[test]
fn signature_matches_its_documentation() {
    let code = signed(&[[1; 32]]).write(&token(), at(1_707_501_237, 0), "abc").expect("fits");
    assert_eq!(code, "JWOACME0123456789abcdef0123456789ABCDEF1707501237abcGjJ6IaPV5UDNk9IJj");
}

#[test]
fn signed_code_has_at_most_154_characters() {
    let format = signed(&[[1; 32]]);
    assert_eq!(format.max_custom(), 88);
    for custom in ["", &"x".repeat(88)] {
        let code = format.write(&token(), at(1_707_501_237, 0), custom).expect("fits");
        assert_eq!(code.len(), 66 + custom.len());
        assert_eq!(format.read(&code).map(|code| code.custom), Some(custom));
        assert_eq!(format.read(&format!("{code}x")), None);
    }
    assert_eq!(format.write(&token(), at(1_707_501_237, 0), &"x".repeat(89)), Err(WriteError::TooLong(88)));
    // A text that is too short to contain a signature is refused.
    for length in 0..66 {
        let cut: String =
            format.write(&token(), at(1_707_501_237, 0), "").expect("fits").chars().take(length).collect();
        assert_eq!(format.read(&cut), None, "{length}");
    }
}

#[test]
fn changing_any_character_of_a_signed_code_is_detected() {
    let format = signed(&[[1; 32], [2; 32]]);
    let code = format.write(&token(), at(1_707_501_237, 0), "abc").expect("fits");
    assert!(format.read(&code).is_some());
    for index in 0..code.len() {
        for other in ('0'..='9').chain('A'..='Z').chain('a'..='z') {
            let mut changed = code.clone();
            changed.replace_range(index..=index, &other.to_string());
            assert_eq!(format.read(&changed).is_some(), changed == code, "{changed}");
        }
    }
}

#[test]
fn first_key_signs_and_all_keys_verify() {
    let (old, both, new) = ([1; 32], [[2; 32], [1; 32]], [2; 32]);
    let write = |format: &ScanKeyFormat| format.write(&token(), at(1_707_501_237, 0), "abc").expect("fits");
    let (by_old, by_both) = (write(&signed(&[old])), write(&signed(&both)));
    assert_eq!(by_both, write(&signed(&[new])), "the first signs");
    assert!(signed(&both).read(&by_old).is_some() && signed(&both).read(&by_both).is_some());
    assert_eq!(signed(&[new]).read(&by_old), None, "a removed key verifies nothing");
    assert_eq!(signed(&[old]).read(&by_both), None);
}

/// A signature copied to another code is refused, and so is an unsigned code.
#[test]
fn signature_is_valid_only_for_its_own_code() {
    let format = signed(&[[1; 32]]);
    let write = |token: &RecognitionToken, seconds, custom| format.write(token, at(seconds, 0), custom).expect("fits");
    let good = write(&token(), 1_707_501_237, "abc");
    let another = RecognitionToken::parse(&TOKEN.to_lowercase()).expect("a token");
    let (code, _) = good.split_at(good.len() - 17);
    for other in [
        write(&another, 1_707_501_237, "abc"),
        write(&token(), 1_707_501_238, "abc"),
        write(&token(), 1_707_501_237, "abd"),
        write(&token(), 1_707_501_237, ""),
    ] {
        let (_, signature) = other.split_at(other.len() - 17);
        assert_eq!(format.read(&format!("{code}{signature}")), None);
    }
    let prefix = ScanKeyFormat::new("ACMF", TimestampUnit::Seconds, SigningKeys::new([[1; 32]])).expect("valid");
    let with_other_prefix = prefix.write(&token(), at(1_707_501_237, 0), "abc").expect("fits");
    assert_eq!(format.read(&with_other_prefix.replacen("ACMF", "ACME", 1)), None);
    assert_eq!(format.read(code), None, "the code is not signed");
    assert_eq!(format.read(&format!("{code}{}", "0".repeat(17))), None);
}

#[test]
fn signing_keys_cannot_be_printed() {
    assert!(!format!("{:?}", signed(&[[77; 32]])).contains("77"));
    assert!(SigningKeys::new([[0; 32]; 0]).is_none());
}

#[test]
fn time_that_does_not_fit_is_refused() {
    let format = format(TimestampUnit::Seconds);
    for seconds in [-1, -999_999_999, 999_999_999, 10_000_000_000] {
        assert_eq!(format.write(&token(), at(seconds, 0), ""), Err(WriteError::Time), "{seconds}");
    }
}
