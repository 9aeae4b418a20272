//! Configuration that cannot be invalid: raw settings go in, a checked [`Config`] or every mistake at once comes out.
//!
//! Layers, the later ones over the earlier: `config/default.toml`, which is the manual of every setting and part of the
//! binary; the demo's changes to it; a file; the environment, which is passed in as a map.

mod callers;
mod commerce;
mod database;
mod directory;
mod exposure;
mod layers;
mod reader;
mod scan_key;
mod telemetry;
mod tls;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::filter::LevelFilter;

pub use commerce::Commerce;
pub use directory::DirectorySource;
pub use reader::ConfigError;

use crate::callers::Caller;
use crate::digest::HashKey;
use crate::directory::remote;
use crate::domain::code_signature::SigningKeys;
use crate::domain::scan_key_code::ScanKeyFormat;
use crate::ledger;
use crate::rate_limit::{Allowance, RedisUrl};
use crate::storage;
use crate::tls::TlsSettings;
use crate::traces;
use layers::Layers;
use reader::Reader;

/// What the connector is started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For real.
    Serve,
    /// In memory with the published test data, on loopback only.
    Demo,
    /// The same where others can reach it. Its keys for administration, apps and the page are random; the identity keys are not.
    PublishedDemo,
}

impl Mode {
    /// Whether this is a demo, published or not.
    #[must_use]
    pub fn is_demo(self) -> bool {
        self != Self::Serve
    }
}

/// Where settings come from, besides the built-in defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// Settings by their names that a file and the environment override, as they override the built-in defaults.
    pub defaults: Vec<(String, String)>,
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment, or what a test takes for it.
    pub environment: HashMap<OsString, OsString>,
}

/// Without values: secrets are among them.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A configuration, every part of it valid and fit for the others.
#[derive(Clone, Debug)]
pub struct Config {
    /// As what it is started.
    pub mode: Mode,
    /// The API's port and its limits.
    pub server: Server,
    /// The certificate of the API's port and of the shopper's own; without it they speak plain HTTP.
    pub tls: Option<TlsSettings>,
    /// The port of metrics and administration.
    pub management: Management,
    /// What the demo's page must send as `X-Demo-Key`; `None` on loopback, where it needs none.
    pub demo_key: Option<SecretString>,
    /// What each caller may ask.
    pub rate_limit: Allowance,
    /// How often an address may ask without credentials that hold.
    pub failures_per_minute: NonZeroU32,
    /// Where the replicas keep that together, if they do.
    pub shared_rate_limit: Option<RedisUrl>,
    /// Where directory and ledger are kept.
    pub storage: Storage,
    /// The key under which everything is hashed, if it is given.
    pub hash_key: Option<HashKey>,
    /// What the ledger keeps.
    pub ledger: ledger::Limits,
    /// How Scan Key Codes look, if there are any.
    pub scan_key: Option<ScanKeyFormat>,
    /// The shopper's side, if there is to be one.
    pub commerce: Option<Commerce>,
    /// Whether one of them opens one auth event only.
    pub single_use: bool,
    /// Who is known.
    pub directory: DirectorySource,
    /// Who is asked of those who are not, if anybody is.
    pub identity_backend: Option<remote::Settings>,
    /// Whether a 200 carries the deprecated `paymentSource`.
    pub tell_payment_source: bool,
    /// How to log.
    pub log: Log,
    /// Where traces go, if anywhere.
    pub traces: Option<traces::Settings>,
}

/// `server.*`.
#[derive(Clone, Debug)]
pub struct Server {
    /// The API's address.
    pub bind: SocketAddr,
    /// Who may call; nobody in particular if there are none.
    pub callers: Vec<Caller>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections at once.
    pub max_connections: u32,
    /// The longest wait for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Scans that are worked on at once.
    pub max_in_flight: u32,
    /// The longest wait for the head of a connection's first request.
    pub header_timeout: Duration,
    /// The longest wait for the head of a later one.
    pub idle_timeout: Duration,
    /// The longest a peer may take for an answer.
    pub answer_timeout: Duration,
    /// How long it still takes connections when it is not ready any more.
    pub stop_delay: Duration,
    /// The longest wait for running requests at the end.
    pub grace_period: Duration,
}

/// `management.*`.
#[derive(Clone, Debug)]
pub struct Management {
    /// The management port's address.
    pub bind: SocketAddr,
    /// The bearer token that it asks for.
    pub token: Option<SecretString>,
}

