//! Cases of status writes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Decision, before, into, step_of, upgrade, violated};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step, Trigger};
use rollout::facts::{Cause, Deployment, DeploymentState};
use simulator::{Sim, template};

pub fn recoveries() -> Vec<&'static str> {
    let rebuilt = || {
        let mut sim = Sim::stable();
        sim.lose_status();
        before(&sim, |_, next| step_of(next).is_some())
    };
    let again = || before(&upgrade(), |from, next| from.is_some() && step_of(next) == from);
    [
        violated(
            rebuilt,
            &[
                ("D6: recovery into step {:?}", |it| it.enter(Step::Watching)),
                ("D6: the recovered epoch is not above all epochs on front Services", |it| {
                    it.rollout_to().epoch = 0;
                }),
            ],
        ),
        violated(
            again,
            &[
                ("the epoch changes within a step", |it| it.rollout_to().epoch += 1),
                ("the start of the step changes", |it| it.rollout_to().since = Time(Timestamp::UNIX_EPOCH)),
            ],
        ),
        violated(
            || into(&upgrade(), Step::Deploying),
            &[
                ("I29: the status write changes nothing", |it| it.status = Some(it.status_to().clone())),
                ("I28: status write for a terminating resource", |it| {
                    it.intent.deleted = true;
                }),
                ("the status loses its rollout", |it| it.status_to().rollout = None),
            ],
        ),
    ]
    .concat()
}

pub fn transitions() -> Vec<&'static str> {
    [
        violated(
            || into(&upgrade(), Step::Deploying),
            &[
                ("I18: {} failed and starts again without a request", |it| {
                    let mut record = it.records().last().unwrap().clone();
                    record.status = RecordStatus::Failed;
                    it.status_from().release_history.push(record);
                }),
                ("the pending color is the active color", |it| {
                    it.rollout_to().target.as_mut().unwrap().strategy = Color::Blue;
                    it.status_to().pending_strategy = Some(Color::Blue);
                }),
            ],
        ),
        violated(
            restart_of_dirty_color,
            &[("D10: the restart of {} is dropped", |it| {
                it.rollout_to().target = None;
                it.status_to().pending_strategy = None;
            })],
        ),
        violated(
            rollback_started_again,
            &[("D10: the trigger of {} was {was:?} and is now {trigger:?}", |it| {
                it.records().last_mut().unwrap().trigger = Trigger::Spec;
            })],
        ),
        violated(
            || into(&upgrade(), Step::Switching),
            &[
                ("I13: epoch {} after {}", |it| it.rollout_to().epoch = 0),
                ("I12: {:?} -> {:?}", |it| it.enter(Step::Watching)),
                ("D15: the epoch stays on entry into {:?}", |it| {
                    it.rollout_to().epoch = it.rollout_from().epoch;
                }),
            ],
        ),
    ]
    .concat()
}

/// Returns a restart whose color holds an object of a canceled attempt.
fn restart_of_dirty_color() -> Decision {
    let mut sim = Sim::upgraded();
    sim.restart("now");
    sim.late_create(Component::Schema, 1, "a");
    into(&sim, Step::Prune)
}

/// Returns a rollback whose color holds an object of a canceled attempt.
fn rollback_started_again() -> Decision {
    let mut sim = Sim::upgraded();
    sim.rollback_to("a");
    sim.until(Step::Deploying);
    sim.late_create(Component::Schema, 1, "b");
    before(&sim, |from, next| from == Some(Step::Prune) && step_of(next) == Some(Step::Deploying))
}

pub fn switches() -> Vec<&'static str> {
    [
        violated(
            || into(&upgrade(), Step::Switching),
            &[
                ("I2: switch to {target:?}, which is not Full", |it| {
                    it.deployment(Color::Green).ready -= 1;
                }),
                ("I2: switch to {target:?}, which was not ready all the time", |it| {
                    it.storage(Color::Green).pods.last_transition = Some(it.now.as_second());
                }),
                ("D6: switch to {target:?} without a good revision", |it| {
                    it.facts.revisions.retain(|known| known.version != "b");
                }),
                ("I21, I23: switch to {target:?}, which is no longer wanted", |it| {
                    it.intent.wanted = template("c");
                }),
            ],
        ),
        violated(
            || into(&upgrade(), Step::Watching),
            &[
                ("D2: Watching before both front Services carry {decision:?}", |it| it.front().epoch -= 1),
                ("I9: Watching without proof by EndpointSlices", |it| it.front().ready.green = 0),
                ("I9: the dwell time was only {dwell} s", Decision::begin),
                ("Watching without a previous release", |it| it.rollout_to().previous = None),
            ],
        ),
    ]
    .concat()
}

