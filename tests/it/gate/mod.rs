//! The gate's call and the server, rule by rule (`docs/api.md`), against a running service over real sockets.

pub(crate) mod body;
pub(crate) mod callers;
pub(crate) mod connections;
pub(crate) mod decision;
pub(crate) mod failure;
pub(crate) mod formats;
pub(crate) mod headers;
pub(crate) mod identity;
pub(crate) mod json;
pub(crate) mod lengths;
pub(crate) mod members;
pub(crate) mod overload;
pub(crate) mod peers;
pub(crate) mod properties;
pub(crate) mod rate_limit;
pub(crate) mod routing;
pub(crate) mod scan_key;
pub(crate) mod scan_key_age;
pub(crate) mod stop;
pub(crate) mod tls;
pub(crate) mod traces;
pub(crate) mod trusted_proxies;
pub(crate) mod validation;
pub(crate) mod wire;
