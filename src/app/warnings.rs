//! What is said at the start of a configuration that is sound, and may not be meant.

use super::StartError;
use crate::config::{Config, Mode};
use crate::directory::{Directory, Kind};

/// What to say of recognition tokens without a prefix.
pub const CODES_REFUSED: &str =
    "there are recognition tokens, but scan_key.customer_prefix is not set: every Scan Key Code is refused";

/// What to say of codes that anybody can write who has seen one.
const UNSIGNED: &str =
    "scan_key.signing_keys is not set: whoever sees a code can write others with its token for commerce.code_lifetime";

/// What to say of a shopper's side without codes.
const NO_CODES: &str = "scan_key.customer_prefix is not set: the shopper's side makes no Scan Key Codes";

/// What to say of a directory without a store.
pub const NO_STORE: &str =
    "the directory has no store: every scan is refused; set directory.file, import one, or use the administration";

/// Says what there is to say.
///
/// # Errors
/// When the directory cannot tell.
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
