//! The rules of the election, without I/O: the record in a Lease, and the decision that follows from it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// The longest validity that is accepted from the record of another holder. Without a limit, an absurd value would block the
/// election for ever.
pub const MAX_VALIDITY: Duration = Duration::from_secs(300);

/// The spec of a Lease, read leniently: a field of another type or an unparsable time counts as absent. A record that
/// another client damaged must not block the election for ever. Unknown fields are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(Map<String, Value>);

impl Record {
    /// Reads the `spec` of a Lease.
    pub fn from_spec(spec: Option<&Value>) -> Self {
        Self(spec.and_then(Value::as_object).cloned().unwrap_or_default())
    }

    /// Returns the `spec` to write.
    pub fn into_spec(self) -> Value {
        Value::Object(self.0)
    }

    /// Returns the holder; empty if the lease is free.
    pub fn holder(&self) -> &str {
        self.0.get("holderIdentity").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns how often the holder changed; a negative or absent count is 0.
    pub fn transitions(&self) -> i64 {
        self.integer("leaseTransitions").unwrap_or_default().max(0)
    }

    /// Returns how long the record binds other replicas after its last change: its own duration, but at least `own`
    /// (the duration that this process would write) and at most [`MAX_VALIDITY`].
    pub fn validity(&self, own: Duration) -> Duration {
        let said = self.integer("leaseDurationSeconds").and_then(|seconds| u64::try_from(seconds).ok());
        Duration::from_secs(said.unwrap_or_default()).min(MAX_VALIDITY).max(own)
    }

    /// Returns the record by which `me` takes or renews the lease. `now` is informative and may be unknown.
    #[must_use]
    pub fn held_by(&self, me: &str, duration: Duration, now: Option<Timestamp>) -> Self {
        let time = self.stamp(now);
        let mut next = self.0.clone();
        if self.holder() != me {
            // The first holder does not count as a transition.
            let first = self.0.get("holderIdentity").is_none();
            let transitions = if first { self.transitions() } else { self.next_transition() };
            next.insert("leaseTransitions".into(), json!(transitions));
            next.insert("acquireTime".into(), json!(time));
        }
        next.insert("holderIdentity".into(), json!(me));
        next.insert("leaseDurationSeconds".into(), json!(duration.as_secs()));
        next.insert("renewTime".into(), json!(time));
        Self(next)
    }

    /// Returns the record by which the holder releases the lease, so that the next one does not wait.
    #[must_use]
    pub fn released(&self, now: Option<Timestamp>) -> Self {
        let time = self.stamp(now);
        let mut next = self.0.clone();
        next.insert("holderIdentity".into(), json!(""));
        next.insert("leaseDurationSeconds".into(), json!(1));
        next.insert("acquireTime".into(), json!(time));
        next.insert("renewTime".into(), json!(time));
        Self(next)
    }

    fn integer(&self, field: &str) -> Option<i64> {
        self.0.get(field).and_then(Value::as_i64)
    }

    /// Returns the next count, which the API server stores as a 32-bit integer.
    fn next_transition(&self) -> i64 {
        self.transitions().saturating_add(1).min(i64::from(i32::MAX))
    }

    /// Returns a time that differs from the record's `renewTime`. The API server does not store a write that changes
    /// nothing, and other replicas would not see the renewal. So two renewals differ also with an unknown or stopped
    /// clock.
    fn stamp(&self, now: Option<Timestamp>) -> String {
        let previous = self.0.get("renewTime").and_then(Value::as_str);
        if let Some(time) = now.map(micros)
            && Some(time.as_str()) != previous
        {
            return time;
        }
        let base = previous.and_then(|text| text.parse::<Timestamp>().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        micros(base.checked_add(SignedDuration::from_micros(1)).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

/// Formats a Kubernetes `MicroTime`.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// The last change of the record that this process saw, and the time by its own monotonic clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    record: Record,
    resource_version: Option<String>,
    at: Instant,
}

impl Observation {
    /// Returns the observation after `record` was read at `now`: `earlier` if nothing changed since.
    ///
    /// `now` must be taken after the answer arrived: then the change is not later than the observation.
    #[must_use]
    pub fn update(
        earlier: Option<Self>,
        record: &Record,
        resource_version: Option<&str>,
        now: Instant,
    ) -> Self {
        match earlier {
            Some(same) if same.record == *record && same.resource_version.as_deref() == resource_version => {
                same
            }
            _ => Self {
                record: record.clone(),
                resource_version: resource_version.map(str::to_owned),
                at: now,
            },
        }
    }
}

/// The next request for the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The lease is free, or its holder did not renew it for its validity: take it.
    Acquire,
    /// This process holds the lease: renew it.
    Renew,
    /// Another replica holds the lease, for at least this long: wait.
    Wait(Duration),
}

/// Decides the next request of `me` for a lease with `record` (`None`: the lease does not exist) at monotonic time `now`.
///
/// A lease expires when this process has *seen no change* of it for its validity. Times in the record are never
/// compared with a clock: a holder with a skewed clock keeps a lease that it renews and loses one that it does not renew.
/// A deleted lease binds every process that saw it until it would have expired, since its holder may not know of the
/// deletion. (A process that starts later cannot know either; the resourceVersion of each write protects it.)
pub fn evaluate(
    record: Option<&Record>,
    observed: Option<&Observation>,
    me: &str,
    own_duration: Duration,
    now: Instant,
) -> Decision {
    let Some(believed) = record.or(observed.map(|seen| &seen.record)) else { return Decision::Acquire };
    if believed.holder().is_empty() {
        return Decision::Acquire;
    }
    if believed.holder() == me {
        return if record.is_some() { Decision::Renew } else { Decision::Acquire };
    }
    let since = observed.map_or(now, |seen| seen.at);
    let left = (since + believed.validity(own_duration)).saturating_duration_since(now);
    if left.is_zero() { Decision::Acquire } else { Decision::Wait(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Duration = Duration::from_secs(15);

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the calls")]
    fn record(spec: Value) -> Record {
        Record::from_spec(Some(&spec))
    }

    fn held(holder: &str) -> Record {
        record(
            json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}),
        )
    }

    #[test]
    fn decisions() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let seen = |record: &Record| Observation::update(None, record, Some("7"), start);
        let other = held("other");
        let cases = [
            ("no lease", None, None, 0, Decision::Acquire),
            ("released", Some(held("")), Some(seen(&held(""))), 0, Decision::Acquire),
            (
                "no holder field",
                Some(record(json!({}))),
                Some(seen(&record(json!({})))),
                0,
                Decision::Acquire,
            ),
            ("mine", Some(held("me")), Some(seen(&held("me"))), 0, Decision::Renew),
            ("mine, long ago", Some(held("me")), Some(seen(&held("me"))), 99, Decision::Renew),
            ("just seen", Some(other.clone()), Some(seen(&other)), 0, Decision::Wait(OWN)),
            ("almost", Some(other.clone()), Some(seen(&other)), 14, Decision::Wait(Duration::from_secs(1))),
            ("expired", Some(other.clone()), Some(seen(&other)), 15, Decision::Acquire),
            ("never seen before", Some(other.clone()), None, 0, Decision::Wait(OWN)),
            ("deleted, still bound", None, Some(seen(&other)), 5, Decision::Wait(Duration::from_secs(10))),
            ("deleted, expired", None, Some(seen(&other)), 15, Decision::Acquire),
            ("deleted, was mine", None, Some(seen(&held("me"))), 0, Decision::Acquire),
        ];
        for (case, record, observed, seconds, expected) in cases {
            let decision = evaluate(record.as_ref(), observed.as_ref(), "me", OWN, after(seconds));
            assert_eq!(decision, expected, "{case}");
        }
    }

    #[test]
    fn times_in_the_record_decide_nothing() {
        let start = Instant::now();
        for time in
            ["1970-01-01T00:00:00.000000Z", "2200-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "soon", ""]
        {
            let other = record(
                json!({"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": time, "acquireTime": time}),
            );
            let seen = Observation::update(None, &other, Some("7"), start);
            let decide = |seconds| {
                evaluate(Some(&other), Some(&seen), "me", OWN, start + Duration::from_secs(seconds))
            };
            assert_eq!(decide(14), Decision::Wait(Duration::from_secs(1)), "{time}");
            assert_eq!(decide(15), Decision::Acquire, "{time}");
        }
    }

    #[test]
    fn absurd_durations_are_bounded() {
        for (said, expected) in [
            (json!(15), 15),
            (json!(1), 15),
            (json!(0), 15),
            (json!(-5), 15),
            (json!(null), 15),
            (json!("long"), 15),
            (json!(60), 60),
            (json!(i32::MAX), 300),
        ] {
            let other = record(json!({"holderIdentity": "other", "leaseDurationSeconds": said}));
            assert_eq!(other.validity(OWN), Duration::from_secs(expected), "{said}");
        }
    }

    #[test]
    fn any_change_counts_as_a_sign_of_life() {
        let start = Instant::now();
        let later = start + Duration::from_secs(9);
        let seen = Observation::update(None, &held("other"), Some("7"), start);
        let same = Observation::update(Some(seen.clone()), &held("other"), Some("7"), later);
        assert_eq!(same, seen);
        let mut renewed = held("other");
        renewed.0.insert("renewTime".into(), json!("1999-01-01T00:00:00.000000Z"));
        let mut passed_on = held("other");
        passed_on.0.insert("leaseTransitions".into(), json!(4));
        for (case, record, version) in [
            ("resource version", held("other"), Some("8")),
            ("holder", held("third"), Some("7")),
            ("renew time, backwards", renewed, Some("7")),
            ("transitions", passed_on, Some("7")),
        ] {
            assert_eq!(Observation::update(Some(seen.clone()), &record, version, later).at, later, "{case}");
        }
    }

    #[test]
    fn taking_renewing_and_releasing() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let first = Record::default().held_by("a", OWN, at("2026-01-01T00:00:00.1234567Z"));
        assert_eq!(
            first.clone().into_spec(),
            json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
                   "acquireTime": "2026-01-01T00:00:00.123456Z", "renewTime": "2026-01-01T00:00:00.123456Z"})
        );
        let renewed = first.held_by("a", OWN, at("2026-01-01T00:00:05Z")).into_spec();
        assert_eq!(renewed["acquireTime"], "2026-01-01T00:00:00.123456Z");
        assert_eq!(renewed["renewTime"], "2026-01-01T00:00:05.000000Z");
        assert_eq!(renewed["leaseTransitions"], 0);
        let taken = first.held_by("b", OWN, at("2026-01-01T00:00:30Z"));
        assert_eq!((taken.holder(), taken.transitions()), ("b", 1));
        let free = taken.released(at("2026-01-01T00:00:31Z"));
        assert_eq!((free.holder(), free.transitions()), ("", 1));
        assert_eq!(free.clone().into_spec()["leaseDurationSeconds"], 1);
        assert_eq!(free.held_by("a", OWN, None).transitions(), 2);
    }

    #[test]
    fn two_renewals_are_never_equal() {
        let now = Some("2026-01-01T00:00:05Z".parse().unwrap());
        let mut last = Record::default();
        for now in [None, None, now, now, now, None] {
            let next = last.held_by("a", OWN, now);
            assert_ne!(next, last);
            last = next;
        }
        for spoilt in ["", "soon", "9999-12-30T22:00:00.999999Z"] {
            let record = record(json!({"holderIdentity": "a", "renewTime": spoilt}));
            assert_ne!(record.held_by("a", OWN, None).0["renewTime"], json!(spoilt));
        }
    }

    #[test]
    fn spoilt_counts_and_unknown_fields_survive() {
        let record = record(
            json!({"holderIdentity": "x", "leaseTransitions": -3, "strategy": "OldestEmulationVersion"}),
        );
        let next = record.held_by("me", OWN, None);
        assert_eq!(next.transitions(), 1);
        assert_eq!(next.into_spec()["strategy"], "OldestEmulationVersion");
        let full = Record::from_spec(Some(&json!({"holderIdentity": "x", "leaseTransitions": i32::MAX})));
        assert_eq!(full.held_by("me", OWN, None).transitions(), i64::from(i32::MAX));
    }
}
