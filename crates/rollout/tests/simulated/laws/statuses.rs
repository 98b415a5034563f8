//! A status that is to be persisted.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Taken, before, broken, into, step_of, upgrade};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step, Trigger};
use rollout::facts::{Cause, Deployment, DeploymentState};
use simulator::{Sim, template};

pub fn begun() -> Vec<&'static str> {
    let rebuilt = || {
        let mut sim = Sim::stable();
        sim.lose_status();
        before(&sim, |_, next| step_of(next).is_some())
    };
    let again = || before(&upgrade(), |from, next| from.is_some() && step_of(next) == from);
    [
        broken(
            rebuilt,
            &[
                ("D6: rebuilt as {:?}", |it| it.enter(Step::Watching)),
                ("D6: a rebuilt epoch is above all that was seen", |it| it.rollout_to().epoch = 0),
            ],
        ),
        broken(
            again,
            &[
                ("a step begins anew without an edge", |it| it.rollout_to().epoch += 1),
                ("a step's start moves", |it| it.rollout_to().since = Time(Timestamp::UNIX_EPOCH)),
            ],
        ),
        broken(
            || into(&upgrade(), Step::Deploying),
            &[
                ("I29: a status write that changes nothing", |it| it.status = Some(it.status_to().clone())),
                ("I28: a status is written for a resource that is being deleted", |it| {
                    it.intent.deleted = true;
                }),
                ("the machine's memory is dropped", |it| it.status_to().rollout = None),
            ],
        ),
    ]
    .concat()
}

pub fn edges() -> Vec<&'static str> {
    [
        broken(
            || into(&upgrade(), Step::Deploying),
            &[
                ("I18: {} failed and is tried again unasked", |it| {
                    let mut record = it.records().last().unwrap().clone();
                    record.status = RecordStatus::Failed;
                    it.status_from().release_history.push(record);
                }),
                ("the pending color is the serving one", |it| {
                    it.rollout_to().target.as_mut().unwrap().strategy = Color::Blue;
                    it.status_to().pending_strategy = Some(Color::Blue);
                }),
            ],
        ),
        broken(
            restart_to_be_cleared,
            &[("D10: the restart of {} is forgotten", |it| {
                it.rollout_to().target = None;
                it.status_to().pending_strategy = None;
            })],
        ),
        broken(
            rollback_begun_anew,
            &[("D10: {} was begun by {was:?}, and is begun anew by {trigger:?}", |it| {
                it.records().last_mut().unwrap().trigger = Trigger::Spec;
            })],
        ),
        broken(
            || into(&upgrade(), Step::Switching),
            &[
                ("I13: epoch {} after {}", |it| it.rollout_to().epoch = 0),
                ("I12: {:?} -> {:?}", |it| it.enter(Step::Watching)),
                ("D15: {:?} raises the epoch", |it| it.rollout_to().epoch = it.rollout_from().epoch),
            ],
        ),
    ]
    .concat()
}

/// A restart whose color holds something of an attempt that was given up.
fn restart_to_be_cleared() -> Taken {
    let mut sim = Sim::upgraded();
    sim.restart("now");
    sim.late_create(Component::Schema, 1, "a");
    into(&sim, Step::Prune)
}

/// A rollback whose color held the same.
fn rollback_begun_anew() -> Taken {
    let mut sim = Sim::upgraded();
    sim.rollback_to("a");
    sim.until(Step::Deploying);
    sim.late_create(Component::Schema, 1, "b");
    before(&sim, |from, next| from == Some(Step::Prune) && step_of(next) == Some(Step::Deploying))
}

pub fn switches() -> Vec<&'static str> {
    [
        broken(
            || into(&upgrade(), Step::Switching),
            &[
                ("I2: switching to {target:?}, which is not Full", |it| {
                    it.deployment(Color::Green).ready -= 1;
                }),
                ("I2: switching to {target:?}, which was not ready without a break", |it| {
                    it.storage(Color::Green).pods.last_transition = Some(it.now.as_second());
                }),
                ("D6: switching to {target:?} without a revision that says it is good", |it| {
                    it.facts.revisions.retain(|known| known.version != "b");
                }),
                ("I21, I23: switching to {target:?}, which is not wanted any more", |it| {
                    it.intent.wanted = template("c");
                }),
            ],
        ),
        broken(
            || into(&upgrade(), Step::Watching),
            &[
                ("D2: served before both fronts carry {decision:?}", |it| it.front().epoch -= 1),
                ("I9: served unproved", |it| it.front().ready.green = 0),
                ("I9: the dwell time was {dwell}", Taken::begin),
                ("Watching without a warm side", |it| it.rollout_to().previous = None),
            ],
        ),
    ]
    .concat()
}

