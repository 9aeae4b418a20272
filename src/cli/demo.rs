//! `demo`: the connector in memory, with the published test data, and what to try with it.

use std::process::ExitCode;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use super::serve::start;
use super::{ConfigArgs, fail, print};
use crate::administration::new_secret;
use crate::app::App;
use crate::config::{Config, Mode};
use crate::loopback::reachable;

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Listens on every address, as a container needs it; makes all its keys at random and prints them
    #[arg(long)]
    publish: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What is of use to one run of the demo only, and is printed unless the configuration has its own.
struct Keys {
    management_token: SecretString,
    authorization_key: SecretString,
    page_key: SecretString,
}

/// The keys to print; `None` for one that was configured, which is not for the screen.
struct Shown {
    management_token: Option<String>,
    /// Only where the demo is published.
    authorization_key: Option<String>,
    page_key: Option<String>,
}

pub(super) async fn run(args: &DemoArgs) -> ExitCode {
    let keys = match Keys::random() {
        Ok(keys) => keys,
        Err(error) => return fail(1, &error),
    };
    let mut sources = args.config.sources();
    let secret = |secret: &SecretString| secret.expose_secret().to_owned();
    let mut default = |name: &str, value: String| sources.defaults.push((name.to_owned(), value));
    default("management.token", secret(&keys.management_token));
    if args.publish {
        default("server.bind", "0.0.0.0:8080".to_owned());
        default("management.bind", "0.0.0.0:9090".to_owned());
        default("commerce.authorization_key", secret(&keys.authorization_key));
    }
    let mode = if args.publish { Mode::PublishedDemo } else { Mode::Demo };
    let prepare = |config: &mut Config| {
        // A file may have taken the default away: the administration of a demo is never without a token.
        config.management.token.get_or_insert_with(|| keys.management_token.clone());
        let page_key = args.publish.then(|| secret(&keys.page_key));
        config.demo_key = page_key.clone().map(SecretString::from);
        keys.shown(config, page_key)
    };
    start(mode, &sources, prepare, |app, shown| print(&what_to_try(app, &shown))).await
}

impl Keys {
    fn random() -> Result<Self, getrandom::Error> {
        Ok(Self { management_token: new_secret()?, authorization_key: new_secret()?, page_key: new_secret()? })
    }

    fn shown(&self, config: &Config, page_key: Option<String>) -> Shown {
        let if_used = |made: &SecretString, used: Option<&SecretString>| {
            let made = made.expose_secret();
            used.is_some_and(|used| used.expose_secret() == made).then(|| made.to_owned())
        };
        let app_keys = config.commerce.as_ref().map(|commerce| &commerce.authorization_keys);
        Shown {
            management_token: if_used(&self.management_token, config.management.token.as_ref()),
            authorization_key: if_used(&self.authorization_key, app_keys.and_then(|keys| keys.first())),
            page_key,
        }
    }
}

fn what_to_try(app: &App, shown: &Shown) -> String {
    let program = std::env::args_os().next().unwrap_or_else(|| "identity-connector".into());
    let program = program.to_string_lossy();
    let api = format!("http{}://{}", if app.tls().is_some() { "s" } else { "" }, reachable(app.api_address()));
    let management = reachable(app.management_address());
    let token = shown.management_token.as_deref().unwrap_or("<management.token>");
    let mut addresses = String::new();
    if app.shoppers_address().is_some() && app.tls().is_none() {
        let key = shown.page_key.as_ref().map(|key| format!("#key={key}")).unwrap_or_default();
        addresses.push_str(&format!("  Page        {api}/demo{key}\n"));
    }
    addresses.push_str(&format!("  API         {api}\n  Management  http://{management}\n"));
    if let Some(key) = &shown.authorization_key {
        addresses.push_str(&format!("  App key     {key} (X-Auth-Key, for anonymous tokens)\n"));
    }
    format!(
        r#"Identity Connector demo: in memory, with Amazon's published test data. Ctrl-C ends it.

{addresses}
Scan a key at the simulated gate; then a flagged shopper's key; then a fresh Scan Key Code:

  {program} gate --url {api} --key valid_shopper_key
  {program} gate --url {api} --key flagged_shopper_key
  {program} gate --url {api} --token 0123456789abcdef0123456789abcdef

Scan a key for which the backend fails: the store's default gate decision applies:

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

List who is in the store, and flag a shopper, who is then refused:

  curl -H 'Authorization: Bearer {token}' http://{management}/admin/v1/sessions
  curl -X POST -H 'Authorization: Bearer {token}' http://{management}/admin/v1/shoppers/shopper-uuid-001/flag

Make a Scan Key Code as the shopper's app shows it:

  {program} scan-key --token 0123456789abcdef0123456789abcdef

"#
    )
}
