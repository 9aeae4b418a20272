//! `demo`: runs the connector in memory with Amazon's published test data, and prints commands to try.

use std::process::ExitCode;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use super::serve::start;
use super::{ConfigArgs, fail, print};
use crate::app::App;
use crate::config::{Config, DirectorySource, Mode};
use crate::digest::new_secret;
use crate::outgoing::reachable;

pub(super) const HELP: &str = "\
Example:
  identity-connector demo";

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Listen on all addresses, as a container needs; create random keys for administration, apps and the page, and
    /// print them
    #[arg(long)]
    publish: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Random keys for one run. A key is printed, unless the configuration has its own: then it is `None`.
struct Keys {
    management_token: Option<SecretString>,
    /// Only with `--publish`.
    authorization_key: Option<SecretString>,
    /// Only with `--publish`.
    page_key: Option<SecretString>,
}

pub(super) async fn run(args: &DemoArgs) -> ExitCode {
    let mut keys = match Keys::random(args.publish) {
        Ok(keys) => keys,
        Err(error) => return fail(1, &error),
    };
    let mut sources = args.config.sources();
    let mut default = |name: &str, value: &str| sources.defaults.push((name.to_owned(), value.to_owned()));
    default("management.token", expose(&keys.management_token));
    if args.publish {
        default("server.bind", "0.0.0.0:8080");
        default("management.bind", "0.0.0.0:9090");
        default("commerce.authorization_key", expose(&keys.authorization_key));
    }
    let mode = if args.publish { Mode::PublishedDemo } else { Mode::Demo };
    let prepare = |config: &mut Config| {
        let data = match &config.directory {
            DirectorySource::File { path, .. } => format!("the directory file {}", path.display()),
            DirectorySource::DemoData | DirectorySource::Unchanged => "Amazon's published test data".to_owned(),
        };
        config.demo_key.clone_from(&keys.page_key);
        // A configuration file may set an empty token: a demo always has one.
        let token = config.management.token.take().or_else(|| keys.management_token.clone());
        keys.management_token = keys.management_token.filter(|random| is_same(random, token.as_ref()));
        config.management.token = token;
        let used = config.commerce.as_ref().and_then(|commerce| commerce.authorization_keys.first());
        keys.authorization_key = keys.authorization_key.filter(|random| is_same(random, used));
        (keys, data)
    };
    start(mode, &sources, prepare, |app, (keys, data)| print(&instructions(app, &keys, &data))).await
}

impl Keys {
    fn random(publish: bool) -> Result<Self, getrandom::Error> {
        let if_published = || publish.then(new_secret).transpose();
        Ok(Self {
            management_token: Some(new_secret()?),
            authorization_key: if_published()?,
            page_key: if_published()?,
        })
    }
}

fn is_same(random: &SecretString, used: Option<&SecretString>) -> bool {
    used.is_some_and(|used| used.expose_secret() == random.expose_secret())
}

fn expose(key: &Option<SecretString>) -> &str {
    key.as_ref().map_or("", |key| key.expose_secret())
}

/// The addresses, and commands to try.
fn instructions(app: &App, keys: &Keys, data: &str) -> String {
    let program = std::env::args_os().next().unwrap_or_else(|| "identity-connector".into());
    let program = program.to_string_lossy();
    let api = format!("http{}://{}", if app.tls().is_some() { "s" } else { "" }, reachable(app.api_address()));
    let management = reachable(app.management_address());
    let token = keys.management_token.as_ref().map_or("<management.token>", |token| token.expose_secret());
    let mut addresses = String::new();
    if app.shoppers_address().is_some() && app.tls().is_none() {
        let key = keys.page_key.as_ref().map(|key| format!("#key={}", key.expose_secret())).unwrap_or_default();
        addresses.push_str(&format!("  Page        {api}/demo{key}\n"));
    }
    addresses.push_str(&format!("  API         {api}\n  Management  http://{management}\n"));
    if let Some(key) = &keys.authorization_key {
        addresses.push_str(&format!("  App key     {} (X-Auth-Key, for anonymous tokens)\n", key.expose_secret()));
    }
    if keys.page_key.is_some() {
        addresses.push_str(&format!(
            "\nIn a container, put `docker exec NAME` before the commands that begin with {program}.\n"
        ));
    }
    format!(
        r#"Identity Connector demo: in memory, with {data}. Press Ctrl-C to stop it.

{addresses}
Scan a key at the simulated gate; then the key of a flagged shopper; then a new Scan Key Code:

  {program} gate --url {api} --key valid_shopper_key
  {program} gate --url {api} --key flagged_shopper_key
  {program} gate --url {api} --token 0123456789abcdef0123456789abcdef

Scan a key that makes the backend fail, so that the store's default gate decision applies:

  {program} gate --url {api} --key unavailable_backend_key --default-gate open

Call the connector as Amazon does:

  curl -i {api}/v1/identity/identity-keys -d '{{
    "requestId": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "identityKey": "dmFsaWRfc2hvcHBlcl9rZXk=",
    "storeId": "STORE-001",
    "authEvent": {{
      "id": "11111111-2222-3333-4444-555555555555",
      "timestamp": "2024-02-09T17:53:57Z",
      "location": "ENTRY"
    }}
  }}'

List who is in the store; flag a shopper, so that the gates refuse them; unflag the shopper:

  curl -H 'Authorization: Bearer {token}' http://{management}/admin/v1/sessions
  curl -X POST -H 'Authorization: Bearer {token}' http://{management}/admin/v1/shoppers/shopper-uuid-001/flag
  curl -X POST -H 'Authorization: Bearer {token}' http://{management}/admin/v1/shoppers/shopper-uuid-001/unflag

Create a Scan Key Code as the shopper's app shows it:

  {program} scan-key --token 0123456789abcdef0123456789abcdef

"#
    )
}
