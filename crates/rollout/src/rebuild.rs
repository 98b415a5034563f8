//! The first look at a resource, and the rebuilding of a lost status (design D6).
//!
//! History comes from the ControllerRevisions, the serving release from the front Services' annotations, never from
//! a selector. Rebuilding never resumes a rollout and touches no serving workload.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Deployment, Facts, FrontState, ObjectId, Revision, Workload, is_epoch};
use super::health::component_complete;
use super::intent::Intent;
use super::shift::{Transition, restarts};
use super::{Action, Context, Desired, Effect, EventNote, EventReason, Plan, history, project};
use api::names::{Color, Component};
use api::status::{
    MetadataServicesStatus, RecordStatus, ReleaseRecord, Rollout, Side, Step, Timers, Trigger,
};

/// A side that a front Service claims to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    side: Side,
    epoch: i64,
}

/// What to do with a resource whose status has no machine in it.
pub(super) fn plan(intent: &Intent, before: &MetadataServicesStatus, facts: &Facts, now: Timestamp) -> Plan {
    let claims = claims(facts);
    let empty = is_empty(facts) && claims.is_empty();
    let epoch = highest_epoch(before, facts) + i64::from(!empty);
    let mut status = status_of_revisions(facts, epoch, now);
    match serving(facts, &status, &claims) {
        Serving::Nothing => {}
        Serving::One(claim) => {
            if let Some(stamps) = raise_epoch_first(facts, &claims, &claim.side) {
                return stamps;
            }
            recover_one(&mut status, facts, &claim, now);
        }
        Serving::Disagree { keep, other } => {
            recover_disagreement(&mut status, facts, &keep, other.as_ref(), now)
        }
    }
    history::drop_duplicates(&mut status.release_history);
    // A failed attempt that the spec still asks for comes after what serves, as before the loss (design D12), unless another
    // is on its way.
    let moving = status.rollout.as_ref().is_some_and(|rollout| rollout.target.is_some());
    let failed = status.record_of_hash(&intent.wanted.hash);
    let failed = failed.filter(|record| record.status == RecordStatus::Failed && !moving);
    if let Some(failed) = failed.map(|record| record.version.clone()) {
        history::sort_during_rollout(&mut status.release_history, &failed);
    }
    let rollout = status.rollout.clone();
    let Some(rollout) = rollout else {
        return Plan { effect: Effect::Wait, notes: vec![], requeue_after: None };
    };
    let ctx = Context { intent, status: &status, rollout: &rollout, facts, now, now_for_record: now };
    if empty {
        return first(&ctx, before);
    }
    let mut plan = Transition::of(&ctx).commit().unwrap_or(Plan {
        effect: Effect::Wait,
        notes: vec![],
        requeue_after: None,
    });
    let text = "the status was lost and has been rebuilt from the objects; no workload was touched";
    plan.notes.push(EventNote::new(EventReason::StatusRebuilt, text));
    plan
}

/// Nothing is there yet: start the first release, unless something forbids it.
fn first(ctx: &Context, before: &MetadataServicesStatus) -> Plan {
    if ctx.desired() == Desired::Spec && !ctx.policy().paused {
        let mut transition = Transition::of(ctx);
        transition.start(Trigger::Spec);
        return transition.commit().unwrap_or(Plan {
            effect: Effect::Wait,
            notes: vec![],
            requeue_after: None,
        });
    }
    let status = project::pending(ctx.intent, ctx.facts, before, ctx.now);
    if status == *before {
        return Plan { effect: Effect::Wait, notes: vec![], requeue_after: None };
    }
    let notes = project::condition_events(&before.conditions, &status.conditions);
    Plan { effect: Effect::UpdateStatus(Box::new(status)), notes, requeue_after: None }
}

/// Whether no color object and no revision is there.
fn is_empty(facts: &Facts) -> bool {
    facts.revisions.is_empty() && Color::ALL.into_iter().all(|color| !is_occupied(facts, color))
}

fn is_occupied(facts: &Facts, color: Color) -> bool {
    use super::facts::ObjectState;
    facts.colors.get(color).any(|workload| {
        workload.deployment != Deployment::Absent
            || workload.service != ObjectState::Absent
            || workload.config_map != ObjectState::Absent
    })
}

/// A status with the history that the revisions tell, and an epoch above all that was seen.
fn status_of_revisions(facts: &Facts, epoch: i64, now: Timestamp) -> MetadataServicesStatus {
    // Numbers order the history. A release that was gone back to has a higher one than those created after it.
    let mut last = i64::MIN;
    let in_order = facts.revisions.iter().map(|revision| {
        last = revision.created.max(last.saturating_add(1));
        record_of_revision(revision, last, now)
    });
    MetadataServicesStatus {
        // Not trimmed yet: it is not known here what serves.
        release_history: in_order.collect(),
        rollout: Some(Rollout {
            step: Step::Prune,
            epoch,
            since: Time(now),
            target: None,
            previous: None,
            timers: Timers::default(),
            switched_at: None,
            restarted_before: vec![],
            request: None,
        }),
        ..MetadataServicesStatus::default()
    }
}

