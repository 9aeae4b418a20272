//! `directory.*`: the directory file and the identity backend.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;
use super::{MINUTE, Mode};
use crate::cause::file_error;
use crate::directory::backend::{Credentials, Limits, Settings, SettingsError, parse_url};

/// The range of the timeout. The maximum leaves time for the rest of the scan, which must end after 1.5 s.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1200));

/// The data that is imported into the directory at each start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectorySource {
    /// No data: the directory in the database is not changed.
    Unchanged,
    /// Amazon's published test data, which is part of the binary.
    DemoData,
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// Whether the file may contain keys that make the directory fail, which only a demo allows.
        may_have_faults: bool,
    },
}

pub(super) fn source(reader: &Reader, mode: Mode) -> DirectorySource {
    let path = PathBuf::from(reader.text("directory.file"));
    match mode {
        _ if !path.as_os_str().is_empty() => DirectorySource::File { path, may_have_faults: mode.is_demo() },
        Mode::Serve => DirectorySource::Unchanged,
        Mode::Demo | Mode::PublishedDemo => DirectorySource::DemoData,
    }
}

/// `None` if no identity backend is configured, or if its settings are not valid; the errors are reported through
/// `reader`.
pub(super) fn identity_backend(reader: &mut Reader) -> Option<Settings> {
    let problems_before = reader.problem_count();
    let limits = Limits {
        timeout: reader.duration("directory.timeout", TIMEOUT.0..=TIMEOUT.1),
        cache_for: reader.duration("directory.cache_for", Duration::ZERO..=MINUTE),
        max_in_flight: reader.integer("directory.max_in_flight", 1, 1..=10_000),
    };
    let token = reader.secret("directory.token", 1);
    let authorities = file(reader, "directory.ca");
    let certificate = file(reader, "directory.client_certificate");
    let key = file(reader, "directory.client_key").map(SecretString::from);
    let url = reader.text("directory.url");
    if url.is_empty() {
        for setting in ["directory.ca", "directory.client_certificate", "directory.client_key"] {
            if !reader.text(setting).is_empty() {
                reader.refuse(
                    setting,
                    "is used only with an identity backend: set directory.url, or remove this setting",
                );
            }
        }
        if token.is_some() {
            reader.refuse_secret(
                "directory.token",
                "is used only with an identity backend: set directory.url, or remove this setting",
            );
        }
        return None;
    }
    for (setting, other) in [
        ("directory.client_certificate", "directory.client_key"),
        ("directory.client_key", "directory.client_certificate"),
    ] {
        if !reader.text(setting).is_empty() && reader.text(other).is_empty() {
            reader.refuse(setting, &format!("needs {other} too"));
        }
    }
    // The URL may contain a password, so it is not printed.
    let url = parse_url(&url).map_err(|message| reader.refuse_secret("directory.url", message)).ok()?;
    if reader.problem_count() > problems_before {
        return None;
    }
    let credentials = Credentials { token, authorities, certificate: certificate.zip(key) };
    match Settings::new(url, &credentials, limits) {
        Ok(settings) => return Some(settings),
        Err(SettingsError::Token) => {
            reader.refuse_secret("directory.token", "contains characters that are not allowed in an HTTP header");
        }
        Err(SettingsError::Authorities) => {
            reader.refuse("directory.ca", "must be a PEM file with at least one certificate");
        }
        Err(SettingsError::Certificate) => reader.refuse(
            "directory.client_certificate",
            "must be a PEM file: the certificate of directory.client_key first, then the intermediate certificates",
        ),
        Err(SettingsError::Client(error)) => {
            reader.refuse_secret("directory.url", &format!("cannot create the HTTPS client: {error}"));
        }
    }
    None
}

/// The content of the file that a setting names, if it is set.
pub(super) fn file(reader: &mut Reader, setting: &str) -> Option<String> {
    let path = reader.text(setting);
    if path.is_empty() {
        return None;
    }
    let content = std::fs::read_to_string(&path);
    content
        .map_err(|error| reader.refuse(setting, &format!("cannot be read: {}", file_error(Path::new(&path), &error))))
        .ok()
}
