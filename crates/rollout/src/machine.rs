//! The state machine: one function per step (design D7, D9, D13).
//!
//! ```text
//! Stable -> Deploying -> Switching -> Watching -> Prune -> Stable | Deploying
//!               |            |          |        ^
//!               |            +----------+-> RollingBack
//!               +------------------------------->+       (failed, aborted, superseded)
//! Stable -> Prune (sweep of orphans)     Switching -> Stable (first release)
//! ```
//!
//! A step answers with the one thing to do now, a time to wait for, or nothing.

use super::acts::{missing_objects, record_failures, restore_active, route_fronts, settle, tag};
use super::facts::{Deployment, ObjectId, ObjectState};
use super::shift::Transition;
use super::{Action, Context, Desired, EventReason, Plan, deploying, switched};
use api::names::Color;
use api::status::{RecordStatus, Side, Step, Trigger};

/// Seconds between two looks at something that no watch announces.
pub(super) const POLL_SECONDS: i64 = 2;

/// What the present step has to do. The mark of a failed release comes before anything else.
pub(super) fn step(ctx: &Context) -> Option<Plan> {
    if ctx.rollout.step != Step::Unknown
        && let answer @ Some(_) = record_failures(ctx)
    {
        return answer;
    }
    match ctx.rollout.step {
        Step::Stable => stable(ctx),
        Step::Deploying => deploying::step(ctx),
        Step::Switching => switched::switching(ctx),
        Step::Watching => switched::grace(ctx),
        Step::RollingBack => switched::rolling_back(ctx),
        Step::Prune => prune(ctx),
        Step::Unknown => None,
    }
}

// === Stable ===

fn stable(ctx: &Context) -> Option<Plan> {
    if let answer @ Some(_) = next_release(ctx) {
        return answer;
    }
    let active = ctx.active()?;
    route_fronts(ctx)
        .or_else(|| missing_objects(ctx, &active, true))
        .or_else(|| record_active(ctx, &active))
        .or_else(|| prune_orphans(ctx, active.strategy))
        .or_else(|| settle(ctx))
        .or_else(|| revert_spec(ctx, &active))
}

/// Starts the release that the spec describes, if it is to be started. Its place is here that a fleet budget
/// would hold it back (step Queued).
fn next_release(ctx: &Context) -> Option<Plan> {
    let trigger = trigger(ctx);
    let held = ctx.policy().paused && trigger != Trigger::Rollback;
    if ctx.desired() != Desired::Spec || held {
        return None;
    }
    let mut transition = Transition::of(ctx);
    transition.start(trigger);
    transition.commit()
}

/// Begins the restart anew whose color had to be cleared first.
fn resume_restart(ctx: &Context) -> Option<Plan> {
    let active = ctx.active()?;
    let is_restart = ctx.rollout.target.as_ref().is_some_and(|target| target.version == active.version);
    let superseded = ctx.desired() == Desired::Spec;
    let possible = ctx.hash_of(&active.version).is_some_and(|hash| ctx.has_template(hash));
    if !is_restart || superseded || !possible {
        return None;
    }
    let mut transition = Transition::of(ctx);
    transition.restart(&active);
    transition.commit()
}

/// What made the spec what it is: a rollback that was noted, or the user. What is begun anew was asked for before.
fn trigger(ctx: &Context) -> Trigger {
    let record = ctx.status.record_of_hash(&ctx.intent.wanted.hash);
    match (&ctx.rollout.request, record) {
        (Some(request), Some(record))
            if request.kind == Trigger::Rollback
                && request.refused.is_none()
                && request.value == record.version =>
        {
            Trigger::Rollback
        }
        (_, Some(record)) if record.status == RecordStatus::Pending => record.trigger,
        _ => Trigger::Spec,
    }
}

/// The serving release stays recorded, as the last one that served, whatever becomes of the status: traffic may have
/// gone back to it from one that came later.
pub(super) fn record_active(ctx: &Context, active: &Side) -> Option<Plan> {
    let hash = ctx.hash_of(&active.version)?;
    let good = || ctx.facts.revisions.iter().filter(|revision| revision.failed.is_none());
    let newest = good().map(|revision| revision.number).max();
    let recorded = good().find(|revision| revision.version == active.version);
    if recorded.is_some_and(|revision| Some(revision.number) == newest) || !ctx.has_template(hash) {
        return None;
    }
    Plan::act(vec![vec![Action::RecordRevision {
        tagged: tag(ctx, active, ctx.rollout.epoch),
        failed: None,
    }]])
}

