//! `directory.*`: who is known, and who is asked about the others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;
use super::{MINUTE, Mode};
use crate::cause::of_file;
use crate::directory::remote::{Credentials, Limits, Settings, SettingsError, parse_url};

/// The shortest and the longest time that an answer may take: a good part of the scan's own 1.5 s is left.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1200));

/// What is brought into the directory at each start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectorySource {
    /// Nothing: it is as it was left.
    Kept,
    /// The published test data, which is part of the binary.
    DemoData,
    /// A file, which may hold the demo's faults only in a demo.
    File {
        /// The file.
        path: PathBuf,
        /// Whether keys may be set to fail.
        may_have_faults: bool,
    },
}

pub(super) fn source(reader: &Reader, mode: Mode) -> DirectorySource {
    let path = PathBuf::from(reader.text("directory.file"));
    match mode {
        _ if !path.as_os_str().is_empty() => DirectorySource::File { path, may_have_faults: mode.is_demo() },
        Mode::Serve => DirectorySource::Kept,
        Mode::Demo | Mode::PublishedDemo => DirectorySource::DemoData,
    }
}

/// `None` when there is to be none, or cannot be: then that is noted.
pub(super) fn identity_backend(reader: &mut Reader) -> Option<Settings> {
    let mistakes = reader.mistakes();
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
                reader.refuse(setting, "is for the identity backend: set directory.url");
            }
        }
        if token.is_some() {
            reader.refuse_secret("directory.token", "is for the identity backend: set directory.url");
        }
        return None;
    }
    for (setting, other) in [
        ("directory.client_certificate", "directory.client_key"),
        ("directory.client_key", "directory.client_certificate"),
    ] {
        if !reader.text(setting).is_empty() && reader.text(other).is_empty() {
            reader.refuse(setting, &format!("needs {other} with it"));
        }
    }
    // It may have a password in it.
    let url = parse_url(&url).map_err(|what| reader.refuse_secret("directory.url", what)).ok()?;
    if reader.mistakes() > mistakes {
        return None;
    }
    let credentials = Credentials { token, authorities, certificate: certificate.zip(key) };
    match Settings::new(url, &credentials, limits) {
        Ok(settings) => return Some(settings),
        Err(SettingsError::Token) => reader.refuse_secret("directory.token", "cannot stand in a header"),
        Err(SettingsError::Authorities) => {
            reader.refuse("directory.ca", "must be a file of one certificate or more in the PEM format");
        }
        Err(SettingsError::Certificate) => reader.refuse(
            "directory.client_certificate",
            "must be a file with the certificate, and those above it, of the key in directory.client_key, both in the PEM format",
        ),
        Err(SettingsError::Client(error)) => {
            reader.refuse_secret("directory.url", &format!("nobody can be asked over TLS: {error}"));
        }
    }
    None
}

/// What the file of that name holds, if there is to be one.
pub(super) fn file(reader: &mut Reader, setting: &str) -> Option<String> {
    let path = reader.text(setting);
    if path.is_empty() {
        return None;
    }
    let content = std::fs::read_to_string(&path);
    content
        .map_err(|error| reader.refuse(setting, &format!("cannot be read: {}", of_file(Path::new(&path), &error))))
        .ok()
}
