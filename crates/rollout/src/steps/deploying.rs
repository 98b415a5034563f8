//! Step Deploying: the pending color is created, becomes ready, and stays ready for the grace period (design D7, D9,
//! D13).

use api::names::Component;
use api::status::{Side, Timers, elapsed};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::actions::{
    apply_settings, create_fronts, missing_objects, restore_active, restore_routes, service_account,
};
use crate::assessment::failure;
use crate::context::{Context, Desired};
use crate::facts::{Front, ReleaseRef};
use crate::health::{self, Verdict};
use crate::plan::{Action, Effect, EventReason, Plan};
use crate::transition::{Outcome, Transition};

/// Creates the pending color, waits for it, and decides the switch, the failure or the cancellation.
pub(super) fn plan(ctx: &Context) -> Option<Plan> {
    let target = ctx.rollout.target.clone()?;
    if let Some(outcome) = cancellation(ctx, &target) {
        let mut transition = Transition::new(ctx);
        transition.end_before_switch(&target, &outcome);
        return transition.commit();
    }
    if holds_other_objects(ctx, &target) {
        let mut transition = Transition::new(ctx);
        transition.prune_pending_color(&target);
        return transition.commit();
    }
    if ctx.facts.front.any(|front| *front == Front::Absent) {
        return create_fronts(ctx);
    }
    let next = restore_routes(ctx)
        .or_else(|| restore_active(ctx))
        .or_else(|| service_account(ctx, &target))
        .or_else(|| missing_objects(ctx, &target, false))
        .or_else(|| apply_settings(ctx))
        .or_else(|| become_ready(ctx, &target));
    // A release also fails while it waits to be created, for example because the objects of an earlier one do not go.
    let waits = next.as_ref().is_none_or(|plan| plan.effect == Effect::Wait);
    if waits && ctx.rollout.timers.ready_since.is_none() {
        fail_for(ctx, failure(ctx, &target).0).or(next)
    } else {
        next
    }
}

/// Fails the pending release for this reason if another release is active and automatic rollback is enabled.
pub(crate) fn fail_for(ctx: &Context, why: Option<Verdict>) -> Option<Plan> {
    let target = ctx.rollout.target.as_ref()?;
    let why = why.filter(|_| ctx.active().is_some() && ctx.policy().auto_rollback)?;
    let mut transition = Transition::new(ctx);
    transition.end_before_switch(target, &Outcome::Failed(why));
    transition.commit()
}

/// Why the pending release is not desired any more (design D13); `None` while it is.
fn cancellation(ctx: &Context, target: &Side) -> Option<Outcome> {
    let hash = ctx.hash_of(&target.version);
    let restart = ctx.status.active_release_version.as_ref() == Some(&target.version);
    match ctx.desired() {
        Desired::Active if !restart && ctx.blocked() => {
            let why = Verdict::plain("Superseded", "the spec went back to a release that failed".into());
            Some(Outcome::Cancelled(EventReason::Superseded, why))
        }
        Desired::Active if !restart => {
            let why = Verdict::plain("Aborted", "the spec went back to the active release".into());
            Some(Outcome::Cancelled(EventReason::Aborted, why))
        }
        Desired::Spec if hash != Some(&ctx.intent.wanted.hash) => {
            let why =
                Verdict::plain("Superseded", "the spec asked for a newer release before the switch".into());
            Some(Outcome::Cancelled(EventReason::Superseded, why))
        }
        Desired::Unknown if hash.is_some_and(|hash| !ctx.has_template(hash)) => {
            let why = Verdict::plain("Superseded", "the spec does not describe this release any more".into());
            Some(Outcome::Cancelled(EventReason::Superseded, why))
        }
        Desired::Active | Desired::Spec | Desired::Unknown => None,
    }
}

/// Returns whether the pending color holds an object that was not created for this decision.
///
/// Such a color is pruned, and the release starts again under a new epoch.
fn holds_other_objects(ctx: &Context, target: &Side) -> bool {
    let ours = |tag: &ReleaseRef| tag.version == target.version && tag.epoch == ctx.rollout.epoch;
    let color = ctx.facts.colors.get(target.strategy);
    color.any(|workload| workload.tags().into_iter().flatten().any(|tag| !ours(tag)))
}

fn become_ready(ctx: &Context, target: &Side) -> Option<Plan> {
    let color = ctx.facts.colors.get(target.strategy);
    if !health::full(color, &target.version) {
        return watch_readiness(ctx, target);
    }
    let grace = if ctx.active().is_some() { ctx.policy().grace } else { 0 };
    let Some(since) = &ctx.rollout.timers.ready_since else {
        return if grace == 0 { switch(ctx, target) } else { start_grace_period(ctx, target) };
    };
    if lost_readiness(ctx, target, since) {
        return start_grace_period(ctx, target);
    }
    let left = grace - elapsed(since, ctx.now);
    if left > 0 { Some(Plan::wait(left)) } else { switch(ctx, target) }
}

