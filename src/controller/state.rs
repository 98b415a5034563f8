//! The controller's memory of each resource. A restart loses it, and no decision of a rollout depends on it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::backoff::Failures;
use crate::namespaced_name::NamespacedName;

/// How long the cache may lag behind a write of this operator.
pub const CACHE_LAG: Duration = Duration::from_secs(2);
/// How often a resource with a rollout in progress is read live although its cache shows no work. Its client notes a
/// silent watch only after minutes.
const LIVE_READ_INTERVAL: Duration = Duration::from_secs(20);

/// The state of one resource.
///
/// A new UID resets the fields that depend on the object: validation, terminating namespace, reported CRD. The times and
/// the failures stay: while a watch is silent, cache and API server may hold different UIDs in turn, and a reset at each
/// would end the backoff and the live reads.
#[derive(Debug, Default)]
pub struct ResourceState {
    uid: Option<String>,
    /// The generation that was validated last, and the violations of its spec.
    validation: Option<(i64, Vec<String>)>,
    /// True if the namespace is terminating, which is final.
    pub namespace_terminating: bool,
    /// True if an Event has reported that an outdated CRD hides the state of the resource.
    pub crd_hidden_reported: bool,
    /// When this operator last wrote to the resource or its objects.
    pub last_write: Option<Instant>,
    /// When the last live read showed a rollout in progress; `None` if it showed none.
    last_live_read: Option<Instant>,
    /// Failures since the last success.
    pub failures: Failures,
}

impl ResourceState {
    /// Returns whether the cache may lack the operator's last write.
    pub fn cache_may_lag(&self) -> bool {
        self.last_write.is_some_and(|at| at.elapsed() < CACHE_LAG)
    }

    /// Notes a live read and whether it showed a rollout in progress.
    pub fn read_live(&mut self, is_in_progress: bool) {
        self.last_live_read = is_in_progress.then(Instant::now);
    }

    /// Returns the time until the next live read is due; `Duration::MAX` if no rollout is in progress.
    pub fn next_live_read(&self) -> Duration {
        self.last_live_read.map_or(Duration::MAX, |at| LIVE_READ_INTERVAL.saturating_sub(at.elapsed()))
    }
}

/// The states of all resources of a controller.
#[derive(Debug, Default)]
pub struct States(Mutex<HashMap<NamespacedName, ResourceState>>);

impl States {
    /// Prepares the state of a resource that was just read, and resets it in part if the UID is new.
    pub fn enter(&self, key: &NamespacedName, uid: Option<String>) {
        let mut states = self.0.lock();
        let state = states.entry(key.clone()).or_default();
        if state.uid != uid {
            *state = ResourceState {
                uid,
                last_write: state.last_write,
                last_live_read: state.last_live_read,
                failures: std::mem::take(&mut state.failures),
                ..ResourceState::default()
            };
        }
    }

    /// Reads or changes the state of a resource. A change to an unknown resource is lost: the resource is gone.
    pub fn with<T>(&self, key: &NamespacedName, change: impl FnOnce(&mut ResourceState) -> T) -> T {
        match self.0.lock().get_mut(key) {
            Some(state) => change(state),
            None => change(&mut ResourceState::default()),
        }
    }

    /// Returns the violations of a spec. Each generation is validated once.
    pub fn violations(
        &self,
        key: &NamespacedName,
        generation: i64,
        validate: impl FnOnce() -> Vec<String>,
    ) -> Vec<String> {
        let known = self.with(key, |state| state.validation.clone());
        if let Some((_, violations)) = known.filter(|(validated, _)| *validated == generation) {
            return violations;
        }
        let violations = validate();
        self.with(key, |state| state.validation = Some((generation, violations.clone())));
        violations
    }

    /// Returns the keys of all resources.
    pub fn keys(&self) -> Vec<NamespacedName> {
        self.0.lock().keys().cloned().collect()
    }

    /// Removes the state of a resource that is gone.
    pub fn remove(&self, key: &NamespacedName) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_uid_resets_only_fields_of_the_object() {
        let (states, key) = (States::default(), NamespacedName::new("n", "a"));
        states.enter(&key, Some("u1".into()));
        states.with(&key, |state| {
            state.namespace_terminating = true;
            state.read_live(true);
        });
        assert_eq!(states.violations(&key, 1, || vec!["wrong".into()]), ["wrong"]);
        states.enter(&key, Some("u1".into()));
        assert!(states.with(&key, |state| state.namespace_terminating));
        assert!(states.with(&key, |state| state.next_live_read()) <= LIVE_READ_INTERVAL);
        states.enter(&key, Some("u2".into()));
        assert!(!states.with(&key, |state| state.namespace_terminating));
        assert!(states.with(&key, |state| state.next_live_read()) <= LIVE_READ_INTERVAL);
        assert!(states.violations(&key, 1, Vec::new).is_empty(), "the spec of another resource");
    }

    #[test]
    fn a_generation_is_validated_once() {
        let (states, key) = (States::default(), NamespacedName::new("n", "a"));
        states.enter(&key, None);
        states.violations(&key, 1, || vec!["wrong".into()]);
        assert_eq!(states.violations(&key, 1, || panic!("validated twice")), ["wrong"]);
        assert!(states.violations(&key, 2, Vec::new).is_empty());
    }

    #[test]
    fn a_removed_resource_leaves_nothing() {
        let (states, key) = (States::default(), NamespacedName::new("n", "a"));
        states.enter(&key, None);
        states.remove(&key);
        states.with(&key, |state| state.namespace_terminating = true);
        assert!(!states.with(&key, |state| state.namespace_terminating));
        assert!(states.keys().is_empty());
    }
}
