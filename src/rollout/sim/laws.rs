//! The laws that every write obeys: `invariants.md`, as far as this level can express them.

use super::Sim;
use super::cluster::{Cell, Door};
use crate::api::status::{MetadataServicesStatus, RecordStatus, Rollout, Side, Step, Trigger};
use crate::names::{Colour, Component, PerComponent};
use crate::rollout::facts::{ObjectId, Triple};
use crate::rollout::health;
use crate::rollout::{Action, Plan};

/// What the laws remember from write to write.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Selector changes of each front Service within this rollout.
    moves: PerComponent<u32>,
    /// The highest epoch seen.
    epoch: i64,
    /// Whether the front Services may differ until the next rest: the status was lost in between.
    pub lost: bool,
}

impl Memory {
    /// With the status, the number of the last decision is gone; what is stamped on objects remains.
    pub fn forget_epoch(&mut self) {
        self.epoch = 0;
    }
}

/// Fails with the story so far.
macro_rules! law {
    ($sim:expr, $holds:expr, $($words:tt)*) => {
        assert!($holds, "{}\n{}", format!($($words)*), $sim.story())
    };
}

// === Before a status is persisted ===

pub fn before_commit(sim: &mut Sim, new: &MetadataServicesStatus) {
    law!(sim, sim.status.as_ref() != Some(new), "I29: a status write that changes nothing");
    readable(sim, new);
    history(sim, new);
    let Some(rollout) = new.rollout.as_ref() else {
        law!(
            sim,
            sim.status.as_ref().is_none_or(|old| old.rollout.is_none()),
            "the machine's memory is dropped"
        );
        return;
    };
    law!(sim, rollout.epoch >= sim.laws.epoch, "I13: epoch {} after {}", rollout.epoch, sim.laws.epoch);
    let old = sim.status.clone().filter(|old| old.rollout.is_some());
    match &old {
        Some(old) => edge(sim, old, new, rollout),
        None => rebuilt(sim, rollout),
    }
    sim.laws.epoch = rollout.epoch;
    if rollout.step == Step::Deploying && old.is_none_or(|old| old.rollout.unwrap().epoch < rollout.epoch) {
        sim.laws.moves = PerComponent::default();
    }
}

fn rebuilt(sim: &Sim, rollout: &Rollout) {
    let legal = [Step::Stable, Step::Deploying, Step::Switching, Step::RollingBack, Step::Prune];
    law!(sim, legal.contains(&rollout.step), "D6: rebuilt as {:?}", rollout.step);
    let stamped = Component::ALL.into_iter().filter_map(|of| door(sim, of)).map(|door| door.epoch);
    law!(sim, stamped.max().unwrap_or(0) < rollout.epoch, "D6: a rebuilt epoch is above all that was seen");
}

fn edge(sim: &Sim, old: &MetadataServicesStatus, new: &MetadataServicesStatus, to: &Rollout) {
    use Step::{Deploying, Grace, Prune, RollingBack, Stable, Switching};
    let from = old.rollout.as_ref().unwrap();
    if from.step == to.step {
        law!(sim, from.epoch == to.epoch, "a step begins anew without an edge");
        let ahead = from.since.0.as_second() > sim.cluster.now;
        law!(sim, from.since == to.since || ahead, "a step's start moves");
        return;
    }
    let legal = match from.step {
        Stable => matches!(to.step, Deploying | Prune),
        Deploying => matches!(to.step, Switching | Prune),
        Switching => {
            matches!(to.step, Grace | RollingBack | Prune) || (to.step == Stable && old.active().is_none())
        }
        Grace => matches!(to.step, Prune | RollingBack),
        RollingBack => to.step == Prune,
        Prune => matches!(to.step, Stable | Deploying),
        Step::Unknown => false,
    };
    law!(sim, legal, "I12: {:?} -> {:?}", from.step, to.step);
    if matches!(to.step, Deploying | Switching | RollingBack) {
        law!(sim, to.epoch > from.epoch, "D15: {:?} raises the epoch", to.step);
    }
    match to.step {
        Deploying => started(sim, old, to),
        Switching => good_enough(sim, to),
        Grace => served(sim, from, to),
        Prune if to.epoch == from.epoch => committed_to_prune(sim, old, from),
        _ => {}
    }
    if from.step == Prune {
        pruned(sim, old, new);
    }
}

