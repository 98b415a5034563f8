//! How many resources wait for a pass.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{IntCounter, IntGauge};

/// The name of a resource that waits for a pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRefKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectRefKey {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// The set of resources that were triggered and whose pass has not begun. kube's controller keeps such a set but
/// does not tell its size. Cheap to clone.
#[derive(Clone, Debug)]
pub struct QueueDepth {
    pending: Arc<Mutex<HashSet<ObjectRefKey>>>,
    depth: IntGauge,
    adds: IntCounter,
}

impl QueueDepth {
    pub(super) fn new(depth: IntGauge, adds: IntCounter) -> Self {
        Self { pending: Arc::default(), depth, adds }
    }

    /// A trigger for `key` arrived; one that waits already is not counted again.
    pub fn added(&self, key: &ObjectRefKey) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !pending.contains(key) {
            pending.insert(key.clone());
            self.adds.inc();
        }
        self.publish(&pending);
    }

    /// The pass over `key` begins, or will never begin because the resource is gone.
    pub fn started(&self, key: &ObjectRefKey) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(key);
        self.publish(&pending);
    }

    /// How many resources wait.
    pub fn len(&self) -> usize {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Called with the lock held, so that the gauge never shows an older size after a newer one.
    fn publish(&self, pending: &HashSet<ObjectRefKey>) {
        self.depth.set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
    }
}
