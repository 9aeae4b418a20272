//! `demo`: the connector in memory, with the published test data, and what to try with it.

use std::net::SocketAddr;
use std::process::ExitCode;

use super::print;
use super::serve::start;
use crate::config::{Mode, Sources};

pub(super) async fn run(sources: &Sources) -> ExitCode {
    start(Mode::Demo, sources, |app| print(&what_to_try(app.api_address(), app.management_address()))).await
}

fn what_to_try(api: SocketAddr, management: SocketAddr) -> String {
    let program = std::env::args_os().next().unwrap_or_else(|| "identity-connector".into());
    let program = program.to_string_lossy();
    format!(
        r#"Identity Connector, demo: in memory, with the published test data, until Ctrl-C.

  API         http://{api}
  Management  http://{management}

Scan a shopper's key at a gate, then one that is flagged, then a fresh Scan Key Code:

  {program} gate --url http://{api} --key valid_shopper_key
  {program} gate --url http://{api} --key flagged_shopper_key
  {program} gate --url http://{api} --token 0123456789abcdef0123456789abcdef

When the backend cannot be asked, the store's default gate decision counts:

  {program} gate --url http://{api} --key unavailable_backend_key --default-gate open

The same call as Amazon makes it, and who is in the store now:

  curl -i http://{api}/v1/identity/identity-keys -d '{{
    "requestId": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "identityKey": "dmFsaWRfc2hvcHBlcl9rZXk=",
    "storeId": "STORE-001",
    "authEvent": {{
      "id": "11111111-2222-3333-4444-555555555555",
      "timestamp": "2024-02-09T17:53:57Z",
      "location": "ENTRY"
    }}
  }}'
  curl http://{management}/admin/v1/sessions

A Scan Key Code as the shopper's app would show it:

  {program} scan-key --token 0123456789abcdef0123456789abcdef

"#
    )
}
