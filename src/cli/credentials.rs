//! The options with which a command authenticates to a connector and verifies its certificate.

use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use super::secret;
use crate::simulator::GateSettings;

const API_KEY_VARIABLE: &str = "CONNECTOR_API_KEY";

// A comment, not a doc: clap would show it. No message repeats the secrets.
#[derive(Args, Debug)]
pub(super) struct CredentialArgs {
    /// Send this API key as X-Api-Key, such as my-api-key [default: the value of CONNECTOR_API_KEY]
    #[arg(long, value_name = "KEY", value_parser = secret(), allow_hyphen_values = true)]
    api_key: Option<SecretString>,
    /// Read the API key from this file, such as api-key.txt
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
    /// Verify the connector's certificate with the CA certificates in this PEM file, such as ca.pem [default: the
    /// system's CA certificates]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Present the client certificate in this PEM file, such as client.crt
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Use the private key in this PEM file with the client certificate, such as client.key
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

impl CredentialArgs {
    /// Copies the credentials into the settings of a gate.
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

    /// The certificate, followed by its private key.
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
