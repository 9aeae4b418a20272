//! What the gates of each store do without an answer, kept for the metrics: a fault may be the directory's own, and can then not be asked for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::directory::{Directory, DirectoryError};
use crate::domain::store::Store;
use crate::metrics::Metrics;

/// How often the directory is asked for its stores.
const EVERY: Duration = Duration::from_secs(10);
/// How many stores are asked for at once.
const PAGE: usize = 500;
/// How many are kept: far more than anybody has, so that memory stays bounded.
const MOST: usize = 100_000;

/// Asks for the stores, for ever. While the directory does not answer, they are as they were.
pub(super) async fn keep_known(directory: Arc<Directory>, metrics: Metrics) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match all(&directory).await {
            Ok(stores) => metrics.set_stores(&stores),
            Err(error) => tracing::debug!(%error, "the stores are not known anew"),
        }
    }
}

async fn all(directory: &Directory) -> Result<Vec<Store>, DirectoryError> {
    let mut stores: Vec<Store> = Vec::new();
    loop {
        let page = directory.stores(stores.last().map(|store| store.id.clone()), PAGE).await?;
        let is_last = page.len() < PAGE;
        stores.extend(page);
        if is_last || stores.len() >= MOST {
            return Ok(stores);
        }
    }
}
