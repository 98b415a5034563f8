//! The first reconcile of a resource, and the recovery of a lost status (design D6, ADR 8, 11, 15).
//!
//! The history comes from the ControllerRevisions, the active release from the annotations of the front Services, never
//! from a selector. Recovery resumes no rollout and touches no workload that receives traffic.

pub(crate) mod validity;

use api::names::{Color, Component, PerComponent};
use api::status::{
    MetadataServicesStatus, RecordStatus, ReleaseRecord, Rollout, Side, Step, Timers, Trigger,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::context::{Context, Desired, round_up_to_second};
use crate::facts::{Deployment, Facts, FrontState, ObjectId, ObjectState, Revision, Workload};
use crate::health::component_complete;
use crate::intent::Intent;
use crate::plan::{Action, Effect, EventNote, EventReason, Plan};
use crate::transition::{Transition, restarts};
use crate::{adoption, conditions, history};

/// The release and color that a front Service names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    side: Side,
    epoch: i64,
}

/// The plan for a resource whose status has no usable state machine.
pub(crate) fn plan(intent: &Intent, before: &MetadataServicesStatus, facts: &Facts, now: Timestamp) -> Plan {
    if let Some(plan) = adoption::plan(intent, before, facts, now) {
        return plan;
    }
    let claims = claims(facts);
    let empty = is_empty(facts) && claims.is_empty();
    let epoch = facts.highest_epoch(before.rollout.as_ref().map(|rollout| rollout.epoch)) + i64::from(!empty);
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
            recover_disagreement(&mut status, facts, &keep, other.as_ref(), now);
        }
    }
    adoption::keep_history(&mut status.release_history, before);
    history::drop_duplicates(&mut status.release_history);
    // A failed attempt that the spec still asks for comes last, as before the loss (design D12), unless a release is
    // pending.
    let moving = status.rollout.as_ref().is_some_and(|rollout| rollout.target.is_some());
    let failed = status.record_of_hash(&intent.wanted.hash);
    let failed = failed.filter(|record| record.status == RecordStatus::Failed && !moving);
    if let Some(failed) = failed.map(|record| record.version.clone()) {
        history::sort_during_rollout(&mut status.release_history, &failed);
    }
    let rollout = status.rollout.clone();
    let Some(rollout) = rollout else {
        return Plan::idle();
    };
    let ctx = Context { intent, status: &status, rollout: &rollout, facts, now, now_for_record: now };
    if empty {
        return first(&ctx, before);
    }
    let mut plan = Transition::new(&ctx).commit().unwrap_or(Plan {
        effect: Effect::Wait,
        notes: vec![],
        requeue_after: None,
    });
    plan.notes.push(adoption::event(before, &status, facts).unwrap_or_else(|| {
        let text = "the status was lost and is rebuilt from the objects; no workload was touched";
        EventNote::new(EventReason::StatusRebuilt, text)
    }));
    plan
}

/// The status update that reports why the objects of an earlier operator cannot be adopted; `None` if it is reported.
pub(crate) fn explain(
    intent: &Intent,
    before: &MetadataServicesStatus,
    facts: &Facts,
    now: Timestamp,
) -> Option<Plan> {
    let (reason, text) = if facts.taken.is_empty() {
        ("WriteRefused", format!("the API server rejects a write: {}", facts.refused.as_ref()?))
    } else {
        ("NameTaken", conditions::name_taken(&facts.taken))
    };
    let plan = adoption::refuse(intent, before, reason, &text, round_up_to_second(now));
    (plan.effect != Effect::Wait).then_some(plan)
}

/// Starts the first release, or reports why it may not start.
fn first(ctx: &Context, before: &MetadataServicesStatus) -> Plan {
    if ctx.desired() == Desired::Spec && !ctx.policy().paused {
        let mut transition = Transition::new(ctx);
        transition.start(Trigger::Spec);
        return transition.commit().unwrap_or(Plan {
            effect: Effect::Wait,
            notes: vec![],
            requeue_after: None,
        });
    }
    let status = conditions::pending(ctx.intent, ctx.facts, before, ctx.now);
    conditions::report(before, status, Plan::idle())
}

/// Returns whether the resource has no object of a color and no revision.
fn is_empty(facts: &Facts) -> bool {
    facts.revisions.is_empty() && Color::ALL.into_iter().all(|color| !is_occupied(facts, color))
}

fn is_occupied(facts: &Facts, color: Color) -> bool {
    facts.colors.get(color).any(|workload| {
        workload.deployment != Deployment::Absent
            || workload.service != ObjectState::Absent
            || workload.config_map != ObjectState::Absent
    })
}

