//! Time in the model. The clock stands still at `NOW`, and all times move into the past. A status keeps the age class
//! of the times that decisions depend on, and the order of activations. All other times have a fixed value.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::state::Age;
use api::status::MetadataServicesStatus;
use rollout::intent::Policy;
use simulator::{START, policy};

/// The time of the model, in seconds.
pub const NOW: i64 = START;
/// The lower limit of `Age::Old`, in seconds.
const TIMEOUT: i64 = 600;
/// The age of a `Ripe` time, in seconds: longer than each wait of [`model_policy`] except the deploy timeout.
pub const WAIT: i64 = 60;
/// Distance of the activation times from now, in seconds.
const PAST: i64 = 10_000;

/// Returns a policy in which every `Ripe` time ends each wait except the deploy timeout.
pub fn model_policy() -> Policy {
    Policy {
        grace: 20,
        dwell: 10,
        cleanup_delay: 20,
        failure_threshold: 20,
        deploy_timeout: TIMEOUT,
        ..policy()
    }
}

pub fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub const fn seconds(age: Age) -> i64 {
    match age {
        Age::Ahead => NOW + TIMEOUT,
        Age::Fresh => NOW,
        Age::Ripe => NOW - WAIT,
        Age::Old => NOW - TIMEOUT - WAIT,
    }
}

fn class(second: i64) -> Age {
    match NOW - second {
        ..0 => Age::Ahead,
        0..5 => Age::Fresh,
        5..TIMEOUT => Age::Ripe,
        _ => Age::Old,
    }
}

/// An amount of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeStep {
    /// All waits except the deploy timeout end.
    Waits,
    /// The deploy timeout ends too.
    Timeout,
    /// The clock is set back: recent times are in the future.
    ClockBack,
}

impl Age {
    pub const fn after(self, elapsed: TimeStep) -> Self {
        match (elapsed, self) {
            (TimeStep::Waits, Self::Fresh) => Self::Ripe,
            (TimeStep::Waits | TimeStep::Timeout, Self::Ahead) => Self::Fresh,
            (TimeStep::Timeout, Self::Fresh | Self::Ripe) => Self::Old,
            (TimeStep::ClockBack, Self::Fresh | Self::Ripe) => Self::Ahead,
            (_, same) => same,
        }
    }
}

fn stamp(time: &mut Time, second: i64) {
    *time = Time(Timestamp::from_second(second).unwrap());
}

fn each_wait(status: &mut MetadataServicesStatus, change: impl Fn(Age) -> Age) {
    let Some(rollout) = &mut status.rollout else { return };
    let timers = &mut rollout.timers;
    let optional = [
        &mut timers.ready_since,
        &mut timers.storage_failing_since,
        &mut timers.schema_failing_since,
        &mut timers.unready_since,
        &mut timers.empty_since,
        &mut timers.both_down_since,
        &mut rollout.switched_at,
    ];
    let all = optional.into_iter().flatten().chain([&mut rollout.since]);
    for time in all {
        let age = change(class(time.0.as_second()));
        stamp(time, seconds(age));
    }
}

/// Returns the status after an amount of time.
pub fn aged(mut status: MetadataServicesStatus, elapsed: TimeStep) -> MetadataServicesStatus {
    each_wait(&mut status, |age| age.after(elapsed));
    status
}

/// Returns the stored form of a status: times by age class, without fields that only users read.
pub fn normalized(mut status: MetadataServicesStatus) -> MetadataServicesStatus {
    each_wait(&mut status, |age| age);
    let mut order: Vec<i64> = status
        .release_history
        .iter()
        .filter_map(|record| record.activated_at.as_ref())
        .map(|time| time.0.as_second())
        .collect();
    order.sort_unstable();
    order.dedup();
    let place = |time: &Time| order.binary_search(&time.0.as_second()).unwrap();
    let far = seconds(Age::Old);
    for record in &mut status.release_history {
        stamp(&mut record.timestamp, far);
        record.activated_at.iter_mut().for_each(|time| {
            let place = i64::try_from(place(time)).unwrap();
            stamp(time, NOW - PAST + place);
        });
        record.ready_at.iter_mut().chain(&mut record.finished_at).for_each(|time| stamp(time, far));
    }
    status.phase_started_at.iter_mut().for_each(|time| stamp(time, far));
    for condition in &mut status.conditions {
        stamp(&mut condition.last_transition_time, far);
        condition.message.clear();
    }
    status.last_rollback = None;
    (status.storage, status.schema, status.endpoints) = (None, None, None);
    status
}
