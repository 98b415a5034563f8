//! The first look at a resource, and the rebuilding of a lost status (design D6).
//!
//! History comes from the ControllerRevisions, the serving release from the front Services' annotations, never from
//! a selector. Rebuilding never resumes a rollout and touches no serving workload.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Deployment, Facts, FrontState, ObjectId, Revision, Workload, is_epoch};
use super::health::component_complete;
use super::intent::Intent;
use super::shift::{Shift, restarts};
use super::{Action, Ctx, Move, Notice, Plan, Want, What, history, project};
use crate::api::status::{
    Clocks, MetadataServicesStatus, RecordStatus, ReleaseRecord, Rollout, Side, Step, Trigger,
};
use crate::names::{Colour, Component};

/// A side that a front Service claims to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    side: Side,
    epoch: i64,
}

/// What to do with a resource whose status has no machine in it.
pub(super) fn plan(intent: &Intent, before: &MetadataServicesStatus, facts: &Facts, now: Timestamp) -> Plan {
    let claims = claims(facts);
    let bare = is_bare(facts) && claims.is_empty();
    let epoch = highest_epoch(before, facts) + i64::from(!bare);
    let mut status = blank(facts, epoch, now);
    match serving(facts, &status, &claims) {
        Serving::Nothing => {}
        Serving::One(claim) => {
            if let Some(stamps) = stamp_first(facts, &claims, &claim.side) {
                return stamps;
            }
            serve_one(&mut status, facts, &claim, now);
        }
        Serving::Torn { keep, other } => mend_torn(&mut status, facts, &keep, other.as_ref(), now),
    }
    history::tell_apart(&mut status.release_history);
    // A failed attempt that the spec still asks for comes after what serves, as before the loss (design D12), unless another
    // is on its way.
    let moving = status.rollout.as_ref().is_some_and(|rollout| rollout.target.is_some());
    let failed = status.record_of_hash(&intent.wanted.hash);
    let failed = failed.filter(|record| record.status == RecordStatus::Failed && !moving);
    if let Some(failed) = failed.map(|record| record.version.clone()) {
        history::line_up(&mut status.release_history, &failed);
    }
    let rollout = status.rollout.clone();
    let Some(rollout) = rollout else { return Plan { next: Move::Wait, notices: vec![], again: None } };
    let ctx = Ctx { intent, status: &status, rollout: &rollout, facts, now, stamp: now };
    if bare {
        return first(&ctx, before);
    }
    let mut plan =
        Shift::of(&ctx).commit().unwrap_or(Plan { next: Move::Wait, notices: vec![], again: None });
    let text = "the status was lost and has been rebuilt from the objects; no workload was touched";
    plan.notices.push(Notice::new(What::StatusRebuilt, text));
    plan
}

/// Nothing is there yet: start the first release, unless something forbids it.
fn first(ctx: &Ctx, before: &MetadataServicesStatus) -> Plan {
    if ctx.want() == Want::Spec && !ctx.policy().paused {
        let mut shift = Shift::of(ctx);
        shift.start(Trigger::Spec);
        return shift.commit().unwrap_or(Plan { next: Move::Wait, notices: vec![], again: None });
    }
    let status = project::pending(ctx.intent, ctx.facts, before, ctx.now);
    if status == *before {
        return Plan { next: Move::Wait, notices: vec![], again: None };
    }
    let notices = project::news(&before.conditions, &status.conditions);
    Plan { next: Move::Commit(Box::new(status)), notices, again: None }
}

/// Whether no colour object and no revision is there.
fn is_bare(facts: &Facts) -> bool {
    facts.revisions.is_empty() && Colour::ALL.into_iter().all(|colour| !is_occupied(facts, colour))
}

fn is_occupied(facts: &Facts, colour: Colour) -> bool {
    use super::facts::Piece;
    facts.colours.get(colour).any(|workload| {
        workload.deployment != Deployment::Absent
            || workload.service != Piece::Absent
            || workload.config_map != Piece::Absent
    })
}

/// A status with the history that the revisions tell, and an epoch above all that was seen.
fn blank(facts: &Facts, epoch: i64, now: Timestamp) -> MetadataServicesStatus {
    // Numbers order the history. A release that was gone back to has a higher one than those created after it.
    let mut last = i64::MIN;
    let in_order = facts.revisions.iter().map(|revision| {
        last = revision.created.max(last.saturating_add(1));
        recorded(revision, last, now)
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
            clocks: Clocks::default(),
            switched_at: None,
            restarted_before: vec![],
            request: None,
        }),
        ..MetadataServicesStatus::default()
    }
}

