//! The number of resources that wait for a reconcile.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};

use crate::namespaced_name::NamespacedName;

/// The set of triggered resources whose reconcile has not started. kube's controller keeps such a set without access to its
/// size. Cheap to clone; the clones share the set.
#[derive(Clone, Debug)]
pub struct QueueDepth {
    pending: Arc<Mutex<HashSet<NamespacedName>>>,
    depth: IntGauge,
    adds: IntCounter,
}

impl QueueDepth {
    pub(super) fn new(depth: IntGauge, adds: IntCounter) -> Self {
        Self { pending: Arc::default(), depth, adds }
    }

    /// Adds a triggered resource. A resource that already waits counts once.
    pub fn added(&self, key: &NamespacedName) {
        let mut pending = self.pending.lock();
        if !pending.contains(key) {
            pending.insert(key.clone());
            self.adds.inc();
        }
        self.publish(&pending);
    }

    /// Removes a resource whose reconcile starts, or which is gone.
    pub fn started(&self, key: &NamespacedName) {
        let mut pending = self.pending.lock();
        pending.remove(key);
        self.publish(&pending);
    }

    /// Returns the number of waiting resources.
    pub fn len(&self) -> usize {
        self.pending.lock().len()
    }

    /// Returns whether no resource waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the gauge. The caller holds the lock, so that an older size never overwrites a newer one.
    fn publish(&self, pending: &HashSet<NamespacedName>) {
        self.depth.set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
    }
}