/// I18, I21: what failed is tried again only when asked for, and a pending colour starts clean.
fn started(sim: &Sim, old: &MetadataServicesStatus, to: &Rollout) {
    let target = to.target.as_ref().unwrap();
    let failed = old.record(&target.version).is_some_and(|record| record.status == RecordStatus::Failed);
    let retried = to.request.as_ref().is_some_and(|request| request.kind == Trigger::Retry);
    let first = old.active_strategy.is_none();
    law!(sim, !failed || retried || first, "I18: {} failed and is tried again unasked", target.version);
    law!(sim, old.active_strategy != Some(target.strategy), "the pending colour is the serving one");
}

/// I2: the switch is decided on a complete release that is recorded as good.
fn good_enough(sim: &Sim, to: &Rollout) {
    let target = to.target.as_ref().unwrap();
    law!(sim, is_full(sim, target), "I2: switching to {target:?}, which is not Full");
    let good =
        sim.cluster.revisions.iter().any(|known| known.version == target.version && known.failed.is_none());
    law!(sim, good, "D6: switching to {target:?} without a revision that says it is good");
}

fn served(sim: &Sim, from: &Rollout, to: &Rollout) {
    let target = from.target.as_ref().unwrap();
    let decision = triple(Some(target), from.epoch);
    law!(sim, stamped(sim, &decision), "D2: served before both fronts carry {decision:?}");
    law!(sim, proved(sim, target.strategy), "I9: served unproved");
    let dwell = sim.cluster.now - from.since.0.as_second();
    law!(sim, dwell >= sim.intent.policy.dwell, "the dwell time was {dwell}");
    law!(sim, to.previous.is_some(), "Grace without a warm side");
}

/// I3, I9: the way to Prune from a step in which both colours live.
fn committed_to_prune(sim: &Sim, old: &MetadataServicesStatus, from: &Rollout) {
    let Some(active) = old.active().filter(|_| matches!(from.step, Step::Grace | Step::RollingBack)) else {
        return;
    };
    let kept = sim.cluster.now - from.since.0.as_second();
    law!(
        sim,
        stamped(sim, &triple(Some(&active), from.epoch)),
        "I9: Prune before both fronts carry the decision"
    );
    law!(sim, kept >= sim.intent.policy.cleanup_delay, "I9: the warm side was kept for {kept} s only");
    let waived = from.step == Step::RollingBack && kept >= sim.intent.policy.deploy_timeout;
    law!(sim, waived || proved(sim, active.strategy), "I9: Prune unproved");
}

/// D7 *gone*, and I18: the mark is durable before the rollback ends.
fn pruned(sim: &Sim, old: &MetadataServicesStatus, new: &MetadataServicesStatus) {
    for colour in Colour::ALL.into_iter().filter(|colour| Some(*colour) != old.active_strategy) {
        law!(sim, !sim.has_objects(colour), "D7: Prune is left, but {colour} is not gone");
    }
    marked(sim, new);
}

/// The mark of a failed release is durable before anything is patched or deleted for it.
fn marked(sim: &Sim, status: &MetadataServicesStatus) {
    for record in status.release_history.iter().filter(|record| record.status == RecordStatus::Failed) {
        let marked = sim
            .cluster
            .revisions
            .iter()
            .any(|known| known.version == record.version && known.failed.is_some());
        law!(sim, marked || !sim.template_is_known(&record.hash), "I18: {} is not marked", record.version);
    }
}

