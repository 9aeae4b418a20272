//! `storage.*`, `security.*` and `directory.*`: where the data is, and all problems that can be found without
//! connecting.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::reader::Reader;
use super::{MINUTE, Mode, Storage};
use crate::cause::file_error;
use crate::digest::HashKey;
use crate::directory::backend::{Credentials, Limits, Settings, SettingsError, parse_url};
use crate::storage::Location;

const URL: &str = "storage.url";
/// The parameters of a PostgreSQL URL whose value is a file.
const FILES: [&str; 7] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
/// The parameters whose value may contain an @.
const MAY_HAVE_AT: [&str; 5] = ["user", "password", "dbname", "application_name", "options"];
/// The first bytes of every SQLite database.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// The range of `directory.timeout`. The maximum leaves time for the rest of the scan, which must end within 1.5 s.
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

pub(super) fn storage(reader: &mut Reader) -> Storage {
    let connections = reader.integer("storage.max_connections", 4..=1000);
    let problems_before = reader.problem_count();
    let url = reader.secret_text(URL).unwrap_or_default();
    let text = url.expose_secret();
    let problem = if let Some(path) = text.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
        let path = Path::new(path);
        match sqlite_problem(path) {
            None => return Storage::Database(Location::Sqlite(path.to_owned())),
            Some(problem) => Cow::Owned(format!("{}: {problem}", path.display())),
        }
    } else if let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        match postgres_problem(text, rest) {
            None => return Storage::Database(Location::Postgres { url, connections }),
            Some(problem) => problem,
        }
    } else if text == "memory:" || reader.problem_count() > problems_before {
        return Storage::Memory; // chosen, or a placeholder: the reader has reported a `_file` that cannot be read
    } else {
        "must be memory:, sqlite:// and a path, such as sqlite://data/connector.db, or postgres://user:password@host/database"
            .into()
    };
    reader.refuse_secret(URL, &problem);
    Storage::Memory
}

/// Why this path cannot be a SQLite database, if that can be found without changing a file.
fn sqlite_problem(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    if text == ":memory:" {
        return Some("is not a path: use memory: to keep everything in memory".to_owned());
    }
    if text.contains('?') {
        return Some("must be only a path, without ? and options".to_owned());
    }
    let found = path.metadata().ok();
    if path.file_name().is_none() || text.ends_with('/') || found.as_ref().is_some_and(Metadata::is_dir) {
        return Some(format!("is a folder: name a file in it, such as {}", path.join("connector.db").display()));
    }
    if !found?.is_file() {
        return Some("is not a regular file: use another path".to_owned());
    }
    let mut begin = Vec::new();
    // If the file cannot be read, opening it later fails with a message that says what to do.
    File::open(path).ok()?.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut begin).ok()?;
    let is_sqlite = begin.is_empty() || begin == SQLITE_MAGIC;
    (!is_sqlite).then(|| "is not a SQLite database: use another path, or restore the backup of this file".to_owned())
}

/// Why this URL cannot be a PostgreSQL database. `rest` is the URL without its scheme. Messages repeat only the names
/// of files, because every other part may contain a part of a password with an unescaped character.
fn postgres_problem(url: &str, rest: &str) -> Option<Cow<'static, str>> {
    const UNESCAPED: &str =
        "the user or password contains a special character: write @ as %40, / as %2F, ? as %3F, # as %23, and % as %25";
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_cut = path.contains('@') && !authority.contains('@');
    let database = path.split('?').next().unwrap_or_default();
    if database.contains('@') || path.contains('#') {
        return Some(UNESCAPED.into());
    }
    let Ok(url) = Url::parse(url) else {
        let form = "must be postgres://user:password@host:port/database";
        return Some(if is_cut { UNESCAPED.into() } else { form.into() });
    };
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.[]".contains(c));
    for (name, value) in url.query_pairs() {
        if !is_name(&name) || (value.contains('@') && !MAY_HAVE_AT.contains(&&*name)) {
            return Some(UNESCAPED.into());
        }
        // The value may also be the certificate itself.
        if FILES.contains(&&*name) && !value.starts_with("-----BEGIN") {
            let path = Path::new(&*value);
            if let Err(error) = std::fs::read(path) {
                return Some(format!("{name} = {value:?}: cannot be read: {}", file_error(path, &error)).into());
            }
        }
    }
    None
}

pub(super) fn hash_key(reader: &mut Reader, storage: &Storage) -> Option<HashKey> {
    let Some(text) = reader.secret("security.hash_key", 1) else {
        if matches!(storage, Storage::Database(Location::Postgres { .. })) {
            reader.refuse_secret(
                "security.hash_key",
                "is required with PostgreSQL: 32 bytes in Base64 (openssl rand -base64 32), the same for every connector",
            );
        }
        return None;
    };
    let key = HashKey::from_base64(text.expose_secret());
    key.map_err(|error| reader.refuse_secret("security.hash_key", &error.to_string())).ok()
}

pub(super) fn directory_source(reader: &Reader, mode: Mode) -> DirectorySource {
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
        max_in_flight: reader.integer("directory.max_in_flight", 1..=10_000),
    };
    let token = reader.secret("directory.token", 1);
    let authorities = reader.file("directory.ca");
    let certificate = reader.file("directory.client_certificate");
    let key = reader.file("directory.client_key").map(SecretString::from);
    let url = reader.text("directory.url");
    if url.is_empty() {
        let unused = "is used only with an identity backend: set directory.url, or remove this setting";
        for setting in ["directory.ca", "directory.client_certificate", "directory.client_key"] {
            if !reader.text(setting).is_empty() {
                reader.refuse(setting, unused);
            }
        }
        if token.is_some() {
            reader.refuse_secret("directory.token", unused);
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
