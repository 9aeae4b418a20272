//! Reads and checks the configuration. The result is either a valid [`Config`] or an error with all problems.
//!
//! Settings come from layers, each of which overrides the ones before: `config/default.toml`, which documents every
//! setting and is part of the binary; the demo's defaults; a file; the environment, which is passed as a map.
//!
//! To add a setting, add it to `config/default.toml`, and read it in the file of its section. [`Config::load`] itself
//! reads `ledger.*`, `session.*`, `answer.*` and the limits of `rate_limit.*`.

mod commerce;
mod data;
mod layers;
mod ports;
mod reader;
mod telemetry;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use ipnet::IpNet;
use secrecy::SecretString;

pub use crate::observe::logs::{Log, LogFormat};
pub use commerce::Commerce;
pub use data::DirectorySource;
pub use reader::ConfigError;

use crate::callers::Caller;
use crate::digest::HashKey;
use crate::directory::backend;
use crate::domain::scan_key_code::{ScanKeyFormat, SigningKeys};
use crate::ledger;
use crate::observe::traces;
use crate::rate_limit::{Allowance, RedisUrl};
use crate::storage;
use crate::tls::TlsSettings;
use reader::Reader;

/// The command that the connector is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `serve`.
    Serve,
    /// `demo`: in memory with Amazon's published test data, on loopback only.
    Demo,
    /// `demo --publish`: on any address. The keys for administration, apps and the page are random; the identity keys
    /// are public.
    PublishedDemo,
}

impl Mode {
    /// Whether this is a demo, published or not.
    pub fn is_demo(self) -> bool {
        self != Self::Serve
    }
}

/// The sources of settings, except the built-in defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// Settings with their names that override the built-in defaults; a file and the environment override them.
    pub defaults: Vec<(String, String)>,
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment; a test passes its own.
    pub environment: HashMap<OsString, OsString>,
}

/// Hides the values, because some are secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The configuration. All settings are valid, and consistent with each other.
#[derive(Clone, Debug)]
pub struct Config {
    /// The command that the connector is started with.
    pub mode: Mode,
    /// The API's port and its limits.
    pub server: Server,
    /// TLS of the API's port and of the shopper API's port; without it they use plain HTTP.
    pub tls: Option<TlsSettings>,
    /// The port of metrics and administration.
    pub management: Management,
    /// The key that the demo's page must send as `X-Demo-Key`; `None` on loopback, where no key is needed.
    pub demo_key: Option<SecretString>,
    /// The rate limit of each caller.
    pub rate_limit: Allowance,
    /// The number of requests a minute from one address without valid credentials.
    pub failures_per_minute: NonZeroU32,
    /// The server in which all replicas keep the rate limits together, if configured.
    pub shared_rate_limit: Option<RedisUrl>,
    /// The storage of directory and ledger.
    pub storage: Storage,
    /// The key of all hashes, if configured.
    pub hash_key: Option<HashKey>,
    /// The limits of the ledger.
    pub ledger: ledger::Limits,
    /// The format of Scan Key Codes, if they are enabled.
    pub scan_key: Option<ScanKeyFormat>,
    /// The shopper API, if enabled.
    pub commerce: Option<Commerce>,
    /// Whether a Scan Key Code opens only one auth event.
    pub single_use: bool,
    /// The data that is imported into the directory at the start.
    pub directory: DirectorySource,
    /// The identity backend, if configured.
    pub identity_backend: Option<backend::Settings>,
    /// Whether a 200 contains the deprecated `paymentSource`.
    pub payment_source: bool,
    /// The log.
    pub log: Log,
    /// Traces, if configured.
    pub traces: Option<traces::Settings>,
}

/// `server.*`.
#[derive(Clone, Debug)]
pub struct Server {
    /// The API's address.
    pub bind: SocketAddr,
    /// The callers; if there are none, requests are not authenticated.
    pub callers: Vec<Caller>,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The connection limit.
    pub max_connections: u32,
    /// The maximum time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// The maximum number of scans that are processed at the same time.
    pub max_in_flight: u32,
    /// The maximum wait for the head of the first request of a connection.
    pub header_timeout: Duration,
    /// The maximum wait for the head of a later request.
    pub idle_timeout: Duration,
    /// The maximum time that a client may take to receive a response.
    pub answer_timeout: Duration,
    /// How long a stopping connector still accepts connections.
    pub stop_delay: Duration,
    /// The maximum wait for running requests after that.
    pub grace_period: Duration,
}

/// `management.*`.
#[derive(Clone, Debug)]
pub struct Management {
    /// The management port's address.
    pub bind: SocketAddr,
    /// The bearer token of the port.
    pub token: Option<SecretString>,
}

/// `storage.*`.
#[derive(Clone, Debug)]
pub enum Storage {
    /// The memory of this process: everything is lost when it ends.
    Memory,
    /// A database.
    Database(storage::Location),
}

