//! Builds the connector from its configuration and runs it. The binary and the tests use the same functions: [`build()`]
//! opens the storage and binds the ports, [`App::run`] serves until it is stopped.

mod bind;
mod build;
mod files;
mod maintenance;
mod open;
mod reload;
mod stores;
mod warnings;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use bind::BindError;
pub use build::{build, build_with, raise_open_file_limit};
pub use files::WatchedFiles;
pub use open::read_source;
pub use reload::Reload;
pub use warnings::{CODES_REFUSED, NO_STORE};

use bind::Bound;
use maintenance::Maintenance;

use crate::cause::file_error;
use crate::clock::later;
use crate::demo::issuer::DemoIssuerError;
use crate::directory::DirectoryError;
use crate::directory::file::DirectoryFileError;
use crate::http::Readiness;
use crate::ledger::LedgerError;
use crate::observe::traces::{Traces, TracesError};
use crate::server::{self, Phase, Stop, TooFewFiles};
use crate::shopper::carts::CartStore;
use crate::storage::StorageError;
use crate::tls::{Tls, TlsError};

/// The maximum time at the end to export spans, and to close the ledger. Answered scans are already committed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the connector does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The ledger in it cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The directory in it cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory file cannot be read.
    #[error("directory.file: {path}: {what}", path = .path.display(), what = file_error(.path, .error))]
    DirectoryUnreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The directory file is invalid.
    #[error(transparent)]
    DirectoryFile(#[from] DirectoryFileError),
    /// Addresses cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The demo's identity provider cannot be set up.
    #[error(transparent)]
    DemoIssuer(#[from] DemoIssuerError),
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The limit of open files is too low.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The exporter of traces cannot be created.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The operating system provides no random numbers.
    #[error("the operating system provides no random numbers: {0}")]
    Randomness(#[from] getrandom::Error),
}

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

/// A bound port and its service.
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
