//! The state machine: one function per step (design D7, D9, D13).
//!
//! ```text
//! Stable -> Deploying -> Switching -> Grace -> Prune -> Stable | Deploying
//!               |            |          |        ^
//!               |            +----------+-> RollingBack
//!               +------------------------------->+       (failed, aborted, superseded)
//! Stable -> Prune (sweep of orphans)     Switching -> Stable (first release)
//! ```
//!
//! A step answers with the one thing to do now, a time to wait for, or nothing.

use super::acts::{mend_serving, missing_parts, point_fronts, record_failures, settle, tag};
use super::facts::{Deployment, ObjectId, Piece};
use super::shift::Shift;
use super::{Action, Answer, Ctx, Plan, Want, What, deploying, switched};
use crate::api::status::{RecordStatus, Side, Step, Trigger};
use crate::names::Colour;

/// Seconds between two looks at something that no watch announces.
pub(super) const LOOK_AGAIN: i64 = 2;

/// What the present step has to do. The mark of a failed release comes before anything else.
pub(super) fn step(ctx: &Ctx) -> Answer {
    if ctx.rollout.step != Step::Unknown
        && let answer @ Some(_) = record_failures(ctx)
    {
        return answer;
    }
    match ctx.rollout.step {
        Step::Stable => stable(ctx),
        Step::Deploying => deploying::step(ctx),
        Step::Switching => switched::switching(ctx),
        Step::Grace => switched::grace(ctx),
        Step::RollingBack => switched::rolling_back(ctx),
        Step::Prune => prune(ctx),
        Step::Unknown => None,
    }
}

// === Stable ===

fn stable(ctx: &Ctx) -> Answer {
    if let answer @ Some(_) = next_release(ctx) {
        return answer;
    }
    let active = ctx.active()?;
    point_fronts(ctx)
        .or_else(|| missing_parts(ctx, &active, true))
        .or_else(|| record_active(ctx, &active))
        .or_else(|| sweep(ctx, active.strategy))
        .or_else(|| settle(ctx))
        .or_else(|| revert_spec(ctx, &active))
}

/// Starts the release that the spec describes, if it is to be started. Its place is here that a fleet budget
/// would hold it back (step Queued).
fn next_release(ctx: &Ctx) -> Answer {
    let trigger = asked_by(ctx);
    let held = ctx.policy().paused && trigger != Trigger::Rollback;
    if ctx.want() != Want::Spec || held {
        return None;
    }
    let mut shift = Shift::of(ctx);
    shift.start(trigger);
    shift.commit()
}

/// Begins the restart anew whose colour had to be cleared first.
fn restart_anew(ctx: &Ctx) -> Answer {
    let active = ctx.active()?;
    let is_restart = ctx.rollout.target.as_ref().is_some_and(|target| target.version == active.version);
    let superseded = ctx.want() == Want::Spec;
    let possible = ctx.hash_of(&active.version).is_some_and(|hash| ctx.has_template(hash));
    if !is_restart || superseded || !possible {
        return None;
    }
    let mut shift = Shift::of(ctx);
    shift.restart(&active);
    shift.commit()
}

