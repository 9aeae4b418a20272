//! The connectors that cases run against: one started in this process for each case, one live `demo` for all cases, and
//! a deployed one.

use std::net::{IpAddr, Ipv4Addr};

use tokio::runtime::{Builder, Runtime};

use crate::case::{Case, RateLimit};
use crate::connector::{Connector, Management, client};
use crate::names::{Names, base_url};
use crate::run::run;
use crate::support;
use crate::translation::{EventIds, translate};

/// The live demo's rate limit: more than any case but 4.1 sends, and low enough for 4.1 to exceed.
const LIVE_DEMO_LIMIT: RateLimit = RateLimit { requests_per_second: 50, burst: 300 };

/// Runs a case against its own connector.
pub(crate) fn in_process(case: &Case, demo: &Names) -> Result<(), String> {
    let case = translate(case, demo, demo, EventIds::Published)?;
    runtime()?.block_on(async {
        let limit = case.rate_limit.map(limit_settings).unwrap_or_default();
        let settings: Vec<_> = limit.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let server = support::Server::demo(&settings).await;
        let connector = local(&server.api, &server.management, case.rate_limit)?;
        run(&case, &connector).await
    })
}

/// Runs all cases twice, in order, with the published ids both times: the records of the first pass must not change an
/// answer of the second.
pub(crate) fn live_demo_twice(cases: &[Case], demo: &Names) -> Result<(), String> {
    runtime()?.block_on(async {
        let limit = limit_settings(LIVE_DEMO_LIMIT);
        let mut settings: Vec<_> = limit.iter().map(|(name, value)| (*name, value.as_str())).collect();
        settings.push(("server.trusted_proxies", "127.0.0.1"));
        let process = support::Process::demo(&settings).await;
        let connector = local(&process.api, &process.management, Some(LIVE_DEMO_LIMIT))?;
        let mut callers = 1..;
        let mut differences = Vec::new();
        for pass in ["first", "second"] {
            for case in cases {
                // Each case has its own caller address, so that case 4.1 uses up only its own rate limit.
                let caller = callers.next().map(|host| IpAddr::from(Ipv4Addr::new(203, 0, 113, host)));
                let connector = Connector { forwarded_for: caller, ..connector.clone() };
                let case = translate(case, demo, demo, EventIds::Published)?;
                if let Err(difference) = run(&case, &connector).await {
                    differences.push(format!("{pass} pass, {difference}"));
                }
            }
        }
        if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
    })
}

/// The connector at `CONNECTOR_URL`.
pub(crate) struct Remote {
    api: String,
    api_key: Option<String>,
    names: Names,
}

impl Remote {
    /// Without `CONNECTOR_CASES` the connector must be a running demo.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let cases = variable("CONNECTOR_CASES");
        let Some(url) = variable("CONNECTOR_URL") else {
            return match cases {
                Some(_) => Err("CONNECTOR_CASES is set, but CONNECTOR_URL is not".to_owned()),
                None => Ok(None),
            };
        };
        let mut names = cases.as_deref().map_or_else(Names::demo, Names::read)?;
        if let (Some(management), Some(token)) = (&mut names.management, variable("CONNECTOR_MANAGEMENT_TOKEN")) {
            management.token = Some(token);
        }
        if cases.is_none() {
            // A demo makes a random management token and prints it. Without that token, sessions cannot be counted.
            names.management = names.management.filter(|management| management.token.is_some());
        }
        Ok(Some(Self {
            api: base_url(&url).map_err(|expected| format!("CONNECTOR_URL {expected}"))?,
            api_key: variable("CONNECTOR_API_KEY"),
            names,
        }))
    }

    /// The case translated for this connector, or the reason why it cannot run there.
    pub(crate) fn translate(&self, case: &Case, demo: &Names) -> Result<Case, String> {
        if case.rate_limit.is_some() {
            return Err(
                "the case would exceed the rate limit of a deployed connector that others may be using".to_owned()
            );
        }
        translate(case, &self.names, demo, EventIds::Fresh)
    }

    pub(crate) fn run(&self, case: &Case) -> Result<(), String> {
        let management = self.names.management.clone();
        let management_url = management.iter().map(|management| management.url.as_str());
        let connector = Connector {
            client: client(management_url.chain([self.api.as_str()]))?,
            api: self.api.clone(),
            api_key: self.api_key.clone(),
            forwarded_for: None,
            management,
            rate_limit: None,
        };
        runtime()?.block_on(run(case, &connector))
    }
}

fn local(api: &str, management: &str, rate_limit: Option<RateLimit>) -> Result<Connector, String> {
    Ok(Connector {
        api: api.to_owned(),
        api_key: None,
        forwarded_for: None,
        management: Some(Management { url: management.to_owned(), token: Some(support::MANAGEMENT_TOKEN.to_owned()) }),
        rate_limit,
        client: client([api, management])?,
    })
}

fn limit_settings(limit: RateLimit) -> Vec<(&'static str, String)> {
    vec![
        ("rate_limit.requests_per_second", limit.requests_per_second.to_string()),
        ("rate_limit.burst", limit.burst.to_string()),
    ]
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| format!("runtime: {error}"))
}