/// A record of a revision that last served since `activated` (seconds since 1970) at the earliest.
fn recorded(revision: &Revision, activated: i64, now: Timestamp) -> ReleaseRecord {
    let created = Timestamp::from_second(revision.created).unwrap_or(now);
    // A revision that is not Failed was good enough to be switched to.
    let activated = Timestamp::from_second(activated).unwrap_or(created);
    ReleaseRecord {
        version: revision.version.clone(),
        hash: revision.hash.clone(),
        strategy: Colour::Blue,
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
    let objects = Colour::ALL
        .into_iter()
        .flat_map(|colour| facts.colours.get(colour).iter().flat_map(|(_, workload)| workload.tags()));
    let objects = objects.flatten().map(|tag| tag.epoch);
    fronts.chain(objects).chain(decided).max().unwrap_or(0).max(0)
}

fn claims(facts: &Facts) -> Vec<Claim> {
    let claim = |state: &FrontState| {
        let version = state.version.clone()?;
        // The colour of the claimed release is where its Deployments are; the selector is only a hint.
        let strategy = home(facts, &version, state.selects)?;
        Some(Claim { side: Side { strategy, version }, epoch: state.epoch })
    };
    facts.front.iter().filter_map(|(_, front)| claim(front.state()?)).collect()
}

/// The colour on which a release's Deployments are; if both (a restart), the one that is selected.
fn home(facts: &Facts, version: &str, selects: Option<Colour>) -> Option<Colour> {
    let homes: Vec<Colour> =
        Colour::ALL.into_iter().filter(|colour| holds(facts, *colour, version)).collect();
    match homes.as_slice() {
        [] => selects,
        [one] => Some(*one),
        _ => selects.or_else(|| homes.first().copied()),
    }
}

/// Whether a Deployment of a release is on a colour.
pub(super) fn holds(facts: &Facts, colour: Colour, version: &str) -> bool {
    facts.colours.get(colour).any(|workload| {
        workload.deployment.state().is_some_and(|deployment| deployment.tag.version == version)
    })
}

enum Serving {
    Nothing,
    One(Claim),
    Torn { keep: Claim, other: Option<Claim> },
}

/// Which release serves. If the fronts differ: the one with the higher epoch, unless it failed. A side that failed or is
/// not Full gives way to the other if that is Full and did not fail, whether one front names it or both: a status may
/// get lost just before the way back was begun. Of two fronts that differ, a side that failed always gives way to one
/// that did not: it was marked before the way back was begun, and there is no way back to it.
fn serving(facts: &Facts, status: &MetadataServicesStatus, claims: &[Claim]) -> Serving {
    let sound = |claim: &Claim| is_sound(facts, status, &claim.side);
    let failed = |claim: &Claim| has_failed(status, &claim.side);
    match claims {
        [] => Serving::Nothing,
        [one] => Serving::Torn { keep: one.clone(), other: None },
        [one, two, ..] if one.side == two.side => {
            let warm = warm_side(facts, one).filter(|warm| !sound(one) && sound(warm));
            Serving::One(warm.unwrap_or_else(|| one.clone()))
        }
        [one, two, ..] => {
            let (newer, older) = if one.epoch >= two.epoch { (one, two) } else { (two, one) };
            match (failed(newer), failed(older)) {
                (false, true) => return Serving::One(newer.clone()),
                (true, false) => return Serving::One(older.clone()),
                _ => {}
            }
            if !sound(newer) && sound(older) {
                return Serving::One(older.clone());
            }
            Serving::Torn { keep: newer.clone(), other: Some(older.clone()) }
        }
    }
}

fn has_failed(status: &MetadataServicesStatus, side: &Side) -> bool {
    status.record(&side.version).is_some_and(|record| record.status == RecordStatus::Failed)
}

/// Whether a side can serve. Stamps are written before it is gone back to, and need not have been observed yet.
fn is_sound(facts: &Facts, status: &MetadataServicesStatus, side: &Side) -> bool {
    let complete = |workload: &Workload| component_complete(workload, &side.version);
    status.record(&side.version).is_some()
        && !has_failed(status, side)
        && facts.colours.get(side.strategy).all(complete)
}

/// The one release that the colour holds that no front names.
fn warm_side(facts: &Facts, claim: &Claim) -> Option<Claim> {
    let strategy = claim.side.strategy.other();
    let colour = facts.colours.get(strategy);
    let version = colour.storage.deployment.state()?.tag.version.clone();
    let same = colour.schema.deployment.state()?.tag.version == version;
    same.then_some(Claim { side: Side { strategy, version }, epoch: claim.epoch })
}

/// A side that no front Service names may have been on its way out when the status was lost, and what was decided then may
/// still land. So its objects are written to before it is gone back to: deletes of before meet another resourceVersion.
/// A number above those of the fronts says that it is done: they get a later one before anything is deleted.
fn stamp_first(facts: &Facts, claims: &[Claim], side: &Side) -> Option<Plan> {
    if claims.iter().any(|claim| claim.side == *side) {
        return None;
    }
    let last = claims.iter().map(|claim| claim.epoch).max()?;
    let mut groups = vec![vec![], vec![], vec![]];
    for (component, workload) in facts.colours.get(side.strategy).iter() {
        let ids = [
            ObjectId::Deployment(component, side.strategy),
            ObjectId::Service(component, side.strategy),
            ObjectId::ConfigMap(component, side.strategy),
        ];
        for ((id, tag), group) in ids.into_iter().zip(workload.tags()).zip(&mut groups) {
            if tag.is_some_and(|tag| tag.epoch <= last) {
                group.push(Action::Stamp(id, last + 1));
            }
        }
    }
    Plan::act(groups)
}

/// One side serves, or is gone back to. What the other colour holds is pruned, but as after any rollback: once both
/// fronts carry the new epoch, EndpointSlices prove where traffic goes and the delay is over. That they point there
/// already proves nothing: a patch that another operator decided before the loss may still be on its way, and only the
/// stamp of the new epoch keeps it out.
fn serve_one(status: &mut MetadataServicesStatus, facts: &Facts, claim: &Claim, now: Timestamp) {
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
fn mend_torn(
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
        history::reinstate(&mut status.release_history, &other.side.version, other.side.strategy, now);
        status.active_strategy = Some(other.side.strategy);
        status.active_release_version = Some(other.side.version.clone());
    }
    history::line_up(&mut status.release_history, &keep.side.version);
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
    let colour = facts.colours.get(claim.side.strategy);
    let hash = Component::ALL
        .into_iter()
        .find_map(|component| Some(colour.get(component).deployment.state()?.tag.hash.clone()));
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