/// `storage.*`.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In this process's memory: gone with it.
    Memory,
    /// In a database.
    Database(storage::Location),
}

/// `log.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least that is logged.
    pub level: LevelFilter,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// With every bad setting: its name, its value unless that is a secret, and what would do.
    pub fn load(mode: Mode, sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(Layers::read(mode, sources)?);
        let storage = database::read(&mut reader);
        let (scan_key, single_use) = scan_key::read(&mut reader);
        let config = Self {
            mode,
            server: server(&mut reader),
            tls: tls::read(&mut reader),
            management: management(&mut reader),
            demo_key: None,
            rate_limit: Allowance {
                per_second: reader.integer(
                    "rate_limit.requests_per_second",
                    NonZeroU32::MIN,
                    NonZeroU32::MIN..=BILLION,
                ),
                burst: reader.integer("rate_limit.burst", NonZeroU32::MIN, NonZeroU32::MIN..=BILLION),
                max_callers: reader.integer("rate_limit.max_callers", 1, 1..=10_000_000),
            },
            failures_per_minute: reader.integer(
                "rate_limit.failures_per_minute",
                NonZeroU32::MIN,
                NonZeroU32::MIN..=commerce::MILLION,
            ),
            shared_rate_limit: shared_rate_limit(&mut reader),
            hash_key: hash_key(&mut reader, &storage),
            storage,
            ledger: ledger::Limits {
                retention: delta(reader.duration("ledger.retention", DAY..=DAY.saturating_mul(3650))),
                capacity: reader.integer("ledger.capacity", 1, 1..=100_000_000),
                cache: reader.integer("ledger.cache", 1, 1..=100_000_000),
                session_max_age: delta(reader.duration("session.max_age", MINUTE..=DAY.saturating_mul(365))),
            },
            scan_key,
            single_use,
            commerce: commerce::read(&mut reader, mode),
            directory: directory::source(&reader, mode),
            identity_backend: directory::identity_backend(&mut reader),
            tell_payment_source: reader.boolean("answer.payment_source"),
            log: Log {
                format: reader.one_of(
                    "log.format",
                    LogFormat::Json,
                    &[("json", LogFormat::Json), ("text", LogFormat::Text)],
                ),
                level: reader.one_of("log.level", LevelFilter::INFO, &LEVELS),
            },
            traces: telemetry::read(&mut reader),
        };
        exposure::check(&mut reader, mode, &config);
        reader.finish(config)
    }
}

/// Reads `scan_key.*` alone, for the tools that write codes. Without a file and a prefix it is the demo's, and the second value
/// says so; a file without a prefix has none.
///
/// # Errors
/// As [`Config::load`].
pub fn load_scan_key(sources: &Sources) -> Result<(Option<ScanKeyFormat>, bool), ConfigError> {
    let format = |mode| {
        let mut reader = Reader::new(Layers::read(mode, sources)?);
        let (format, _) = scan_key::read(&mut reader);
        reader.finish(format)
    };
    match format(Mode::Serve)? {
        None if sources.file.is_none() => Ok((format(Mode::Demo)?, true)),
        format => Ok((format, false)),
    }
}

/// Reads `scan_key.signing_keys` alone, for the tool that writes codes of any form.
///
/// # Errors
/// As [`Config::load`].
pub fn load_signing_keys(sources: &Sources) -> Result<Option<SigningKeys>, ConfigError> {
    let mut reader = Reader::new(Layers::read(Mode::Serve, sources)?);
    let keys = scan_key::signing_keys(&mut reader);
    reader.finish(keys)
}

/// Reads `server.bind` alone, and whether that port speaks TLS, for the health check.
///
/// # Errors
/// As [`Config::load`].
pub fn load_bind(sources: &Sources) -> Result<(SocketAddr, bool), ConfigError> {
    let mut reader = Reader::new(Layers::read(Mode::Serve, sources)?);
    let bind = (reader.address("server.bind"), !reader.text("tls.certificate").is_empty());
    reader.finish(bind)
}

/// `log.format`, as far as it can be read where the configuration as a whole cannot be used.
#[must_use]
pub fn log_format(mode: Mode, sources: &Sources) -> LogFormat {
    let without_file = || Layers::read(mode, &Sources { file: None, ..sources.clone() });
    let layers = Layers::read(mode, sources).or_else(|_| without_file());
    match layers.is_ok_and(|layers| layers.values.get("log.format").is_some_and(|format| format == "text")) {
        true => LogFormat::Text,
        false => LogFormat::Json,
    }
}