fn start_grace_period(ctx: &Context, target: &Side) -> Option<Plan> {
    let mut transition = Transition::new(ctx);
    let mut unready_since = ctx.rollout.timers.unready_since.clone();
    if ctx.rollout.timers.ready_since.is_some() {
        unready_since.get_or_insert(Time(ctx.now_for_record));
    }
    *transition.timers() =
        Timers { ready_since: Some(Time(ctx.now_for_record)), unready_since, ..Default::default() };
    transition.mark_ready(&target.version);
    transition.set_cause(&target.version, None);
    if ctx.rollout.timers.ready_since.is_none() {
        let (version, grace) = (&target.version, ctx.policy().grace);
        let text = format!("all Pods of {version} are ready; the grace period of {grace} s starts");
        transition.event(EventReason::ReleaseReady, text);
    }
    transition.commit()
}

/// Returns whether a Pod changed its readiness since the grace period began, between two reads.
///
/// The clock of the Pod's node may be ahead. A time in the future counts once that time has come.
fn lost_readiness(ctx: &Context, target: &Side, since: &Time) -> bool {
    let (since, now) = (since.0.as_second(), ctx.now.as_second());
    ctx.facts
        .colors
        .get(target.strategy)
        .any(|workload| workload.pods.last_transition.is_some_and(|at| at > since && at <= now))
}

/// Records the release as good in its ControllerRevision. The next reconcile then decides the switch.
fn switch(ctx: &Context, target: &Side) -> Option<Plan> {
    let is_newest = |number| ctx.facts.revisions.iter().all(|revision| revision.number <= number);
    let recorded = ctx.facts.revisions.iter().any(|revision| {
        revision.version == target.version && revision.failed.is_none() && is_newest(revision.number)
    });
    if !recorded {
        let tagged = ctx.release_ref(target, ctx.rollout.epoch);
        return Plan::write(vec![vec![Action::RecordRevision { tagged, failed: None }]]);
    }
    let mut transition = Transition::new(ctx);
    if ctx.status.record(&target.version).is_some_and(|record| record.ready_at.is_none()) {
        transition.mark_ready(&target.version);
    }
    transition.set_cause(&target.version, None);
    transition.switch_to(target);
    transition.commit()
}

/// Waits for a release that is not Full, at most until it fails.
fn watch_readiness(ctx: &Context, target: &Side) -> Option<Plan> {
    if ctx.rollout.timers.ready_since.is_some() {
        let mut transition = Transition::new(ctx);
        transition.timers().ready_since = None;
        transition.timers().unready_since.get_or_insert(Time(ctx.now_for_record));
        return transition.commit();
    }
    if let plan @ Some(_) = failing_timers(ctx, target) {
        return plan;
    }
    let due = failure(ctx, target).1;
    // A release that is not rolled back waits for its Pods after the deadline too. Their events announce any change.
    (due > 0).then(|| Plan::wait(due))
}

/// Starts the failing timer of a component at its first hard failure. Stops it when the component is ready, or when the
/// cause is over.
fn failing_timers(ctx: &Context, target: &Side) -> Option<Plan> {
    let color = ctx.facts.colors.get(target.strategy);
    let mut transition = Transition::new(ctx);
    let mut changed = false;
    for (component, workload) in color.iter() {
        let running = ctx.failing_since(component).is_some();
        let problem = health::hard_problem(workload);
        if let (false, Some(problem)) = (running, problem) {
            *timer(transition.timers(), component) = Some(Time(ctx.now_for_record));
            let other_fails =
                ctx.status.record(&target.version).is_some_and(|record| record.reason.is_some());
            if !other_fails {
                transition.set_cause(&target.version, Some(Verdict::of(component, problem)));
            }
            changed = true;
        } else if running
            && problem.is_none()
            && (health::component_full(workload, &target.version) || health::has_started(workload))
        {
            *timer(transition.timers(), component) = None;
            changed = true;
        }
    }
    let timers = transition.timers();
    if changed && timers.storage_failing_since.is_none() && timers.schema_failing_since.is_none() {
        transition.set_cause(&target.version, None);
    }
    changed.then(|| transition.commit())?
}

fn timer(timers: &mut Timers, component: Component) -> &mut Option<Time> {
    match component {
        Component::Storage => &mut timers.storage_failing_since,
        Component::Schema => &mut timers.schema_failing_since,
    }
}
