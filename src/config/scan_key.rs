//! `scan_key.*`: the format of Scan Key Codes.

use secrecy::ExposeSecret;

use super::reader::Reader;
use crate::domain::code_signature::SigningKeys;
use crate::domain::scan_key_code::{ScanKeyFormat, TimestampUnit};

pub(super) fn signing_keys(reader: &mut Reader) -> Option<SigningKeys> {
    let keys = reader.secret_list("scan_key.signing_keys", &(32..=usize::MAX));
    SigningKeys::new(keys.iter().map(ExposeSecret::expose_secret))
}

/// The format of codes, and whether a code opens only one event.
pub(super) fn read(reader: &mut Reader) -> (Option<ScanKeyFormat>, bool) {
    let problems_before = reader.problem_count();
    let keys = signing_keys(reader);
    let keys_are_valid = reader.problem_count() == problems_before;
    let single_use = reader.boolean("scan_key.single_use");
    if single_use && keys.is_none() && keys_are_valid {
        let message = "needs scan_key.signing_keys: anyone who sees an unsigned code can create others from it";
        reader.refuse("scan_key.single_use", message);
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