/// Reads `storage.*` and the hash key alone, for what works on the database.
///
/// # Errors
/// As [`Config::load`].
pub fn load_storage(sources: &Sources) -> Result<(Storage, Option<HashKey>), ConfigError> {
    let mut reader = Reader::new(Layers::read(Mode::Serve, sources)?);
    let storage = database::read(&mut reader);
    let hash_key = hash_key(&mut reader, &storage);
    reader.finish((storage, hash_key))
}

/// `config/default.toml`: every setting with its meaning, range and default.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// A setting as it takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its full name, such as `server.bind`.
    pub name: String,
    /// Its value, written as in a file; a secret is hidden.
    pub value: String,
    /// Where a value that differs from the default comes from.
    pub changed: Option<Override>,
}

/// What overrides the default of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The environment variable or the file.
    pub origin: String,
    /// The default, written as in a file; `None` in a section that an operator has named.
    pub default: Option<String>,
}

/// Every setting with the value that takes effect, in the order of names.
///
/// # Errors
/// When a layer cannot be read.
pub fn effective(mode: Mode, sources: &Sources) -> Result<Vec<Effective>, ConfigError> {
    let secrets = [
        "commerce.authorization_key",
        "commerce.context_keys",
        "commerce.signing_keys",
        "directory.token",
        "management.token",
        "rate_limit.url",
        "scan_key.signing_keys",
        "security.hash_key",
        "storage.url",
        "telemetry.otlp_headers",
    ];
    Ok(Reader::new(Layers::read(mode, sources)?).effective(&secrets))
}

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];
const BILLION: NonZeroU32 = NonZeroU32::new(1_000_000_000).unwrap();
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

fn server(reader: &mut Reader) -> Server {
    Server {
        bind: reader.address("server.bind"),
        callers: callers::read(reader),
        trusted_proxies: reader.networks("server.trusted_proxies"),
        max_connections: reader.integer("server.max_connections", 1, 1..=1_000_000),
        handshake_timeout: reader.duration("server.handshake_timeout", SECOND..=MINUTE),
        max_in_flight: reader.integer("server.max_in_flight", 1, 1..=100_000),
        header_timeout: reader.duration("server.header_timeout", SECOND..=MINUTE.saturating_mul(60)),
        idle_timeout: reader.duration("server.idle_timeout", SECOND..=MINUTE.saturating_mul(60)),
        answer_timeout: reader.duration("server.answer_timeout", SECOND..=MINUTE.saturating_mul(60)),
        stop_delay: reader.duration("server.stop_delay", Duration::ZERO..=MINUTE.saturating_mul(5)),
        grace_period: reader.duration("server.grace_period", Duration::ZERO..=MINUTE.saturating_mul(5)),
    }
}

fn management(reader: &mut Reader) -> Management {
    Management { bind: reader.address("management.bind"), token: reader.secret("management.token", 16) }
}

fn shared_rate_limit(reader: &mut Reader) -> Option<RedisUrl> {
    let authorities = directory::file(reader, "rate_limit.ca");
    let Some(url) = reader.secret("rate_limit.url", 1) else {
        if authorities.is_some() {
            reader.refuse("rate_limit.ca", "is for a Redis or Valkey over TLS: set rate_limit.url");
        }
        return None;
    };
    let url = RedisUrl::parse(url.expose_secret());
    let url = url.map_err(|error| reader.refuse_secret("rate_limit.url", &error.to_string())).ok()?;
    match authorities {
        None => Some(url),
        Some(authorities) => {
            url.with_authorities(&authorities).map_err(|error| reader.refuse("rate_limit.ca", &error.to_string())).ok()
        }
    }
}

fn hash_key(reader: &mut Reader, storage: &Storage) -> Option<HashKey> {
    let Some(text) = reader.secret("security.hash_key", 1) else {
        if matches!(storage, Storage::Database(storage::Location::Postgres { .. })) {
            reader.refuse_secret(
                "security.hash_key",
                "is required with PostgreSQL: 32 bytes in Base64, such as `openssl rand -base64 32` makes, the same for every connector",
            );
        }
        return None;
    };
    let key = HashKey::from_base64(text.expose_secret());
    key.map_err(|error| reader.refuse_secret("security.hash_key", &error.to_string())).ok()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