/// A status with the history of the revisions, in step Prune.
fn status_of_revisions(facts: &Facts, epoch: i64, now: Timestamp) -> MetadataServicesStatus {
    // Revision numbers order the history. A release that was activated again has a higher number than younger ones.
    let mut last = i64::MIN;
    let in_order = facts.revisions.iter().map(|revision| {
        last = revision.created.max(last.saturating_add(1));
        record_of_revision(revision, last, now)
    });
    MetadataServicesStatus {
        // Untrimmed, since the active release is not known yet.
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

/// The record of a revision that was last activated at `activated` (seconds since 1970) or later.
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

fn claims(facts: &Facts) -> Vec<Claim> {
    let claim = |state: &FrontState| {
        let version = state.version.clone()?;
        // The Deployments show the color of the release. The selector is only a hint.
        let strategy = color_of(facts, &version, state.selects)?;
        Some(Claim { side: Side { strategy, version }, epoch: state.epoch })
    };
    facts.front.iter().filter_map(|(_, front)| claim(front.state()?)).collect()
}

/// The color of a release's Deployments. If both colors hold it (a restart), the selected one.
fn color_of(facts: &Facts, version: &str, selects: Option<Color>) -> Option<Color> {
    let candidates: Vec<Color> =
        Color::ALL.into_iter().filter(|color| facts.holds(*color, version)).collect();
    match candidates.as_slice() {
        [] => selects,
        [one] => Some(*one),
        _ => selects.or_else(|| candidates.first().copied()),
    }
}

enum Serving {
    Nothing,
    One(Claim),
    Disagree { keep: Claim, other: Option<Claim> },
}

/// Chooses the active release.
///
/// - Both Services agree: that release, unless it failed or is not Full while the other color is Full and did not fail.
///   The status may have been lost just before a rollback.
/// - They disagree: prefer (1) the release that did not fail, (2) a release that can serve, (3) the higher epoch. A release is
///   marked as failed before its rollback starts, so traffic never returns to it.
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

/// Returns whether a side can serve. Its Deployments may be unobserved, since recovery has just raised their epochs.
fn can_serve(facts: &Facts, status: &MetadataServicesStatus, side: &Side) -> bool {
    let complete = |workload: &Workload| component_complete(workload, &side.version);
    let color = facts.colors.get(side.strategy);
    // An adopted release has no revision yet, but it has traffic.
    let is_known = status.record(&side.version).is_some() || adoption::images(color).is_some();
    is_known && !has_failed(status, side) && color.all(complete)
}

/// The release on the color that no front Service names.
fn unreferenced_side(facts: &Facts, claim: &Claim) -> Option<Claim> {
    let strategy = claim.side.strategy.other();
    let color = facts.colors.get(strategy);
    let version = color.storage.deployment.state()?.tag.version.clone();
    let same = color.schema.deployment.state()?.tag.version == version;
    same.then_some(Claim { side: Side { strategy, version }, epoch: claim.epoch })
}

/// Raises the epoch annotation on the objects of a color that no front Service names, before traffic returns to it.
///
/// That color may have been in Prune when the status was lost. A delete request decided before the loss then fails its
/// resourceVersion precondition. An epoch above those of the front Services shows that this is done: the Services get a
/// later one before anything is deleted (ADR 15).
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
    Plan::write(groups)
}

/// Makes one side active. The other color is pruned as after any rollback: once both front Services carry the new epoch,
/// the EndpointSlices prove it, and the delay is over.
///
/// Selectors that are right already prove nothing. Another operator may have decided a patch before the loss, and only
/// the new epoch on the Services makes that patch fail.
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

/// Switches both front Services to the kept side when they disagree. The other side stays as the way back.
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
        // Restarts before this switch do not count against the release.
        rollout.restarted_before = restarts(facts, keep.side.strategy);
    }
}

/// Adds the record of an active release from its Deployments if its revision is gone or unreadable.
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
    let adopted = adoption::images(color);
    let trigger = if adopted.is_some() { Trigger::Adoption } else { Trigger::Spec };
    let PerComponent { storage, schema } = adopted.unwrap_or_default();
    status.release_history.push(ReleaseRecord {
        version: claim.side.version.clone(),
        hash: hash.unwrap_or_default(),
        strategy: claim.side.strategy,
        storage_tag: storage.tag,
        schema_tag: schema.tag,
        storage_image: storage.reference,
        schema_image: schema.reference,
        timestamp: Time(now),
        status: RecordStatus::Superseded,
        trigger,
        activated_at: Some(Time(now)),
        ready_at: None,
        finished_at: None,
        reason: None,
        message: None,
    });
}