impl Config {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// Every invalid setting: its name, its value unless it is a secret, and what is valid.
    pub fn load(mode: Mode, sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(mode, sources)?;
        let storage = data::storage(&mut reader);
        let (scan_key, single_use) = commerce::scan_key(&mut reader);
        let config = Self {
            mode,
            server: ports::server(&mut reader),
            tls: ports::tls(&mut reader),
            management: ports::management(&mut reader),
            demo_key: None,
            rate_limit: Allowance {
                per_second: reader.integer("rate_limit.requests_per_second", NonZeroU32::MIN..=BILLION),
                burst: reader.integer("rate_limit.burst", NonZeroU32::MIN..=BILLION),
                max_callers: reader.integer("rate_limit.max_callers", 1..=10_000_000),
            },
            failures_per_minute: reader.integer("rate_limit.failures_per_minute", NonZeroU32::MIN..=commerce::MILLION),
            shared_rate_limit: ports::shared_rate_limit(&mut reader),
            hash_key: data::hash_key(&mut reader, &storage),
            storage,
            ledger: ledger(&mut reader),
            scan_key,
            single_use,
            commerce: commerce::commerce(&mut reader, mode),
            directory: data::directory_source(&reader, mode),
            identity_backend: data::identity_backend(&mut reader),
            payment_source: reader.boolean("answer.payment_source"),
            log: telemetry::log(&mut reader),
            traces: telemetry::traces(&mut reader),
        };
        ports::check(&mut reader, mode, &config);
        reader.finish(config)
    }
}

/// Reads only `scan_key.*`, for the commands that create codes. Without a configuration file and a prefix, the result
/// is the demo's format, and the second value is true. With a file that has no prefix, the result is `None`.
pub fn load_scan_key(sources: &Sources) -> Result<(Option<ScanKeyFormat>, bool), ConfigError> {
    let format = |mode| {
        let mut reader = Reader::new(mode, sources)?;
        let (format, _) = commerce::scan_key(&mut reader);
        reader.finish(format)
    };
    match format(Mode::Serve)? {
        None if sources.file.is_none() => Ok((format(Mode::Demo)?, true)),
        format => Ok((format, false)),
    }
}

/// Reads only `scan_key.signing_keys`, for the command that creates codes with any prefix.
pub fn load_signing_keys(sources: &Sources) -> Result<Option<SigningKeys>, ConfigError> {
    let mut reader = Reader::new(Mode::Serve, sources)?;
    let keys = commerce::signing_keys(&mut reader);
    reader.finish(keys)
}

/// Reads only `server.bind`, and whether that port uses TLS, for the health check.
pub fn load_bind(sources: &Sources) -> Result<(SocketAddr, bool), ConfigError> {
    let mut reader = Reader::new(Mode::Serve, sources)?;
    let bind = (reader.address("server.bind"), !reader.text("tls.certificate").is_empty());
    reader.finish(bind)
}

/// Reads only `log.format`, to report that the configuration is not valid.
pub fn log_format(mode: Mode, sources: &Sources) -> LogFormat {
    let without_file = || Reader::new(mode, &Sources { file: None, ..sources.clone() });
    match Reader::new(mode, sources).or_else(|_| without_file()) {
        Ok(reader) if reader.text("log.format") == "text" => LogFormat::Text,
        _ => LogFormat::Json,
    }
}

/// Reads only `storage.*` and the hash key, for the commands that use the database.
pub fn load_storage(sources: &Sources) -> Result<(Storage, Option<HashKey>), ConfigError> {
    let mut reader = Reader::new(Mode::Serve, sources)?;
    let storage = data::storage(&mut reader);
    let hash_key = data::hash_key(&mut reader, &storage);
    reader.finish((storage, hash_key))
}

/// `config/default.toml`: every setting with its meaning, range and default.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// A setting with the value that takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its full name, such as `server.bind`.
    pub name: String,
    /// Its value, written as in a file; a secret is hidden.
    pub value: String,
    /// The origin of a value that differs from the default.
    pub changed: Option<Override>,
}

/// The origin of a value that overrides the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The environment variable or the file.
    pub origin: String,
    /// The default, written as in a file; `None` in a named section.
    pub default: Option<String>,
}

/// Every setting with the value that takes effect, ordered by name.
pub fn effective(mode: Mode, sources: &Sources) -> Result<Vec<Effective>, ConfigError> {
    Ok(Reader::new(mode, sources)?.effective())
}

const BILLION: NonZeroU32 = NonZeroU32::new(1_000_000_000).unwrap();
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn ledger(reader: &mut Reader) -> ledger::Limits {
    let retention = reader.duration("ledger.retention", DAY..=DAY.saturating_mul(3650));
    ledger::Limits {
        retention: delta(retention),
        capacity: reader.integer("ledger.capacity", 1..=100_000_000),
        cache: reader.integer("ledger.cache", 1..=100_000_000),
        // A session is deleted together with the record of its entry.
        session_max_age: delta(reader.duration("session.max_age", MINUTE..=retention)),
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests;
