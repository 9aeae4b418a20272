//! Builds the connector from its configuration and runs it. The binary and the tests use the same functions:
//! [`build()`] opens the storage and binds the ports, [`App::run`] serves until it is stopped.

mod bind;
mod build;
mod maintenance;
mod reload;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use bind::BindError;
pub use build::{CODES_REFUSED, NO_STORE, StartError, build, build_with, raise_open_file_limit, read_source};
pub use reload::{Reload, WatchedFiles};

use bind::Bound;
use maintenance::Maintenance;

use crate::clock::later;
use crate::http::Readiness;
use crate::observe::traces::Traces;
use crate::server::{self, Phase, Stop};
use crate::shopper::carts::CartStore;
use crate::tls::Tls;

/// The maximum time at the end to export spans, and then to close the databases. Answered scans are already committed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connector that has bound its ports and is not running yet.
#[derive(Debug)]
pub struct App {
    api: Port,
    management: Port,
    /// The shopper API, if it has a separate port.
    shoppers: Option<Port>,
    carts: Arc<CartStore>,
    maintenance: Maintenance,
    reload: Reload,
    readiness: Readiness,
    tls: Option<Tls>,
    stop_delay: Duration,
    grace_period: Duration,
    traces: Option<Traces>,
}

#[derive(Debug)]
struct Port {
    bound: Bound,
    service: server::Port,
}

impl Port {
    fn serve(self, stop: Stop) -> impl Future<Output = ()> {
        server::serve(self.bound.listener, self.service, stop)
    }
}

impl App {
    /// The address of the API.
    pub fn api_address(&self) -> SocketAddr {
        self.api.bound.address
    }

    /// The address of metrics and administration.
    pub fn management_address(&self) -> SocketAddr {
        self.management.bound.address
    }

    /// The address of the shopper API, if it is enabled.
    pub fn shoppers_address(&self) -> Option<SocketAddr> {
        let separate = self.shoppers.as_ref().map(|port| port.bound.address);
        separate.or_else(|| self.maintenance.shoppers.is_some().then(|| self.api_address()))
    }

    /// The parts that can be reloaded while the connector runs.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// The TLS certificates, if TLS is configured. They can be reloaded while the connector runs.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Runs until `stop` completes. Then `/readyz` returns 503. After the stop delay, no more connections are accepted,
    /// and running requests finish within the grace period.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stop_api, api_stops) = watch::channel(Phase::Open);
        let (stop_management, management_stops) = watch::channel(Phase::Open);
        let readiness = self.readiness.clone();
        readiness.set(true);
        let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("CONNECTOR_COMMIT"));
        let (api, management) = (self.api_address(), self.management_address());
        let shoppers = self.shoppers_address().map(tracing::field::display);
        tracing::info!(%api, %management, shoppers, version, commit, "ready");
        let shoppers = async {
            if let Some(port) = self.shoppers {
                port.serve(api_stops.clone()).await;
            }
        };
        let api = async {
            tokio::join!(self.api.serve(api_stops.clone()), shoppers);
            // The management port stops last, so that the drain can be monitored, but with the same deadline as the
            // API.
            stop_management.send_replace(*api_stops.borrow());
        };
        let signal = async {
            stop.await;
            readiness.set(false);
            tracing::info!("stopping");
            if !self.stop_delay.is_zero() {
                stop_api.send_replace(Phase::Draining);
                sleep(self.stop_delay).await;
            }
            let now = Instant::now();
            stop_api.send_replace(Phase::Closed(later(now, self.grace_period)));
        };
        let (ledger, carts) = (Arc::clone(&self.maintenance.ledger), self.carts);
        let mut background = self.maintenance.start();
        tokio::join!(signal, api, self.management.serve(management_stops));
        background.shutdown().await;
        if let Some(traces) = self.traces {
            traces.finish(CLOSE_TIMEOUT).await;
        }
        let closing = async {
            let closed = ledger.close().await;
            carts.close().await; // last, because the database may be the same
            closed
        };
        match timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::warn!(%error, "stopped, but the ledger was not closed cleanly"),
            Err(_) => {
                tracing::warn!(
                    "stopped, but the databases did not close within 1 s; no decision whose answer was sent is lost"
                );
            }
        }
    }
}
