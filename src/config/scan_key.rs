//! `scan_key.*`: how Scan Key Codes look.

use secrecy::ExposeSecret;

use super::reader::Reader;
use crate::domain::code_signature::SigningKeys;
use crate::domain::scan_key_code::{ScanKeyFormat, TimestampUnit};

pub(super) fn signing_keys(reader: &mut Reader) -> Option<SigningKeys> {
    let keys = reader.secret_list("scan_key.signing_keys", &(32..=usize::MAX));
    SigningKeys::new(keys.iter().map(ExposeSecret::expose_secret))
}

/// How codes look, and whether one opens one event only.
pub(super) fn read(reader: &mut Reader) -> (Option<ScanKeyFormat>, bool) {
    let mistakes = reader.mistakes();
    let keys = signing_keys(reader);
    let are_read = reader.mistakes() == mistakes;
    let single_use = reader.boolean("scan_key.single_use");
    if single_use && keys.is_none() && are_read {
        let what = "demands scan_key.signing_keys: whoever has a code that is not signed can make others of it";
        reader.refuse("scan_key.single_use", what);
    }
    let units = [("seconds", TimestampUnit::Seconds), ("milliseconds", TimestampUnit::Milliseconds)];
    let unit = reader.one_of("scan_key.timestamp_unit", TimestampUnit::Seconds, &units);
    let prefix = reader.text("scan_key.customer_prefix");
    if prefix.is_empty() {
        return (None, single_use);
    }
    let format = ScanKeyFormat::new(&prefix, unit, keys);
    (format.map_err(|error| reader.refuse("scan_key.customer_prefix", &error.to_string())).ok(), single_use)
}
