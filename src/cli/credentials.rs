//! How one shows a connector who asks.

use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use super::secret;
use crate::gate::GateSettings;

const API_KEY_VARIABLE: &str = "CONNECTOR_API_KEY";

/// Secrets, which no message repeats, and whom to trust with them.
#[derive(Args, Debug)]
pub(super) struct CredentialArgs {
    #[arg(long, help = "Sent as X-Api-Key [default: the environment's CONNECTOR_API_KEY]")]
    #[arg(value_parser = secret(), allow_hyphen_values = true)]
    api_key: Option<SecretString>,
    /// A file that holds the API key
    #[arg(long, conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
    /// PEM file with the authorities that the connector's certificate is checked against [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with the certificate that is shown to the connector
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

impl CredentialArgs {
    /// Puts them where a gate has them.
    pub(super) fn apply(&self, settings: &mut GateSettings) -> Result<(), String> {
        settings.api_key = self.api_key()?;
        settings.authorities = self.ca.as_deref().map(|path| read("--ca", path)).transpose()?;
        settings.certificate = self.certificate()?;
        Ok(())
    }

    fn api_key(&self) -> Result<Option<SecretString>, String> {
        let key = if let Some(path) = &self.api_key_file {
            let text = fs::read_to_string(path)
                .map_err(|error| format!("--api-key-file: cannot read {}: {error}", path.display()))?;
            SecretString::from(text.trim())
        } else if let Some(key) = &self.api_key {
            key.clone()
        } else {
            match env::var(API_KEY_VARIABLE) {
                Ok(key) if !key.is_empty() => SecretString::from(key),
                Err(env::VarError::NotUnicode(_)) => return Err(format!("{API_KEY_VARIABLE} is not text")),
                _ => return Ok(None),
            }
        };
        if key.expose_secret().is_empty() {
            return Err("the API key is empty; leave it out to send none".to_owned());
        }
        Ok(Some(key))
    }
    /// The certificate and its key, one after the other.
    fn certificate(&self) -> Result<Option<SecretSlice<u8>>, String> {
        let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) else { return Ok(None) };
        let mut pem = read("--client-certificate", certificate)?;
        pem.push(b'\n');
        pem.extend(read("--client-key", key)?);
        Ok(Some(pem.into()))
    }
}

fn read(argument: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{argument}: cannot read {}: {error}", path.display()))
}