fn history(sim: &Sim, new: &MetadataServicesStatus) {
    let records = &new.release_history;
    let limit = sim.intent.policy.history_limit;
    law!(sim, records.len() <= limit, "I14: {} records, limit {limit}", records.len());
    for (at, record) in records.iter().enumerate() {
        let twin =
            records[..at].iter().any(|other| other.version == record.version || other.hash == record.hash);
        law!(sim, !twin, "I14: {} is recorded twice", record.version);
    }
    let active: Vec<_> = records.iter().filter(|record| record.status == RecordStatus::Active).collect();
    law!(sim, active.len() <= 1, "I15: two Active");
    let version = active.first().map(|record| record.version.as_str());
    law!(sim, version == new.active_release_version.as_deref(), "I15: Active is {version:?}");
    let old = sim.status.iter().flat_map(|old| &old.release_history);
    for record in old.filter(|old| matches!(old.status, RecordStatus::Active | RecordStatus::Pending)) {
        law!(sim, new.record(&record.version).is_some(), "I17: {} was dropped", record.version);
    }
    if let Some(active) = version {
        let place = records.iter().rev().position(|record| record.version == active).unwrap();
        law!(sim, place <= 1, "D12: Active is at [-{}]", place + 1);
    }
    let pending = records.iter().filter(|record| record.status == RecordStatus::Pending).count();
    law!(sim, pending <= 1, "D12: {pending} attempts at once");
    law!(
        sim,
        pending == 0 || records.last().unwrap().status == RecordStatus::Pending,
        "D12: Pending is not last"
    );
}

/// The part that people read.
fn readable(sim: &Sim, new: &MetadataServicesStatus) {
    let size = serde_json::to_string(new).unwrap().len();
    law!(sim, size <= 16 * 1024, "I20: {size} bytes");
    let public = ["Stable", "Deploying", "Switching", "Cleanup"];
    law!(sim, public.contains(&new.deployment_phase.as_deref().unwrap_or("")), "{:?}", new.deployment_phase);
    let summary = [&public[..], &["Pending", "Degraded", "Failed"]].concat();
    law!(sim, summary.contains(&new.phase.as_deref().unwrap_or("")), "A1: phase {:?}", new.phase);
    law!(sim, new.observed_generation == Some(sim.intent.generation), "I19: {:?}", new.observed_generation);
    let is = |kind: &str| new.conditions.iter().any(|found| found.type_ == kind && found.status == "True");
    for kind in ["Ready", "SpecApplied", "Progressing", "Reconciling", "Stalled"] {
        let count = new.conditions.iter().filter(|found| found.type_ == kind).count();
        law!(sim, count == 1, "D26: {count} conditions {kind}");
    }
    law!(sim, !(is("Reconciling") && is("Stalled")), "kstatus: both Reconciling and Stalled");
    law!(sim, new.conditions.iter().all(|found| !found.reason.is_empty()), "a condition without a reason");
    let full = new.active().is_some_and(|active| is_full(sim, &active));
    law!(sim, is("Ready") == full, "I16, I19: Ready={} while Full={full}", is("Ready"));
    if let Some(rollout) = &new.rollout {
        law!(
            sim,
            new.deployment_phase.as_deref() == rollout.step.phase(),
            "deploymentPhase is not the step's"
        );
        let pending = rollout.target.as_ref().map(|side| side.strategy);
        law!(sim, new.pending_strategy == pending, "pendingStrategy {:?}", new.pending_strategy);
    }
}

// === Before an object is written ===

pub fn before_action(sim: &mut Sim, action: &Action) {
    if matches!(action, Action::Adopt(_)) {
        return;
    }
    let status = sim.known().clone();
    let rollout = status.rollout.clone().unwrap();
    let torn = fronts_differ(sim);
    if matches!(action, Action::Point(..) | Action::Delete(_)) && rollout.step != Step::Stable {
        marked(sim, &status);
    }
    match action {
        Action::Create(id, tagged) => {
            law!(sim, !torn, "I4: {id:?} is created while the fronts differ");
            law!(sim, tagged.epoch == rollout.epoch, "D15: created under epoch {}", tagged.epoch);
            created(sim, &status, &rollout, id, &tagged.version);
        }
        Action::Delete(id) => {
            law!(sim, !torn, "I4: {id:?} is deleted while the fronts differ");
            law!(sim, rollout.step == Step::Prune, "D15: {id:?} is deleted in {:?}", rollout.step);
            if let Some(active) = status.active() {
                law!(
                    sim,
                    stamped(sim, &triple(Some(&active), rollout.epoch)),
                    "I9: deleted before the stamps"
                );
            }
            deleted(sim, &status, id);
        }
        Action::Point(component, triple) => pointed(sim, &status, &rollout, *component, triple),
        Action::Record { tagged, failed } => {
            let known = sim.cluster.revisions.iter().any(|known| {
                known.version == tagged.version
                    && known.failed == *failed
                    && sim.cluster.revisions.iter().all(|other| other.number <= known.number)
            });
            law!(sim, !known, "I29: {} is recorded for nothing", tagged.version);
        }
        Action::Settle(setting) => {
            law!(sim, sim.stale.contains(setting), "I29: {setting:?} is settled for nothing");
        }
        Action::CreateFront(_) | Action::Adopt(_) => {}
    }
}

