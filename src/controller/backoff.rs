//! How long a resource waits after a failed reconcile (design D18).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::namespaced_name::NamespacedName;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait: the most that a resource is late when a long failure of the API server ends (I37).
const LONGEST: Duration = Duration::from_secs(20);
/// The wait after a conflict.
pub const CONFLICT: Duration = Duration::from_millis(200);

/// Number of successive conflicts that do not count as failures. More of them mean that another client reverts every write.
const MANY_CONFLICTS: u32 = 20;

/// The failures of one resource since its last success.
#[derive(Debug, Default)]
pub struct Failures {
    count: u32,
    /// Number of successive conflicts.
    conflicts: u32,
    /// The end of the time that the API server named in `Retry-After`.
    retry_after: Option<Instant>,
}

impl Failures {
    /// Counts a failure and returns the wait.
    pub fn failed(&mut self, key: &NamespacedName) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.count.min(16)).min(LONGEST);
        self.count = self.count.saturating_add(1);
        wait + jitter(key, wait / 10)
    }

    /// Counts a conflict and returns the wait.
    pub fn conflicted(&mut self, key: &NamespacedName) -> Duration {
        self.conflicts = self.conflicts.saturating_add(1);
        if self.conflicts > MANY_CONFLICTS { self.failed(key) } else { CONFLICT }
    }

    /// Counts a failure with `Retry-After` and returns the wait. Until `asked` has passed, events start no reconcile either.
    pub fn throttled(&mut self, key: &NamespacedName, asked: Duration) -> Duration {
        let asked = asked.min(LONGEST);
        let wait = self.failed(key).max(asked + jitter(key, asked / 10));
        self.retry_after = Some(Instant::now() + asked);
        wait
    }

    /// Returns the rest of the time that the API server named in `Retry-After`.
    pub fn throttled_for(&self) -> Option<Duration> {
        let left = self.retry_after?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Returns a duration up to `most` that depends on the name, so that many resources do not return at the same time.
pub fn jitter(key: &NamespacedName, most: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
    most.saturating_mul(share) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (Failures, NamespacedName) {
        (Failures::default(), NamespacedName::new("n", "a"))
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        let (mut failures, key) = fresh();
        let waits: Vec<_> = (0..12).map(|_| failures.failed(&key)).collect();
        assert!(waits[0] >= FIRST && waits[0] <= FIRST + FIRST / 10);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(waits[11] >= LONGEST && waits[11] <= LONGEST + LONGEST / 10);
        assert!(waits[11] < Duration::from_secs(30), "I37: the most that a resource is late");
    }

    #[test]
    fn endless_conflicts_are_failures() {
        let (mut failures, key) = fresh();
        let waits: Vec<_> = (0..MANY_CONFLICTS).map(|_| failures.conflicted(&key)).collect();
        assert!(waits.iter().all(|wait| *wait == CONFLICT));
        assert!(failures.conflicted(&key) >= FIRST);
        assert!(failures.conflicted(&key) >= FIRST * 2);
    }

    #[test]
    fn retry_after_is_obeyed_within_a_limit() {
        let (mut failures, key) = fresh();
        assert_eq!(failures.throttled_for(), None);
        let asked = Duration::from_secs(3);
        assert!(failures.throttled(&key, asked) >= asked);
        assert!(failures.throttled_for().is_some_and(|left| left <= asked && left > asked / 2));
        assert!(failures.throttled(&key, Duration::from_secs(3_600)) < Duration::from_secs(30), "I37");
    }
}