/// What made the spec what it is: a rollback that was noted, or the user. What is begun anew was asked for before.
fn asked_by(ctx: &Ctx) -> Trigger {
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
pub(super) fn record_active(ctx: &Ctx, active: &Side) -> Answer {
    let hash = ctx.hash_of(&active.version)?;
    let good = || ctx.facts.revisions.iter().filter(|revision| revision.failed.is_none());
    let newest = good().map(|revision| revision.number).max();
    let recorded = good().find(|revision| revision.version == active.version);
    if recorded.is_some_and(|revision| Some(revision.number) == newest) || !ctx.has_template(hash) {
        return None;
    }
    Plan::act(vec![vec![Action::Record { tagged: tag(ctx, active, ctx.rollout.epoch), failed: None }]])
}

/// Anything of ours that the settled state does not hold goes through Prune: nothing is deleted elsewhere.
fn sweep(ctx: &Ctx, active: Colour) -> Answer {
    let leftovers = !doomed(ctx, Some(active)).is_empty();
    leftovers.then(|| {
        let mut shift = Shift::of(ctx);
        shift.prune();
        shift.commit()
    })?
}

fn revert_spec(ctx: &Ctx, active: &Side) -> Answer {
    let hash = ctx.hash_of(&active.version)?;
    let refused = ctx.facts.restore_refused.is_some() || ctx.facts.held.requests;
    if !ctx.policy().revert_spec || refused || !ctx.blocked() || !ctx.has_template(hash) {
        return None;
    }
    let amend = super::Amend { restore: Some(active.version.clone()), remove: vec![] };
    Some(Plan { next: super::Move::Amend(amend), notices: vec![], again: None })
}

// === Prune ===

fn prune(ctx: &Ctx) -> Answer {
    if let answer @ Some(_) = point_fronts(ctx).or_else(|| mend_serving(ctx)) {
        return answer;
    }
    let active = ctx.status.active_strategy;
    let doomed = doomed(ctx, active);
    if !doomed.is_empty() {
        return Plan::act(doomed);
    }
    if !Colour::ALL.into_iter().filter(|colour| Some(*colour) != active).all(|colour| gone(ctx, colour)) {
        return settle(ctx).or_else(|| Some(Plan::wait(LOOK_AGAIN)));
    }
    if let answer @ Some(_) = next_release(ctx) {
        return answer;
    }
    let Some(active) = active else {
        // Nothing serves and nothing may start: wait for a spec that can be deployed.
        return None;
    };
    if let answer @ Some(_) = restart_anew(ctx) {
        return answer;
    }
    let mut shift = Shift::of(ctx);
    shift.rest();
    shift.tell(What::CleanupDone, format!("only {active} is left"));
    shift.commit()
}

/// What is to be deleted: everything on the colours that do not serve, and records that left the history.
fn doomed(ctx: &Ctx, active: Option<Colour>) -> Vec<Vec<Action>> {
    let mut groups = [vec![], vec![], vec![]];
    let [deployments, services, rest] = &mut groups;
    for colour in Colour::ALL.into_iter().filter(|colour| Some(*colour) != active) {
        for (component, workload) in ctx.facts.colours.get(colour).iter() {
            if matches!(workload.deployment, Deployment::Present(_)) {
                deployments.push(Action::Delete(ObjectId::Deployment(component, colour)));
            }
            if matches!(workload.service, Piece::Present(_)) {
                services.push(Action::Delete(ObjectId::Service(component, colour)));
            }
            if matches!(workload.config_map, Piece::Present(_)) {
                rest.push(Action::Delete(ObjectId::ConfigMap(component, colour)));
            }
        }
    }
    let forgotten =
        ctx.facts.revisions.iter().filter(|revision| ctx.status.record(&revision.version).is_none());
    rest.extend(forgotten.map(|revision| Action::Delete(ObjectId::Revision(revision.version.clone()))));
    // What a spec that cannot be judged does not ask for may be what an older CRD hides.
    let surplus = ctx.facts.surplus.iter().filter(|_| ctx.want() != Want::Nothing);
    rest.extend(surplus.map(|extra| Action::Delete(ObjectId::Extra(*extra))));
    groups.into_iter().filter(|group| !group.is_empty()).collect()
}

/// Design D7: no Deployment, ReplicaSet, Service, ConfigMap of the colour, and no pod that is not terminating
/// carries its selector.
fn gone(ctx: &Ctx, colour: Colour) -> bool {
    ctx.facts.colours.get(colour).all(|workload| {
        workload.deployment == Deployment::Absent
            && workload.service == Piece::Absent
            && workload.config_map == Piece::Absent
            && !workload.replica_sets
            && workload.pods.alive == 0
    })
}
