//! Scan Key Codes: reading and writing are inverse, character for character.
#![no_main]

use chrono::DateTime;
use identity_connector::testing::domain::identity_key::{IdentityKey, Presented};
use identity_connector::testing::domain::scan_key_code::{
    MAX_LENGTH, MIN_LENGTH, RecognitionToken, ScanKeyFormat, SigningKeys, TimestampUnit, WriteError,
};
use identity_connector::testing::domain::store::ScanKeyWindow;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let format = format(*choice);
    if let Ok(text) = std::str::from_utf8(data) {
        read(&format, text);
        read_base64(&format, text);
        write(&format, text);
    }
});

fn format(choice: u8) -> ScanKeyFormat {
    let unit = if choice & 1 == 0 { TimestampUnit::Seconds } else { TimestampUnit::Milliseconds };
    let keys = SigningKeys::new((choice & 2 != 0).then_some([1; 32]));
    let prefix = if choice & 4 == 0 { "ACME" } else { "aVeryLongPrefix0123456789" };
    ScanKeyFormat::new(prefix, unit, keys).expect("the prefix and the keys are valid")
}

/// A code that can be read is the same when it is written again.
fn read(format: &ScanKeyFormat, text: &str) {
    let Some(code) = format.read(text) else { return };
    assert!((MIN_LENGTH..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    match format.write(&code.token, code.made_at, code.custom) {
        Ok(written) => assert!(written == text),
        // The connector writes no timestamps with leading zeros.
        Err(error) => assert!(error == WriteError::Time && code.made_at.timestamp() < 1_000_000_000),
    }
    let window = ScanKeyWindow::DEFAULT;
    assert!(code.check_age(code.made_at, window).is_ok());
    for extreme in
        [DateTime::UNIX_EPOCH, chrono::DateTime::<chrono::Utc>::MIN_UTC, chrono::DateTime::<chrono::Utc>::MAX_UTC]
    {
        let apart = (extreme - code.made_at).num_seconds().abs();
        assert!(code.check_age(extreme, window).is_ok() <= (apart <= 75));
    }
}

/// Reads a code in Base64, as a gate sends it.
fn read_base64(format: &ScanKeyFormat, text: &str) {
    let Ok(key) = IdentityKey::from_base64(text) else { return };
    assert!(!key.as_bytes().is_empty());
    if let Presented::ScanKeyCode(code) = key.presented() {
        read(format, code);
    }
}

/// A code that was written is read with the same parts. If it is signed, a change of any character makes it invalid.
fn write(format: &ScanKeyFormat, text: &str) {
    let Some((token, rest)) = text.split_at_checked(32) else { return };
    let Ok(token) = RecognitionToken::parse(token) else { return };
    let Some((time, custom)) = rest.split_at_checked(10) else { return };
    let Some(made_at) = time.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)) else { return };
    let Ok(written) = format.write(&token, made_at, custom) else { return };
    let code = format.read(&written).expect("a written code can be read");
    assert!(code.token == token && code.made_at == made_at && code.custom == custom);
    if format.is_signed() {
        for position in 0..written.len() {
            let mut other = written.clone().into_bytes();
            other[position] = if other[position] == b'a' { b'b' } else { b'a' };
            assert!(
                format.read(std::str::from_utf8(&other).expect("the changed code is ASCII")).is_none(),
                "changed at {position}"
            );
        }
    }
}