pub fn prune_entries() -> Vec<&'static str> {
    let failed = || {
        let mut sim = upgrade();
        sim.fail_startup("b", Cause::Crash);
        into(&sim, Step::Stable)
    };
    [
        violated(
            || into(&upgrade(), Step::Prune),
            &[
                ("I9: Prune before both front Services carry the decision", |it| it.front().epoch -= 1),
                ("I9: the previous color was kept for only {kept} s", Decision::begin),
                ("I9: Prune without proof by EndpointSlices", |it| it.front().listed.blue = 1),
            ],
        ),
        violated(
            || into(&upgrade(), Step::Stable),
            &[("D7: Prune ends while {color} still has objects", |it| {
                it.storage(Color::Blue).replica_sets = true;
            })],
        ),
        violated(failed, &[("I18: the revision of {} has no Failed mark", |it| it.know("b", None))]),
    ]
    .concat()
}

pub fn histories() -> Vec<&'static str> {
    let third = || {
        let mut sim = Sim::upgraded();
        sim.edit("c");
        into(&sim, Step::Switching)
    };
    violated(
        third,
        &[
            ("I14: {} records, limit {limit}", |it| it.intent.policy.history_limit = 2),
            ("I14: {} has two records", |it| {
                let twin = it.records()[0].clone();
                it.records().push(twin);
            }),
            ("I15: two Active records", |it| it.records()[0].status = RecordStatus::Active),
            ("I15: the Active record is {version:?}", |it| it.records()[1].status = RecordStatus::Superseded),
            ("I17: the record of {} is dropped", |it| {
                it.records().pop();
            }),
            ("D12: the Active record is at [-{}]", |it| it.records().swap(0, 1)),
            ("D12: {pending} Pending records", |it| it.records()[0].status = RecordStatus::Pending),
            ("D12: the Pending record is not the last", |it| it.records().swap(1, 2)),
        ],
    )
}

pub fn public_fields() -> Vec<&'static str> {
    violated(
        || into(&upgrade(), Step::Switching),
        &[
            ("I20: the status has {size} bytes", |it| it.records()[0].message = Some("x".repeat(16 * 1024))),
            ("deploymentPhase is {phase:?}", |it| it.status_to().deployment_phase = Some("Done".into())),
            ("A1: phase is {:?}", |it| it.status_to().phase = Some("Done".into())),
            ("I19: observedGeneration is {:?}", |it| it.status_to().observed_generation = None),
            ("D26: {count} conditions {kind}", |it| {
                it.status_to().conditions.retain(|found| found.type_ != "Ready");
            }),
            ("kstatus: both Reconciling and Stalled", |it| {
                it.condition("Reconciling").status = "True".into();
                it.condition("Stalled").status = "True".into();
            }),
            ("a condition has no reason", |it| it.condition("Ready").reason.clear()),
            ("I16, I19: Ready={} while Full={full}", |it| it.condition("Ready").status = "False".into()),
            ("deploymentPhase does not match the step", |it| {
                it.status_to().deployment_phase = Some("Stable".into());
            }),
            ("pendingStrategy is {:?}", |it| it.status_to().pending_strategy = None),
        ],
    )
}

/// Violates each condition of Full.
pub fn full() -> Vec<&'static str> {
    const READY: &str = "I16, I19: Ready={} while Full={full}";
    violated(
        || into(&upgrade(), Step::Switching),
        &[
            (READY, |it| it.storage(Color::Blue).deployment = Deployment::Absent),
            (READY, |it| it.storage(Color::Blue).deployment = Deployment::Terminating),
            (READY, |it| it.deployment(Color::Blue).tag.version = "b".into()),
            (READY, |it| it.deployment(Color::Blue).observed = false),
            (READY, |it| it.deployment(Color::Blue).desired += 1),
            (READY, |it| {
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
            (READY, |it| it.deployment(Color::Blue).updated -= 1),
            (READY, |it| it.deployment(Color::Blue).ready -= 1),
            (READY, |it| it.deployment(Color::Blue).available -= 1),
            (READY, |it| it.deployment(Color::Blue).replicas += 1),
            (READY, |it| it.storage(Color::Blue).pods.strays.push("another".into())),
        ],
    )
}