pub fn ways_to_prune() -> Vec<&'static str> {
    let failed = || {
        let mut sim = upgrade();
        sim.breaks("b", Cause::Crash);
        into(&sim, Step::Stable)
    };
    [
        broken(
            || into(&upgrade(), Step::Prune),
            &[
                ("I9: Prune before both fronts carry the decision", |it| it.front().epoch -= 1),
                ("I9: the warm side was kept for {kept} s only", Taken::begin),
                ("I9: Prune unproved", |it| it.front().listed.blue = 1),
            ],
        ),
        broken(
            || into(&upgrade(), Step::Stable),
            &[("D7: Prune is left, but {color} is not gone", |it| {
                it.storage(Color::Blue).replica_sets = true;
            })],
        ),
        broken(failed, &[("I18: {} is not marked", |it| it.know("b", None))]),
    ]
    .concat()
}

pub fn histories() -> Vec<&'static str> {
    let third = || {
        let mut sim = Sim::upgraded();
        sim.edit("c");
        into(&sim, Step::Switching)
    };
    broken(
        third,
        &[
            ("I14: {} records, limit {limit}", |it| it.intent.policy.history_limit = 2),
            ("I14: {} is recorded twice", |it| {
                let twin = it.records()[0].clone();
                it.records().push(twin);
            }),
            ("I15: two Active", |it| it.records()[0].status = RecordStatus::Active),
            ("I15: Active is {version:?}", |it| it.records()[1].status = RecordStatus::Superseded),
            ("I17: {} was dropped", |it| {
                it.records().pop();
            }),
            ("D12: Active is at [-{}]", |it| it.records().swap(0, 1)),
            ("D12: {pending} attempts at once", |it| it.records()[0].status = RecordStatus::Pending),
            ("D12: Pending is not last", |it| it.records().swap(1, 2)),
        ],
    )
}

pub fn what_people_read() -> Vec<&'static str> {
    broken(
        || into(&upgrade(), Step::Switching),
        &[
            ("I20: {size} bytes", |it| it.records()[0].message = Some("x".repeat(16 * 1024))),
            ("deploymentPhase {phase:?}", |it| it.status_to().deployment_phase = Some("Done".into())),
            ("A1: phase {:?}", |it| it.status_to().phase = Some("Done".into())),
            ("I19: {:?}", |it| it.status_to().observed_generation = None),
            ("D26: {count} conditions {kind}", |it| {
                it.status_to().conditions.retain(|found| found.type_ != "Ready");
            }),
            ("kstatus: both Reconciling and Stalled", |it| {
                it.condition("Reconciling").status = "True".into();
                it.condition("Stalled").status = "True".into();
            }),
            ("a condition without a reason", |it| it.condition("Ready").reason.clear()),
            ("I16, I19: Ready={} while Full={full}", |it| it.condition("Ready").status = "False".into()),
            ("deploymentPhase is not the step's", |it| {
                it.status_to().deployment_phase = Some("Stable".into());
            }),
            ("pendingStrategy {:?}", |it| it.status_to().pending_strategy = None),
        ],
    )
}

/// Each thing that Full asks for is missed.
pub fn full() -> Vec<&'static str> {
    const LAW: &str = "I16, I19: Ready={} while Full={full}";
    broken(
        || into(&upgrade(), Step::Switching),
        &[
            (LAW, |it| it.storage(Color::Blue).deployment = Deployment::Absent),
            (LAW, |it| it.storage(Color::Blue).deployment = Deployment::Terminating),
            (LAW, |it| it.deployment(Color::Blue).tag.version = "b".into()),
            (LAW, |it| it.deployment(Color::Blue).observed = false),
            (LAW, |it| it.deployment(Color::Blue).desired += 1),
            (LAW, |it| {
                let zero = DeploymentState {
                    desired: 0,
                    updated: 0,
                    ready: 0,
                    available: 0,
                    replicas: 0,
                    ..it.deployment(Color::Blue).clone()
                };
                *it.deployment(Color::Blue) = zero;
            }),
            (LAW, |it| it.deployment(Color::Blue).updated -= 1),
            (LAW, |it| it.deployment(Color::Blue).ready -= 1),
            (LAW, |it| it.deployment(Color::Blue).available -= 1),
            (LAW, |it| it.deployment(Color::Blue).replicas += 1),
            (LAW, |it| it.storage(Color::Blue).pods.strays.push("another".into())),
        ],
    )
}
