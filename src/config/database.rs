//! `storage.*`: the database, and all problems of its URL that can be found without connecting.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use reqwest::Url;
use secrecy::ExposeSecret as _;

use super::Storage;
use super::reader::Reader;
use crate::cause::file_error;
use crate::storage::Location;

const URL: &str = "storage.url";
/// The parameters of a PostgreSQL URL whose value is a file.
const FILES: [&str; 7] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
/// The parameters whose value may contain an @.
const MAY_HAVE_AT: [&str; 5] = ["user", "password", "dbname", "application_name", "options"];
/// The first bytes of every SQLite database.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

pub(super) fn read(reader: &mut Reader) -> Storage {
    let connections = reader.integer("storage.max_connections", 10, 4..=1000);
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
        return Storage::Memory; // the `_file` cannot be read; that problem is reported already
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
