//! `demo`: the connector in memory, with the published test data, and what to try with it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::process::ExitCode;

use secrecy::ExposeSecret as _;

use super::serve::start;
use super::{fail, print};
use crate::administration::new_secret;
use crate::app::App;
use crate::config::{Config, Mode, Sources};

pub(super) async fn run(sources: &Sources) -> ExitCode {
    let made = match new_secret() {
        Ok(secret) => secret,
        Err(error) => return fail(1, &error),
    };
    // One that was made here is of use to nobody else, and gone with the demo; one that was configured is not for the screen.
    let shown = Cell::new("<management.token>".to_owned());
    let prepare = |config: &mut Config| {
        if config.management.token.is_none() {
            shown.set(made.expose_secret().to_owned());
            config.management.token = Some(made);
        }
    };
    let started = |app: &App| {
        let has_page = app.shoppers_address().is_some() && app.tls().is_none();
        let api = format!("http{}://{}", if app.tls().is_some() { "s" } else { "" }, app.api_address());
        print(&what_to_try(&api, has_page, app.management_address(), &shown.take()));
    };
    start(Mode::Demo, sources, prepare, started).await
}

fn what_to_try(api: &str, has_page: bool, management: SocketAddr, token: &str) -> String {
    let program = std::env::args_os().next().unwrap_or_else(|| "identity-connector".into());
    let program = program.to_string_lossy();
    let page = if has_page { format!("  To see it   {api}/demo\n") } else { String::new() };
    format!(
        r#"Identity Connector, demo: in memory, with the published test data, until Ctrl-C.

{page}  API         {api}
  Management  http://{management}

Scan a shopper's key at a gate, then one that is flagged, then a fresh Scan Key Code:

  {program} gate --url {api} --key valid_shopper_key
  {program} gate --url {api} --key flagged_shopper_key
  {program} gate --url {api} --token 0123456789abcdef0123456789abcdef

When the backend cannot be asked, the store's default gate decision counts:

  {program} gate --url {api} --key unavailable_backend_key --default-gate open

The same call as Amazon makes it:

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

Who is in the store now, and a shopper who is held back from the next scan on:

  curl -H 'Authorization: Bearer {token}' http://{management}/admin/v1/sessions
  curl -X POST -H 'Authorization: Bearer {token}' http://{management}/admin/v1/shoppers/shopper-uuid-001/flag

A Scan Key Code as the shopper's app would show it:

  {program} scan-key --token 0123456789abcdef0123456789abcdef

"#
    )
}