/// A record of a revision that last served since `activated` (seconds since 1970) at the earliest.
fn record_of_revision(revision: &Revision, activated: i64, now: Timestamp) -> ReleaseRecord {
    let created = Timestamp::from_second(revision.created).unwrap_or(now);
    // A revision that is not Failed was good enough to be switched to.
    let activated = Timestamp::from_second(activated).unwrap_or(created);
    ReleaseRecord {
        version: revision.version.clone(),
        hash: revision.hash.clone(),
        strategy: Color::Blue,
        storage_tag: revision.images.storage.tag.clone(),
        schema_tag: revision.images.schema.tag.clone(),
        storage_image: revision.images.storage.reference.clone(),
        schema_image: revision.images.schema.reference.clone(),
        timestamp: Time(created),
        status: if revision.failed.is_some() { RecordStatus::Failed } else { RecordStatus::Superseded },
        trigger: Trigger::Spec,
        activated_at: revision.failed.is_none().then_some(Time(activated)),
        ready_at: None,
        finished_at: None,
        reason: revision.failed.as_ref().map(|_| "Failed".to_owned()),
        message: revision.failed.clone(),
    }
}

/// The highest number of a decision that an object carries, or the status that is not believed: what it decided may still be
/// on its way.
fn highest_epoch(status: &MetadataServicesStatus, facts: &Facts) -> i64 {
    let decided = status.rollout.as_ref().map(|rollout| rollout.epoch).filter(|epoch| is_epoch(*epoch));
    let fronts = facts.front.iter().filter_map(|(_, front)| Some(front.state()?.epoch));
    let objects = Color::ALL
        .into_iter()
        .flat_map(|color| facts.colors.get(color).iter().flat_map(|(_, workload)| workload.tags()));
    let objects = objects.flatten().map(|tag| tag.epoch);
    fronts.chain(objects).chain(decided).max().unwrap_or(0).max(0)
}

fn claims(facts: &Facts) -> Vec<Claim> {
    let claim = |state: &FrontState| {
        let version = state.version.clone()?;
        // The color of the claimed release is where its Deployments are; the selector is only a hint.
        let strategy = color_of(facts, &version, state.selects)?;
        Some(Claim { side: Side { strategy, version }, epoch: state.epoch })
    };
    facts.front.iter().filter_map(|(_, front)| claim(front.state()?)).collect()
}

/// The color on which a release's Deployments are; if both (a restart), the one that is selected.
fn color_of(facts: &Facts, version: &str, selects: Option<Color>) -> Option<Color> {
    let candidates: Vec<Color> =
        Color::ALL.into_iter().filter(|color| holds(facts, *color, version)).collect();
    match candidates.as_slice() {
        [] => selects,
        [one] => Some(*one),
        _ => selects.or_else(|| candidates.first().copied()),
    }
}

/// Whether a Deployment of a release is on a color.
pub(super) fn holds(facts: &Facts, color: Color, version: &str) -> bool {
    facts.colors.get(color).any(|workload| {
        workload.deployment.state().is_some_and(|deployment| deployment.tag.version == version)
    })
}

enum Serving {
    Nothing,
    One(Claim),
    Disagree { keep: Claim, other: Option<Claim> },
}

/// Which release serves. If the fronts differ: the one with the higher epoch, unless it failed. A side that failed or is
/// not Full gives way to the other if that is Full and did not fail, whether one front names it or both: a status may
/// get lost just before the way back was begun. Of two fronts that differ, a side that failed always gives way to one
/// that did not: it was marked before the way back was begun, and there is no way back to it.
fn serving(facts: &Facts, status: &MetadataServicesStatus, claims: &[Claim]) -> Serving {
    let able = |claim: &Claim| can_serve(facts, status, &claim.side);
    let failed = |claim: &Claim| has_failed(status, &claim.side);
    match claims {
        [] => Serving::Nothing,
        [one] => Serving::Disagree { keep: one.clone(), other: None },
        [one, two, ..] if one.side == two.side => {
            let warm = unreferenced_side(facts, one).filter(|warm| !able(one) && able(warm));
            Serving::One(warm.unwrap_or_else(|| one.clone()))
        }
        [one, two, ..] => {
            let (newer, older) = if one.epoch >= two.epoch { (one, two) } else { (two, one) };
            match (failed(newer), failed(older)) {
                (false, true) => return Serving::One(newer.clone()),
                (true, false) => return Serving::One(older.clone()),
                _ => {}
            }
            if !able(newer) && able(older) {
                return Serving::One(older.clone());
            }
            Serving::Disagree { keep: newer.clone(), other: Some(older.clone()) }
        }
    }
}

fn has_failed(status: &MetadataServicesStatus, side: &Side) -> bool {
    status.record(&side.version).is_some_and(|record| record.status == RecordStatus::Failed)
}

