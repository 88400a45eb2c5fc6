//! Taking turns: what changes one container happens one after the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as AsyncMutex;

use crate::id::ContainerId;

/// One lock for each container that somebody is changing.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<BTreeMap<ContainerId, Arc<AsyncMutex<()>>>>);

impl Turns {
    /// Runs `work` while nobody else changes container `id`.
    pub(crate) async fn alone<T>(&self, id: &ContainerId, work: impl Future<Output = T>) -> T {
        let lock = {
            let mut changing = self.0.lock().expect("no holder of this lock panics");
            // Forgotten here where nobody uses them, so that the table stays as small as the work.
            changing.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(changing.entry(id.clone()).or_default())
        };
        let _guard = lock.lock().await;
        work.await
    }
}
