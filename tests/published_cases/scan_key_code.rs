//! Makes the Scan Key Codes of the cases, valid and invalid ones.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::names::Names;

/// The network allowance that a connector adds to a store's window.
const NETWORK_BUFFER: TimeDelta = TimeDelta::seconds(15);

/// The parts of a code that a case gives. The customer prefix and the recognition token come from the connector's
/// names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScanKeyCode {
    prefix: String,
    age: Age,
    #[serde(default)]
    custom_information: String,
    /// The final length of the code: padded as if with custom information, or cut.
    length: Option<usize>,
}

/// The age of the code at `authEvent.timestamp`, so that a scan of 2024 stays valid.
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
