//! `storage.*`: which database, and every mistake in its URL that can be found without connecting.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use reqwest::Url;
use secrecy::ExposeSecret as _;

use super::Storage;
use super::reader::Reader;
use crate::cause::of_file;
use crate::storage::Location;

const URL: &str = "storage.url";
/// The parameters of a PostgreSQL URL that name a file.
const FILES: [&str; 7] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
/// The parameters that may have an @ in them.
const MAY_HAVE_AT: [&str; 5] = ["user", "password", "dbname", "application_name", "options"];
/// How every SQLite database begins.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

pub(super) fn read(reader: &mut Reader) -> Storage {
    let connections = reader.integer("storage.max_connections", 10, 4..=1000);
    let mistakes = reader.mistakes();
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
    } else if text == "memory:" || reader.mistakes() > mistakes {
        return Storage::Memory; // a `_file` that could not be read is noted already
    } else {
        "must be memory:, sqlite:// and a path, such as sqlite://data/connector.db, or postgres://user:password@host/database"
            .into()
    };
    reader.refuse_secret(URL, &problem);
    Storage::Memory
}

/// Why this path cannot be that of a SQLite database, as far as can be told without changing anything.
fn sqlite_problem(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    if text == ":memory:" {
        return Some("is no path: write memory: to keep everything in memory".to_owned());
    }
    if text.contains('?') {
        return Some("must be the path alone, without ? and options behind it".to_owned());
    }
    let found = path.metadata().ok();
    if path.file_name().is_none() || text.ends_with('/') || found.as_ref().is_some_and(Metadata::is_dir) {
        return Some(format!("is a folder: name a file in it, such as {}", path.join("connector.db").display()));
    }
    if !found?.is_file() {
        return Some("is no regular file: name another one".to_owned());
    }
    let mut begin = Vec::new();
    // A file that cannot be read is named when it is opened, with what helps.
    File::open(path).ok()?.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut begin).ok()?;
    let is_one = begin.is_empty() || begin == SQLITE_MAGIC;
    (!is_one).then(|| "is no SQLite database: name another file, or restore the backup of this one".to_owned())
}

/// Why this URL cannot be that of a PostgreSQL database. `rest` is what stands behind its scheme. No part of it is repeated but the names
/// of files: wherever it was cut, there may be a part of the password.
fn postgres_problem(url: &str, rest: &str) -> Option<Cow<'static, str>> {
    const UNESCAPED: &str =
        "a character of the user or password ends it early: write @ as %40, / as %2F, ? as %3F, # as %23, and % as %25";
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_cut = path.contains('@') && !authority.contains('@');
    let database = path.split('?').next().unwrap_or_default();
    if database.contains('@') || path.contains('#') {
        return Some(UNESCAPED.into());
    }
    let Ok(url) = Url::parse(url) else {
        let what = "must be postgres://user:password@host:port/database";
        return Some(if is_cut { UNESCAPED.into() } else { what.into() });
    };
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.[]".contains(c));
    for (name, value) in url.query_pairs() {
        if !is_name(&name) || (value.contains('@') && !MAY_HAVE_AT.contains(&&*name)) {
            return Some(UNESCAPED.into());
        }
        // The certificate itself may stand there as well.
        if FILES.contains(&&*name) && !value.starts_with("-----BEGIN") {
            let path = Path::new(&*value);
            if let Err(error) = std::fs::read(path) {
                return Some(format!("{name} = {value:?}: cannot be read: {}", of_file(path, &error)).into());
            }
        }
    }
    None
}