fn created(sim: &Sim, status: &MetadataServicesStatus, rollout: &Rollout, id: &ObjectId, version: &str) {
    let (ObjectId::Deployment(component, colour)
    | ObjectId::Service(component, colour)
    | ObjectId::ConfigMap(component, colour)) = id
    else {
        panic!("not created so: {id:?}");
    };
    let side = Side { strategy: *colour, version: version.to_owned() };
    let serves = status.active().as_ref() == Some(&side);
    let comes = rollout.target.as_ref() == Some(&side);
    law!(sim, serves || comes, "{id:?} is created for {version}, which is not on its way and does not serve");
    let steps = [Step::Stable, Step::Deploying, Step::Switching, Step::Grace];
    law!(sim, steps.contains(&rollout.step), "{id:?} is created in {:?}", rollout.step);
    let cell = sim.cluster.cell(*component, *colour);
    let strays =
        matches!(id, ObjectId::Deployment(..)) && rollout.step == Step::Deploying && !cell.pods.is_empty();
    law!(sim, !strays, "D8: a Deployment is created among pods of something else");
}

fn deleted(sim: &Sim, status: &MetadataServicesStatus, id: &ObjectId) {
    match id {
        ObjectId::Deployment(_, colour) | ObjectId::Service(_, colour) | ObjectId::ConfigMap(_, colour) => {
            law!(sim, status.active_strategy != Some(*colour), "{id:?} serves and is deleted");
            let selected = Component::ALL.into_iter().filter_map(|of| door(sim, of)?.selects);
            law!(sim, selected.into_iter().all(|of| of != *colour), "I3: {id:?} is selected and deleted");
        }
        ObjectId::Revision(version) => {
            law!(
                sim,
                status.record(version).is_none(),
                "{version} is in the history, its revision is deleted"
            );
        }
        ObjectId::Extra(extra) => law!(sim, sim.surplus.contains(extra), "{extra:?} is wanted and deleted"),
        ObjectId::Front(_) => panic!("a front Service is deleted"),
    }
}

fn pointed(
    sim: &mut Sim,
    status: &MetadataServicesStatus,
    rollout: &Rollout,
    component: Component,
    to: &Triple,
) {
    law!(sim, to.epoch == rollout.epoch, "D2: pointed with epoch {}, decided {}", to.epoch, rollout.epoch);
    let side = if rollout.step == Step::Switching { rollout.target.clone() } else { status.active() };
    law!(sim, *to == triple(side.as_ref(), rollout.epoch), "D2: pointed to {to:?}, decided {side:?}");
    let front = door(sim, component).cloned().unwrap_or_default();
    law!(sim, !carries(&front, to), "I29: {component} is pointed for nothing");
    law!(sim, front.epoch <= to.epoch, "I13: the stamp goes from {} to {}", front.epoch, to.epoch);
    let Some(side) = side else {
        law!(sim, status.active_strategy.is_none(), "I7: pointed to nothing");
        return;
    };
    let failed = status.record(&side.version).is_some_and(|record| record.status == RecordStatus::Failed);
    law!(sim, !failed, "I3: pointed to {}, which is Failed", side.version);
    if front.selects != to.colour && !sim.tampered {
        for (of, cell) in sim.cluster.cells.get(side.strategy).iter() {
            let right = cell.deployment.as_ref().is_some_and(|dep| dep.tag.version == side.version);
            law!(sim, right && !cell.terminating, "I1, I10: pointed to {side:?}, {of} is not there");
        }
        *sim.laws.moves.get_mut(component) += 1;
        let moves = *sim.laws.moves.get(component);
        law!(sim, moves <= 2 || sim.laws.lost, "I5: the selector of {component} moved {moves} times");
    }
}

