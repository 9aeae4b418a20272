//! Which of many shoppers are known: what an import asks before it names them.

use std::collections::HashMap;

use super::{Backend, Directory, DirectoryError};
use crate::domain::ids::{DeviceId, VisitorId};

impl Directory {
    /// Those of the shoppers who are there, with their devices.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn devices(&self, shoppers: Vec<VisitorId>) -> Result<HashMap<VisitorId, Vec<DeviceId>>, DirectoryError> {
        match &self.backend {
            _ if shoppers.is_empty() => Ok(HashMap::new()),
            Backend::Memory(directory) => Ok(directory.devices(shoppers)),
            Backend::Sql(directory) => directory.devices(shoppers).await,
        }
    }
}
