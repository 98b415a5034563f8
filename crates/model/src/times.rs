//! Time in the model. The clock stands still at `NOW` and everything else grows older: a status keeps the class of age
//! of what decisions look at, and the order of activations; other times are for people and are levelled.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::state::Age;
use api::status::MetadataServicesStatus;
use rollout::intent::Policy;
use simulator::{START, policy};

/// The model's clock.
pub const NOW: i64 = START;
/// The bound of `Age::Old`, seconds.
const TIMEOUT: i64 = 600;
/// The age of what is `Ripe`, seconds: longer than every wait of [`waits`] but the deploy timeout.
pub const WAIT: i64 = 60;
/// Where activations are lined up, seconds before now.
const PAST: i64 = 10_000;

/// A policy in which one class of age ends every wait but the deploy timeout.
pub fn waits() -> Policy {
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

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Every wait but the deploy timeout is over.
    Waits,
    /// The deploy timeout is over too.
    Timeout,
    /// The clock goes back: what was lately is in the future.
    Back,
}

impl Age {
    pub const fn after(self, pass: Pass) -> Self {
        match (pass, self) {
            (Pass::Waits, Self::Fresh) => Self::Ripe,
            (Pass::Waits | Pass::Timeout, Self::Ahead) => Self::Fresh,
            (Pass::Timeout, Self::Fresh | Self::Ripe) => Self::Old,
            (Pass::Back, Self::Fresh | Self::Ripe) => Self::Ahead,
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
    let times = optional.into_iter().flatten().chain([&mut rollout.since]);
    for time in times {
        let age = change(class(time.0.as_second()));
        stamp(time, seconds(age));
    }
}

/// The status after time has passed.
pub fn older(mut status: MetadataServicesStatus, pass: Pass) -> MetadataServicesStatus {
    each_wait(&mut status, |age| age.after(pass));
    status
}

/// The form in which a status is stored: times by class, and nothing that only people read.
pub fn normal(mut status: MetadataServicesStatus) -> MetadataServicesStatus {
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
