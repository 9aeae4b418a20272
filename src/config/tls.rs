//! `tls.*`: the server certificate, and the CA certificates of clients.

use super::reader::Reader;
use crate::tls::TlsSettings;

const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "tls.client_authority";

/// `None` if there is no certificate, or if the files cannot be used; the errors are reported through `reader`.
pub(super) fn read(reader: &mut Reader) -> Option<TlsSettings> {
    let [certificate, key, authority] = [CERTIFICATE, KEY, AUTHORITY].map(|setting| reader.text(setting));
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) if authority.is_empty() => return None,
        (true, true) => {
            reader.refuse(AUTHORITY, "needs tls.certificate and tls.key: clients present certificates only with TLS");
            return None;
        }
        (true, false) => {
            reader.refuse(
                CERTIFICATE,
                "is required with tls.key: a PEM file, the certificate first, then the intermediate certificates",
            );
            return None;
        }
        (false, true) => {
            reader.refuse(KEY, "is required with tls.certificate: a PEM file with its private key");
            return None;
        }
        (false, false) => {}
    }
    let client_authority = (!authority.is_empty()).then(|| authority.into());
    let settings = TlsSettings { certificate: certificate.into(), key: key.into(), client_authority };
    if let Err(error) = settings.check() {
        for problem in error.0 {
            reader.refuse(problem.setting, &problem.message);
        }
        return None;
    }
    Some(settings)
}
