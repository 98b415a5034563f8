//! How long to wait after a failed pass, for each resource by itself (design D18).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::observe::index::Key;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait: how late a resource may be when a long failure of the API server ends (I37).
const LONGEST: Duration = Duration::from_secs(20);
/// The wait after a lost compare-and-swap: somebody else wrote, look again.
pub const CONFLICT: Duration = Duration::from_millis(200);

/// How many lost compare-and-swaps in a row are no failure: another hand may be busy, or undo everything.
const MANY_CONFLICTS: u32 = 20;

/// Failures in a row, by resource.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<Key, Failures>>);

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    /// Lost compare-and-swaps in a row.
    conflicts: u32,
    /// Until when the API server asked to be left alone.
    held: Option<Instant>,
}

impl Backoff {
    /// Counts a failure and answers how long to wait.
    pub fn failed(&self, key: &Key) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut failures.entry(key.clone()).or_default().count;
        let wait = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count = count.saturating_add(1);
        wait + jitter(key, wait / 10)
    }

    /// Counts a lost compare-and-swap and answers how long to wait.
    pub fn conflicted(&self, key: &Key) -> Duration {
        let conflicts = {
            let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let conflicts = &mut failures.entry(key.clone()).or_default().conflicts;
            *conflicts = conflicts.saturating_add(1);
            *conflicts
        };
        if conflicts > MANY_CONFLICTS { self.failed(key) } else { CONFLICT }
    }

    /// Counts a failure by which the API server asks to be left alone for so long: until then no event brings the
    /// resource back either.
    pub fn refused(&self, key: &Key, asked: Duration) -> Duration {
        let asked = asked.min(LONGEST);
        let wait = self.failed(key).max(asked + jitter(key, asked / 10));
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.entry(key.clone()).or_default().held = Some(Instant::now() + asked);
        wait
    }

    /// How long the resource has to be left alone yet.
    pub fn held(&self, key: &Key) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = failures.get(key)?.held?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Forgets the failures of a resource.
    pub fn succeeded(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Up to `most` by the resource's name, so that many resources do not come back at once.
pub fn jitter(key: &Key, most: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
    most.saturating_mul(share) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_start_anew_after_success() {
        let (backoff, key) = (Backoff::default(), ("n".to_owned(), "a".to_owned()));
        let waits: Vec<_> = (0..12).map(|_| backoff.failed(&key)).collect();
        assert!(waits[0] >= FIRST && waits[0] <= FIRST + FIRST / 10);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(waits[11] >= LONGEST && waits[11] <= LONGEST + LONGEST / 10);
        assert!(waits[11] < Duration::from_secs(30), "I37: no later than that when a failure ends");
        backoff.succeeded(&key);
        assert_eq!(backoff.failed(&key), waits[0]);
    }

    #[test]
    fn conflicts_without_end_are_failures() {
        let (backoff, key) = (Backoff::default(), ("n".to_owned(), "a".to_owned()));
        let waits: Vec<_> = (0..MANY_CONFLICTS).map(|_| backoff.conflicted(&key)).collect();
        assert!(waits.iter().all(|wait| *wait == CONFLICT));
        assert!(backoff.conflicted(&key) >= FIRST);
        assert!(backoff.conflicted(&key) >= FIRST * 2);
        backoff.succeeded(&key);
        assert_eq!(backoff.conflicted(&key), CONFLICT);
    }

    #[test]
    fn what_a_busy_server_asks_for_is_waited_and_bounded() {
        let (backoff, key) = (Backoff::default(), ("n".to_owned(), "a".to_owned()));
        assert_eq!(backoff.held(&key), None);
        let asked = Duration::from_secs(3);
        assert!(backoff.refused(&key, asked) >= asked);
        assert!(backoff.held(&key).is_some_and(|left| left <= asked && left > asked / 2));
        assert!(backoff.refused(&key, Duration::from_secs(3_600)) < Duration::from_secs(30), "I37");
        backoff.succeeded(&key);
        assert_eq!(backoff.held(&key), None);
    }
}
