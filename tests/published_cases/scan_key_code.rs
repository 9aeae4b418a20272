//! Makes Scan Key Codes, right and wrong ones, from what a case says about them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::names::Names;

/// What a connector adds to a store's window for the time that a scan is under way.
const NETWORK_BUFFER: TimeDelta = TimeDelta::seconds(15);

/// The customer prefix and the recognition token are the connector's own and not part of this.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScanKeyCode {
    prefix: String,
    age: Age,
    #[serde(default)]
    custom_information: String,
    /// The code's length in the end: filled up as if with custom information, or cut off.
    length: Option<usize>,
}

/// How long before `authEvent.timestamp` the code was made: so a scan of 2024 stays as fresh as it was.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Age {
    Seconds(i64),
    SecondsPastWindowAndBuffer(i64),
}

impl ScanKeyCode {
    pub(crate) fn write(&self, names: &Names, scanned: DateTime<Utc>) -> Result<String, String> {
        let age = match self.age {
            Age::Seconds(seconds) => TimeDelta::seconds(seconds),
            Age::SecondsPastWindowAndBuffer(seconds) => {
                names.scan_key_window() + NETWORK_BUFFER + TimeDelta::seconds(seconds)
            }
        };
        let made = names.timestamp(scanned - age);
        let (customer, token) = (names.customer_prefix()?, &names.recognition_token()?.token);
        let mut code = format!("{}{customer}{token}{made}{}", self.prefix, self.custom_information);
        if let Some(length) = self.length {
            code = format!("{code:X<length$}");
            code.truncate(length);
        }
        Ok(code)
    }
}
