//! Error messages for operators about failed outgoing requests and unusable files: what happened and, if known, what to
//! do.

use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// The root cause of a failed request, such as "connection refused". The outer errors say less.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(message) = tls_error(cause) {
            return message.to_owned();
        }
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return "the answer is not valid HTTP: does the port speak TLS (https://)?".to_owned();
        }
        // `source` of an `io::Error` skips the error that it wraps.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped.map(|error| error as &(dyn Error + 'static)).or_else(|| cause.source()) {
            Some(source) => cause = source,
            None => break,
        }
    }
    let message = cause.to_string();
    match cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
        // "Connection refused (os error 111)"
        Some(_) => message.split(" (os error").next().unwrap_or_default().to_lowercase(),
        None => message,
    }
}

/// A message for a failed handshake, if the message of rustls does not say what to do.
fn tls_error(error: &(dyn Error + 'static)) -> Option<&'static str> {
    Some(match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "the certificate is issued by a CA that is not trusted here: trust that CA, or give its PEM file"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet: check this machine's clock"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for another host name: use a name from the certificate, or a certificate for this name"
            }
            other if other.to_string().contains("CaUsedAsEndEntity") => {
                "the certificate is a CA certificate: use a server certificate, see docs/security.md"
            }
            _ => return None,
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate, and none was given"
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown,
        ) => "the server refused the client certificate",
        rustls::Error::InvalidMessage(_) => "the port does not speak TLS",
        _ => return None,
    })
}

/// Folders of the system, whose owner must not be changed.
const SYSTEM_FOLDERS: [&str; 14] = [
    "/", "/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var", "/var/lib", "/var/run",
    "/var/tmp",
];

/// A message about a file that cannot be used. If a permission is missing, it names the user and the command that
/// helps.
pub(crate) fn file_error(path: &Path, error: &io::Error) -> String {
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
            format!("run it as uid {owner}, which owns {}, or change its owner to uid {uid}", found.display())
        }
        Some((found, _))
            if found == path || (found == folder && !SYSTEM_FOLDERS.iter().any(|system| found == *system)) =>
        {
            format!("chown {uid} {}", found.display())
        }
        Some((found, _)) if found == folder => "use a file in a separate folder".to_owned(),
        _ => format!("install -d -m 0700 -o {uid} {}", folder.display()),
    };
    format!("{error}: this process runs as uid {uid}; to fix it: {help}")
}
