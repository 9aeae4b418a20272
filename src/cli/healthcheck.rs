//! `healthcheck`: the command that a container runtime runs every few seconds.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Url;

use super::{ConfigArgs, EXIT_USAGE, fail, print};
use crate::cause::root_cause;
use crate::config::load_bind;
use crate::http::READYZ;
use crate::outgoing::reachable;

/// The maximum time for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) const HELP: &str = "\
Example:
  identity-connector healthcheck --config connector.toml

Exit codes:
  0   the connector is ready
  1   it is not ready, or does not answer
  64  bad usage or configuration";

#[derive(Args, Debug)]
pub(super) struct HealthcheckArgs {
    #[arg(
        long,
        help = "Check the connector at this base URL, such as http://127.0.0.1:8080 [default: this machine, at \
                        the port of server.bind]"
    )]
    url: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run(args: &HealthcheckArgs) -> ExitCode {
    let (url, is_ours) = match &args.url {
        Some(url) => (url.trim_end_matches('/').to_owned(), false),
        None => match load_bind(&args.config.sources()) {
            Ok((bind, speaks_tls)) => {
                (format!("http{}://{}", if speaks_tls { "s" } else { "" }, reachable(bind)), true)
            }
            Err(error) => return fail(EXIT_USAGE, &error),
        },
    };
    let Ok(url) = Url::parse(&format!("{url}{READYZ}")) else {
        return fail(EXIT_USAGE, &"--url: not a URL such as http://127.0.0.1:8080");
    };
    match ask(url, is_ours).await {
        Ok(status) if status.is_success() => {
            print("ready\n");
            ExitCode::SUCCESS
        }
        Ok(status) => fail(1, &format!("not ready: {READYZ} answers {status}")),
        Err(error) => fail(1, &format!("not ready: {}", root_cause(&error))),
    }
}

/// `is_ours`: the address comes from `server.bind` of this machine's configuration.
async fn ask(url: Url, is_ours: bool) -> Result<reqwest::StatusCode, reqwest::Error> {
    let mut client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT);
    if url.scheme() == "http" {
        // Without TLS no root certificates are needed, and an image may have none.
        client = client.tls_certs_only([]);
    } else if is_ours {
        // The certificate has the public host name, not 127.0.0.1, and its CA may be unknown in this image. The request
        // contains no secret, and only a process on this machine can listen on the address.
        client = client.tls_certs_only([]).tls_danger_accept_invalid_certs(true);
    }
    Ok(client.build()?.get(url).send().await?.status())
}
