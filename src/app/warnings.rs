//! Warnings at the start about a configuration that is valid but may contain a mistake.

use super::StartError;
use crate::config::{Config, Mode};
use crate::directory::{Directory, Kind};

/// Recognition tokens without a prefix.
pub const CODES_REFUSED: &str =
    "the directory has recognition tokens, but scan_key.customer_prefix is not set: every Scan Key Code is refused";

/// Unsigned codes.
const UNSIGNED: &str = "scan_key.signing_keys is not set: anyone who sees a code can create others with its token for \
                        commerce.code_lifetime";

/// A shopper API without codes.
const NO_CODES: &str = "scan_key.customer_prefix is not set: the shopper API creates no Scan Key Codes";

/// A directory without a store.
pub const NO_STORE: &str = "the directory has no store: every scan is refused; set directory.file, import a file, or add \
                            a store by administration";

/// Logs the warnings.
pub(super) async fn warn(config: &Config, directory: &Directory) -> Result<(), StartError> {
    if config.scan_key.is_none() && !directory.registrations(Kind::RecognitionToken, None, 1).await?.is_empty() {
        tracing::warn!("{CODES_REFUSED}");
    }
    if let (Some(_), Mode::Serve) = (&config.commerce, config.mode) {
        match &config.scan_key {
            None => tracing::warn!("{NO_CODES}"),
            Some(format) if !format.is_signed() => tracing::warn!("{UNSIGNED}"),
            Some(_) => {}
        }
    }
    if directory.stores(None, 1).await?.is_empty() {
        tracing::warn!("{NO_STORE}");
    }
    Ok(())
}
