//! The storage engines: the same tests on memory, SQLite and PostgreSQL, tests of shared databases, and rate limits
//! shared in Redis.

pub(crate) mod capacity;
pub(crate) mod crash;
pub(crate) mod gcra;
pub(crate) mod hostile;
pub(crate) mod idempotency;
pub(crate) mod idle;
pub(crate) mod import;
pub(crate) mod locked;
pub(crate) mod look_ups;
pub(crate) mod outage;
pub(crate) mod pressure;
pub(crate) mod races;
pub(crate) mod rate_limit;
pub(crate) mod recording;
pub(crate) mod replicas;
pub(crate) mod retention;
pub(crate) mod sessions;
pub(crate) mod single_use;
pub(crate) mod starting;