/// Anything of ours that the settled state does not hold goes through Prune: nothing is deleted elsewhere.
fn prune_orphans(ctx: &Context, active: Color) -> Option<Plan> {
    let leftovers = !to_delete(ctx, Some(active)).is_empty();
    leftovers.then(|| {
        let mut transition = Transition::of(ctx);
        transition.prune();
        transition.commit()
    })?
}

fn revert_spec(ctx: &Context, active: &Side) -> Option<Plan> {
    let hash = ctx.hash_of(&active.version)?;
    let refused = ctx.facts.restore_refused.is_some() || ctx.facts.deferred.requests;
    if !ctx.policy().revert_spec || refused || !ctx.blocked() || !ctx.has_template(hash) {
        return None;
    }
    let amend = super::ResourcePatch { restore: Some(active.version.clone()), remove: vec![] };
    Some(Plan { effect: super::Effect::PatchResource(amend), notes: vec![], requeue_after: None })
}

// === Prune ===

fn prune(ctx: &Context) -> Option<Plan> {
    if let answer @ Some(_) = route_fronts(ctx).or_else(|| restore_active(ctx)) {
        return answer;
    }
    let active = ctx.status.active_strategy;
    let to_delete = to_delete(ctx, active);
    if !to_delete.is_empty() {
        return Plan::act(to_delete);
    }
    if !Color::ALL.into_iter().filter(|color| Some(*color) != active).all(|color| is_gone(ctx, color)) {
        return settle(ctx).or_else(|| Some(Plan::wait(POLL_SECONDS)));
    }
    if let answer @ Some(_) = next_release(ctx) {
        return answer;
    }
    let Some(active) = active else {
        // Nothing serves and nothing may start: wait for a spec that can be deployed.
        return None;
    };
    if let answer @ Some(_) = resume_restart(ctx) {
        return answer;
    }
    let mut transition = Transition::of(ctx);
    transition.rest();
    transition.tell(EventReason::CleanupDone, format!("only {active} is left"));
    transition.commit()
}

/// What is to be deleted: everything on the colors that do not serve, and records that left the history.
fn to_delete(ctx: &Context, active: Option<Color>) -> Vec<Vec<Action>> {
    let mut groups = [vec![], vec![], vec![]];
    let [deployments, services, rest] = &mut groups;
    for color in Color::ALL.into_iter().filter(|color| Some(*color) != active) {
        for (component, workload) in ctx.facts.colors.get(color).iter() {
            if matches!(workload.deployment, Deployment::Present(_)) {
                deployments.push(Action::Delete(ObjectId::Deployment(component, color)));
            }
            if matches!(workload.service, ObjectState::Present(_)) {
                services.push(Action::Delete(ObjectId::Service(component, color)));
            }
            if matches!(workload.config_map, ObjectState::Present(_)) {
                rest.push(Action::Delete(ObjectId::ConfigMap(component, color)));
            }
        }
    }
    let forgotten =
        ctx.facts.revisions.iter().filter(|revision| ctx.status.record(&revision.version).is_none());
    rest.extend(forgotten.map(|revision| Action::Delete(ObjectId::Revision(revision.version.clone()))));
    // What a spec that cannot be judged does not ask for may be what an older CRD hides.
    let surplus = ctx.facts.surplus.iter().filter(|_| ctx.desired() != Desired::Unknown);
    rest.extend(surplus.map(|extra| Action::Delete(ObjectId::Extra(*extra))));
    groups.into_iter().filter(|group| !group.is_empty()).collect()
}

/// Design D7: no Deployment, ReplicaSet, Service, ConfigMap of the color, and no pod that is not terminating
/// carries its selector.
fn is_gone(ctx: &Context, color: Color) -> bool {
    ctx.facts.colors.get(color).all(|workload| {
        workload.deployment == Deployment::Absent
            && workload.service == ObjectState::Absent
            && workload.config_map == ObjectState::Absent
            && !workload.replica_sets
            && workload.pods.alive == 0
    })
}
