//! Where the server is.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, TlsCertificates};
use thiserror::Error;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// `rate_limit.url`: where the server is, and perhaps a password. Never shown.
#[derive(Clone)]
pub struct RedisUrl(pub(super) Client);

/// Why a text is no [`RedisUrl`]. It does not quote it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS; all but the host may be left out, and what is \
     special in a URL is written like %40"
)]
pub struct RedisUrlError;

/// Why texts in the PEM format are not the authorities of a server.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RedisAuthorityError {
    /// There is no TLS.
    #[error("is for TLS: rate_limit.url must begin with rediss://")]
    Plain,
    /// They are not certificates.
    #[error("must be a PEM file with at least one certificate")]
    Unreadable,
}

impl RedisUrl {
    /// The same server, for which only these authorities may vouch, in the PEM format.
    ///
    /// # Errors
    /// When it speaks no TLS, or they are not certificates.
    pub fn trusting(self, authorities: &str) -> Result<Self, RedisAuthorityError> {
        let info = self.0.get_connection_info().clone();
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(RedisAuthorityError::Plain);
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities.as_bytes()).collect();
        if certificates.is_ok_and(|certificates| certificates.is_empty()) {
            return Err(RedisAuthorityError::Unreadable); // no authority could vouch for it
        }
        let tls = TlsCertificates { client_tls: None, root_cert: Some(authorities.as_bytes().to_vec()) };
        Client::build_with_tls(info, tls).map(Self).map_err(|_| RedisAuthorityError::Unreadable)
    }

    /// Reads it without connecting.
    ///
    /// # Errors
    /// When it is not one of `redis://` or `rediss://`, or is for a TLS that proves nothing.
    pub fn parse(url: &str) -> Result<Self, RedisUrlError> {
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(RedisUrlError);
        }
        // Of a password with an unescaped character, which ends it early, the rest would be taken for a path, a query or a fragment.
        let (_, rest) = url.split_once("://").ok_or(RedisUrlError)?;
        if rest.split_once(['/', '?', '#']).is_some_and(|(_, rest)| rest.contains('@')) {
            return Err(RedisUrlError);
        }
        let info = url.into_connection_info().map_err(|_| RedisUrlError)?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(RedisUrlError);
        }
        // Or one request's packet would wait for the acknowledgement of another's.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Client::open(info).map(Self).map_err(|_| RedisUrlError)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_redis_with_or_without_tls_and_no_other() {
        for url in [
            "redis://localhost",
            "redis://127.0.0.1:6379/3",
            "redis://[::1]:6379",
            "redis://:p%40ss@valkey.internal",
            "rediss://connector:secret@valkey.internal:6380/0",
        ] {
            let url = RedisUrl::parse(url).expect(url);
            assert_eq!(format!("{url:?}"), "RedisUrl(hidden)");
        }
        for url in [
            "",
            "localhost",
            "localhost:6379",
            "http://localhost",
            "unix:///run/redis.sock",
            "redis://",
            "redis://:secret@",
            "redis://localhost/three",
            "redis://localhost:port",
            "redis://0.0.0.0",
            "redis://u:12/secret@localhost",
            "redis://u:12?secret@localhost",
            "redis://u:12#secret@localhost",
            "rediss://localhost/#insecure", // TLS with anybody is none
        ] {
            assert_eq!(RedisUrl::parse(url).err(), Some(RedisUrlError), "{url}");
        }
    }
}