/// Whether a side can serve. Stamps are written before it is gone back to, and need not have been observed yet.
fn can_serve(facts: &Facts, status: &MetadataServicesStatus, side: &Side) -> bool {
    let complete = |workload: &Workload| component_complete(workload, &side.version);
    status.record(&side.version).is_some()
        && !has_failed(status, side)
        && facts.colors.get(side.strategy).all(complete)
}

/// The one release that the color holds that no front names.
fn unreferenced_side(facts: &Facts, claim: &Claim) -> Option<Claim> {
    let strategy = claim.side.strategy.other();
    let color = facts.colors.get(strategy);
    let version = color.storage.deployment.state()?.tag.version.clone();
    let same = color.schema.deployment.state()?.tag.version == version;
    same.then_some(Claim { side: Side { strategy, version }, epoch: claim.epoch })
}

/// A side that no front Service names may have been on its way out when the status was lost, and what was decided then may
/// still land. So its objects are written to before it is gone back to: deletes of before meet another resourceVersion.
/// A number above those of the fronts says that it is done: they get a later one before anything is deleted.
fn raise_epoch_first(facts: &Facts, claims: &[Claim], side: &Side) -> Option<Plan> {
    if claims.iter().any(|claim| claim.side == *side) {
        return None;
    }
    let last = claims.iter().map(|claim| claim.epoch).max()?;
    let mut groups = vec![vec![], vec![], vec![]];
    for (component, workload) in facts.colors.get(side.strategy).iter() {
        let ids = [
            ObjectId::Deployment(component, side.strategy),
            ObjectId::Service(component, side.strategy),
            ObjectId::ConfigMap(component, side.strategy),
        ];
        for ((id, tag), group) in ids.into_iter().zip(workload.tags()).zip(&mut groups) {
            if tag.is_some_and(|tag| tag.epoch <= last) {
                group.push(Action::RaiseEpoch(id, last + 1));
            }
        }
    }
    Plan::act(groups)
}

/// One side serves, or is gone back to. What the other color holds is pruned, but as after any rollback: once both
/// fronts carry the new epoch, EndpointSlices prove where traffic goes and the delay is over. That they point there
/// already proves nothing: a patch that another operator decided before the loss may still be on its way, and only the
/// stamp of the new epoch keeps it out.
fn recover_one(status: &mut MetadataServicesStatus, facts: &Facts, claim: &Claim, now: Timestamp) {
    ensure_record(status, facts, claim, now);
    history::activate(&mut status.release_history, &claim.side.version, claim.side.strategy, now);
    status.active_strategy = Some(claim.side.strategy);
    status.active_release_version = Some(claim.side.version.clone());
    let occupied = is_occupied(facts, claim.side.strategy.other());
    if let Some(rollout) = &mut status.rollout {
        rollout.step = if occupied { Step::RollingBack } else { Step::Stable };
    }
}

/// The fronts differ: switch both to the side that is kept. The other side stays the way back, if it is one.
fn recover_disagreement(
    status: &mut MetadataServicesStatus,
    facts: &Facts,
    keep: &Claim,
    other: Option<&Claim>,
    now: Timestamp,
) {
    ensure_record(status, facts, keep, now);
    if let Some(record) = history::find(&mut status.release_history, &keep.side.version) {
        record.status = RecordStatus::Pending;
        record.strategy = keep.side.strategy;
    }
    if let Some(other) = other.filter(|other| other.side.strategy != keep.side.strategy) {
        ensure_record(status, facts, other, now);
        history::reactivate(&mut status.release_history, &other.side.version, other.side.strategy, now);
        status.active_strategy = Some(other.side.strategy);
        status.active_release_version = Some(other.side.version.clone());
    }
    history::sort_during_rollout(&mut status.release_history, &keep.side.version);
    if let Some(rollout) = &mut status.rollout {
        rollout.step = Step::Switching;
        rollout.target = Some(keep.side.clone());
        rollout.switched_at = Some(Time(now));
        // What a pod went through before is not held against the release.
        rollout.restarted_before = restarts(facts, keep.side.strategy);
    }
}

/// A serving release whose revision is gone, or cannot be read, is known from its Deployments.
fn ensure_record(status: &mut MetadataServicesStatus, facts: &Facts, claim: &Claim, now: Timestamp) {
    let color = facts.colors.get(claim.side.strategy);
    let hash = Component::ALL
        .into_iter()
        .find_map(|component| Some(color.get(component).deployment.state()?.tag.hash.clone()));
    if let Some(record) = history::find(&mut status.release_history, &claim.side.version) {
        if record.hash.is_empty() {
            record.hash = hash.unwrap_or_default();
        }
        return;
    }
    status.release_history.push(ReleaseRecord {
        version: claim.side.version.clone(),
        hash: hash.unwrap_or_default(),
        strategy: claim.side.strategy,
        storage_tag: String::new(),
        schema_tag: String::new(),
        storage_image: String::new(),
        schema_image: String::new(),
        timestamp: Time(now),
        status: RecordStatus::Superseded,
        trigger: Trigger::Spec,
        activated_at: Some(Time(now)),
        ready_at: None,
        finished_at: None,
        reason: None,
        message: None,
    });
}
