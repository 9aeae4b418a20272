//! `healthcheck`: what a container runtime asks every few seconds.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Url;

use super::{ConfigArgs, EXIT_USAGE, fail, print};
use crate::cause::innermost;
use crate::config::load_bind;
use crate::http::READYZ;
use crate::loopback::reachable;

/// How long the connector may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(super) struct HealthcheckArgs {
    /// The connector's base URL [default: this machine, at the port of server.bind]
    #[arg(long)]
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
        Err(error) => fail(1, &format!("not ready: {}", innermost(&error))),
    }
}

/// `is_ours`: the address is the one that this very configuration binds.
async fn ask(url: Url, is_ours: bool) -> Result<reqwest::StatusCode, reqwest::Error> {
    let mut client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    if url.scheme() == "http" {
        // Without TLS there are no root certificates to load, nor to miss in an image without any.
        client = client.tls_certs_only([]);
    } else if is_ours {
        // The certificate names what the world calls this machine, never 127.0.0.1, and may be of an authority that this image does not
        // know. Nothing is told here that a stranger in the connector's place could use, and whoever binds that address is on this machine.
        client = client.tls_certs_only([]).tls_danger_accept_invalid_certs(true);
    }
    Ok(client.build()?.get(url).send().await?.status())
}
