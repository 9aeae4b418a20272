//! The URL of Redis, and the certificate authorities that it is verified with.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, TlsCertificates};
use thiserror::Error;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// `rate_limit.url`: the address of Redis, and perhaps a password. Its `Debug` output hides both.
#[derive(Clone)]
pub struct RedisUrl(pub(super) Client);

/// The text is not a [`RedisUrl`]. The message does not quote the text, which may contain a password.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS; all parts but the host are optional, and \
     special characters must be percent-encoded (%40 for @)"
)]
pub struct RedisUrlError;

/// The certificate authorities cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RedisAuthorityError {
    /// The URL is not for TLS.
    #[error("needs TLS: rate_limit.url must begin with rediss://")]
    Plain,
    /// They are not certificates.
    #[error("must be a PEM file with at least one certificate")]
    Unreadable,
}

impl RedisUrl {
    /// Trusts only these certificate authorities, in the PEM format, to verify the server.
    ///
    /// # Errors
    /// When the URL is not for TLS, or the text contains no certificates.
    pub fn with_authorities(self, authorities: &str) -> Result<Self, RedisAuthorityError> {
        let info = self.0.get_connection_info().clone();
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(RedisAuthorityError::Plain);
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities.as_bytes()).collect();
        if certificates.is_ok_and(|certificates| certificates.is_empty()) {
            return Err(RedisAuthorityError::Unreadable); // without an authority no server can be verified
        }
        let tls = TlsCertificates { client_tls: None, root_cert: Some(authorities.as_bytes().to_vec()) };
        Client::build_with_tls(info, tls).map(Self).map_err(|_| RedisAuthorityError::Unreadable)
    }

    /// Parses a URL, without connecting.
    ///
    /// # Errors
    /// When the scheme is not `redis://` or `rediss://`, or the URL asks for TLS without verification.
    pub fn parse(url: &str) -> Result<Self, RedisUrlError> {
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(RedisUrlError);
        }
        // An unescaped character in a password would end it early, and the rest would be read as a path, a query or a
        // fragment.
        let (_, rest) = url.split_once("://").ok_or(RedisUrlError)?;
        if rest.split_once(['/', '?', '#']).is_some_and(|(_, rest)| rest.contains('@')) {
            return Err(RedisUrlError);
        }
        let info = url.into_connection_info().map_err(|_| RedisUrlError)?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(RedisUrlError);
        }
        // Without this, a request's packet would wait for the acknowledgement of the packet before it.
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
    fn only_redis_urls_with_or_without_verified_tls_are_accepted() {
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
            "rediss://localhost/#insecure", // TLS without verification
        ] {
            assert_eq!(RedisUrl::parse(url).err(), Some(RedisUrlError), "{url}");
        }
    }
}
