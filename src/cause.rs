//! Why a request of our own failed, in words for a person.

use std::error::Error;
use std::io;

/// The innermost cause, which is the one that tells a person something: "connection refused".
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let words = cause.to_string();
    match cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        // "Connection refused (os error 111)"
        Some(_) => words.split(" (os error").next().unwrap_or_default().to_lowercase(),
        None => words,
    }
}