// === After every write, and at rest ===

pub fn after_write(sim: &Sim) {
    for component in Component::ALL {
        let Some(selects) = door(sim, component).and_then(|door| door.selects) else { continue };
        let cell = sim.cluster.cell(component, selects);
        let lives = cell.deployment.is_some() && !cell.terminating;
        law!(sim, lives || sim.tampered, "I1: {component} selects {selects}, which has no Deployment");
    }
    if fronts_differ(sim) && !sim.tampered && !sim.laws.lost {
        // Prune: only out of a dead end, when another side is kept than was decided on.
        let moving = matches!(sim.step(), Some(Step::Switching | Step::RollingBack | Step::Prune));
        law!(sim, moving, "I4: the fronts differ");
    }
}

pub fn at_rest(sim: &mut Sim, made: &Plan) {
    law!(sim, made.again.is_none_or(|seconds| seconds >= 1), "a wait of {:?}", made.again);
    let Some(status) = sim.status.clone().filter(|status| status.rollout.is_some()) else { return };
    let rollout = status.rollout.clone().unwrap();
    if sim.intent.deleted || rollout.step != Step::Stable {
        return;
    }
    let active = status.active().expect("something serves in Stable");
    law!(
        sim,
        stamped(sim, &triple(Some(&active), rollout.epoch)),
        "I16: the fronts do not carry the decision"
    );
    law!(sim, !sim.has_objects(active.strategy.other()), "I33: both colours have objects");
    let forgotten = sim.cluster.revisions.iter().find(|known| status.record(&known.version).is_none());
    law!(sim, forgotten.is_none(), "I33: {forgotten:?} is left over");
    law!(sim, made.again.is_none(), "I30: a settled resource wants to be looked at again");
    let whole = |cell: &Cell| cell.deployment.is_some() && cell.config.is_some() && cell.service.is_some();
    let known = status.record(&active.version).is_some_and(|record| sim.template_is_known(&record.hash));
    let whole = sim.cluster.cells.get(active.strategy).all(whole);
    law!(sim, whole || !known || !sim.taken.is_empty(), "I33: the serving colour is not whole");
    sim.tampered = false;
    sim.laws.lost = false;
}

// === Words of the laws ===

fn door(sim: &Sim, component: Component) -> Option<&Door> {
    sim.cluster.fronts.get(component).as_ref()
}

fn triple(side: Option<&Side>, epoch: i64) -> Triple {
    let version = side.map(|side| side.version.clone()).unwrap_or_default();
    Triple { colour: side.map(|side| side.strategy), version, epoch }
}

fn carries(door: &Door, to: &Triple) -> bool {
    let version = door.version.as_deref().unwrap_or_default();
    door.exact && door.selects == to.colour && version == to.version && door.epoch == to.epoch
}

fn stamped(sim: &Sim, to: &Triple) -> bool {
    Component::ALL.into_iter().all(|component| door(sim, component).is_some_and(|door| carries(door, to)))
}

fn proved(sim: &Sim, colour: Colour) -> bool {
    Component::ALL.into_iter().all(|component| {
        door(sim, component)
            .is_some_and(|door| door.slices.get(colour).0 > 0 && *door.slices.get(colour.other()) == (0, 0))
    })
}

fn fronts_differ(sim: &Sim) -> bool {
    match (door(sim, Component::Storage), door(sim, Component::Schema)) {
        (Some(storage), Some(schema)) => {
            storage.selects != schema.selects || storage.version != schema.version
        }
        _ => false,
    }
}

fn is_full(sim: &Sim, side: &Side) -> bool {
    health::full(sim.facts().colours.get(side.strategy), &side.version)
}
