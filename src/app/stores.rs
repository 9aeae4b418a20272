//! Keeps the default gate decision of every store for the metrics, since it cannot be looked up while the directory
//! fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::directory::{Directory, DirectoryError};
use crate::domain::store::Store;
use crate::observe::metrics::Metrics;

/// The interval of refreshes.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// The number of stores in one query.
const PAGE: usize = 500;
/// The maximum number of stores, to bound memory. It is far more than any retailer has.
const MAX_STORES: usize = 100_000;

/// Refreshes the list of stores every [`REFRESH_INTERVAL`]. Never returns. While the directory does not answer, the
/// previous list stays in effect.
pub(super) async fn keep_refreshed(directory: Arc<Directory>, metrics: Metrics) {
    let mut ticks = interval(REFRESH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match all_stores(&directory).await {
            Ok(stores) => metrics.set_stores(&stores),
            Err(error) => tracing::debug!(%error, "could not refresh the list of stores"),
        }
    }
}

async fn all_stores(directory: &Directory) -> Result<Vec<Store>, DirectoryError> {
    let mut stores: Vec<Store> = Vec::new();
    loop {
        let page = directory.stores(stores.last().map(|store| store.id.clone()), PAGE).await?;
        let is_last = page.len() < PAGE;
        stores.extend(page);
        if is_last || stores.len() >= MAX_STORES {
            return Ok(stores);
        }
    }
}
