//! Why a request of our own or the use of a file failed, in words for a person: what happened and, where it is known, what to do.

use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// The innermost cause, which is the one that tells a person something: "connection refused".
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(words) = of_tls(cause) {
            return words.to_owned();
        }
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return "the answer is not valid HTTP: does the port speak TLS (https://)?".to_owned();
        }
        // An `io::Error` hides what it wraps from `source`.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped.map(|error| error as &(dyn Error + 'static)).or_else(|| cause.source()) {
            Some(source) => cause = source,
            None => break,
        }
    }
    let words = cause.to_string();
    match cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        // "Connection refused (os error 111)"
        Some(_) => words.split(" (os error").next().unwrap_or_default().to_lowercase(),
        None => words,
    }
}

/// A failed handshake, where rustls' own words do not say what to do.
fn of_tls(error: &(dyn Error + 'static)) -> Option<&'static str> {
    Some(match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "the certificate is signed by an authority that is not trusted here: trust it, or give its PEM file"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet: check this machine's clock"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for another host name: use a name that it holds, or make one for this name"
            }
            other if other.to_string().contains("CaUsedAsEndEntity") => {
                "the certificate is a CA certificate: make one for the server, see docs/security.md"
            }
            _ => return None,
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the other side asks for a client certificate, and none was given"
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown,
        ) => "the other side does not accept the client certificate",
        rustls::Error::InvalidMessage(_) => "the port does not speak TLS",
        _ => return None,
    })
}

/// Folders that belong to the system, whoever runs this.
const SYSTEM: [&str; 14] = [
    "/", "/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var", "/var/lib", "/var/run",
    "/var/tmp",
];

/// Why a file cannot be used; where permission is missing, which user needs it and what gives it.
pub(crate) fn of_file(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error.to_string();
    }
    let uid = rustix::process::geteuid().as_raw();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(&path);
    let found = path.ancestors().find_map(|path| Some((path, path.metadata().ok()?.uid())));
    let help = match found {
        Some((found, owner)) if owner == uid => format!("chmod u+rwX {}", found.display()),
        Some((found, owner)) if owner != 0 => {
            format!("run it as uid {owner}, which owns {}, or give that to uid {uid}", found.display())
        }
        Some((found, _)) if found == path || (found == folder && !SYSTEM.iter().any(|system| found == *system)) => {
            format!("chown {uid} {}", found.display())
        }
        Some((found, _)) if found == folder => "name a file in a folder of its own".to_owned(),
        _ => format!("install -d -m 0700 -o {uid} {}", folder.display()),
    };
    format!("{error}: this process runs as uid {uid}; what helps: {help}")
}
