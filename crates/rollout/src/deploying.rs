//! Deploying: the pending color is created, becomes ready, and stays ready for the grace period (design D7, D9, D13).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::acts::{account, create_fronts, missing_objects, restore_active, restore_routes, settle, tag};
use super::facts::{Front, ReleaseRef};
use super::health::{self, Verdict};
use super::intent::Policy;
use super::shift::{Outcome, Transition};
use super::{Action, Context, Desired, Effect, EventReason, Plan};
use api::names::Component;
use api::status::{Rollout, Side, Step, Timers, elapsed};

/// What the step has to do.
pub(super) fn step(ctx: &Context) -> Option<Plan> {
    let target = ctx.rollout.target.clone()?;
    if let Some(outcome) = cancelled(ctx, &target) {
        let mut transition = Transition::of(ctx);
        transition.give_up(&target, &outcome);
        return transition.commit();
    }
    if is_occupied_by_other(ctx, &target) {
        // Objects of another release on the pending color: prune, then start again under a new epoch.
        let mut transition = Transition::of(ctx);
        transition.clear(&target);
        return transition.commit();
    }
    if ctx.facts.front.any(|front| *front == Front::Absent) {
        return create_fronts(ctx);
    }
    let answer = restore_routes(ctx)
        .or_else(|| restore_active(ctx))
        .or_else(|| account(ctx, &target))
        .or_else(|| missing_objects(ctx, &target, false))
        .or_else(|| settle(ctx))
        .or_else(|| become_ready(ctx, &target));
    // While nothing can be done the release may fail: what cannot even be created, since a predecessor does not go,
    // is late like anything else.
    let waits = answer.as_ref().is_none_or(|plan| plan.effect == Effect::Wait);
    if waits && ctx.rollout.timers.ready_since.is_none() { fail(ctx, &target).or(answer) } else { answer }
}

/// Gives the release up if it has failed and something else serves.
fn fail(ctx: &Context, target: &Side) -> Option<Plan> {
    fail_for(ctx, failure(ctx, target).0)
}

/// Gives the release on its way up for this reason, if something else serves.
pub(super) fn fail_for(ctx: &Context, why: Option<Verdict>) -> Option<Plan> {
    let target = ctx.rollout.target.as_ref()?;
    let why = why.filter(|_| ctx.active().is_some() && ctx.policy().auto_rollback)?;
    let mut transition = Transition::of(ctx);
    transition.give_up(target, &Outcome::Failed(why));
    transition.commit()
}

/// Why the release on its way is not wanted any more (design D13).
fn cancelled(ctx: &Context, target: &Side) -> Option<Outcome> {
    let hash = ctx.hash_of(&target.version);
    let restart = ctx.status.active_release_version.as_ref() == Some(&target.version);
    match ctx.desired() {
        Desired::Active if !restart && ctx.blocked() => {
            let why = Verdict::plain("Superseded", "the spec went back to a release that failed".into());
            Some(Outcome::Cancelled(EventReason::Superseded, why))
        }
        Desired::Active if !restart => {
            let why = Verdict::plain("Aborted", "the spec went back to the serving release".into());
            Some(Outcome::Cancelled(EventReason::Aborted, why))
        }
        Desired::Spec if hash != Some(&ctx.intent.wanted.hash) => {
            let why = Verdict::plain("Superseded", "a newer release was asked for before the switch".into());
            Some(Outcome::Cancelled(EventReason::Superseded, why))
        }
        Desired::Unknown if hash.is_some_and(|hash| !ctx.has_template(hash)) => {
            let why = Verdict::plain("Superseded", "the spec that described it is gone".into());
            Some(Outcome::Cancelled(EventReason::Superseded, why))
        }
        Desired::Active | Desired::Spec | Desired::Unknown => None,
    }
}

/// Whether the pending color holds anything that was not created for this very decision.
fn is_occupied_by_other(ctx: &Context, target: &Side) -> bool {
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
        return if grace == 0 { pass_grace(ctx, target) } else { start_grace(ctx, target) };
    };
    if lost_readiness(ctx, target, since) {
        return start_grace(ctx, target);
    }
    let left = grace - elapsed(since, ctx.now);
    if left > 0 { Some(Plan::wait(left)) } else { pass_grace(ctx, target) }
}

fn start_grace(ctx: &Context, target: &Side) -> Option<Plan> {
    let mut transition = Transition::of(ctx);
    let mut unready_since = ctx.rollout.timers.unready_since.clone();
    if ctx.rollout.timers.ready_since.is_some() {
        unready_since.get_or_insert(Time(ctx.now_for_record));
    }
    *transition.timers() =
        Timers { ready_since: Some(Time(ctx.now_for_record)), unready_since, ..Default::default() };
    transition.ready(&target.version);
    transition.remark(&target.version, None);
    if ctx.rollout.timers.ready_since.is_none() {
        let text = format!("all pods of {} are ready; watching for {} s", target.version, ctx.policy().grace);
        transition.tell(EventReason::ReleaseReady, text);
    }
    transition.commit()
}

/// Whether a pod changed its readiness since the grace period began, unseen. A node's clock may be ahead: a time
/// in the future counts when it has come.
fn lost_readiness(ctx: &Context, target: &Side, since: &Time) -> bool {
    let (since, now) = (since.0.as_second(), ctx.now.as_second());
    ctx.facts
        .colors
        .get(target.strategy)
        .any(|workload| workload.pods.last_transition.is_some_and(|at| at > since && at <= now))
}

/// The release is good enough to be switched to: first its ControllerRevision says so, then the switch is decided.
fn pass_grace(ctx: &Context, target: &Side) -> Option<Plan> {
    let recorded = ctx.facts.revisions.iter().any(|revision| {
        revision.version == target.version && revision.failed.is_none() && is_newest(ctx, revision.number)
    });
    if !recorded {
        let tagged = tag(ctx, target, ctx.rollout.epoch);
        return Plan::act(vec![vec![Action::RecordRevision { tagged, failed: None }]]);
    }
    let mut transition = Transition::of(ctx);
    if ctx.status.record(&target.version).is_some_and(|record| record.ready_at.is_none()) {
        transition.ready(&target.version);
    }
    transition.remark(&target.version, None);
    transition.switch(target);
    transition.commit()
}

fn is_newest(ctx: &Context, number: i64) -> bool {
    ctx.facts.revisions.iter().all(|revision| revision.number <= number)
}

fn watch_readiness(ctx: &Context, target: &Side) -> Option<Plan> {
    if ctx.rollout.timers.ready_since.is_some() {
        let mut transition = Transition::of(ctx);
        transition.timers().ready_since = None;
        transition.timers().unready_since.get_or_insert(Time(ctx.now_for_record));
        return transition.commit();
    }
    if let answer @ Some(_) = failing_timers(ctx, target) {
        return answer;
    }
    let due = failure(ctx, target).1;
    // Past the deadline of a release that is not rolled back, its pods' events announce any change.
    (due > 0).then(|| Plan::wait(due))
}

/// Starts or stops the failing clocks: a hard signal starts a component's, its full readiness stops it.
fn failing_timers(ctx: &Context, target: &Side) -> Option<Plan> {
    let color = ctx.facts.colors.get(target.strategy);
    let mut transition = Transition::of(ctx);
    let mut changed = false;
    for (component, workload) in color.iter() {
        let running = failing_since(ctx, component).is_some();
        let problem = health::hard_problem(workload);
        if let (false, Some(problem)) = (running, problem) {
            *timer_mut(transition.timers(), component) = Some(Time(ctx.now_for_record));
            let other_fails =
                ctx.status.record(&target.version).is_some_and(|record| record.reason.is_some());
            if !other_fails {
                transition.remark(&target.version, Some(Verdict::of(component, problem)));
            }
            changed = true;
        } else if running && problem.is_none() && health::component_full(workload, &target.version) {
            *timer_mut(transition.timers(), component) = None;
            changed = true;
        }
    }
    let timers = transition.timers();
    if changed && timers.storage_failing_since.is_none() && timers.schema_failing_since.is_none() {
        transition.remark(&target.version, None);
    }
    changed.then(|| transition.commit())?
}

fn timer_mut(timers: &mut Timers, component: Component) -> &mut Option<Time> {
    match component {
        Component::Storage => &mut timers.storage_failing_since,
        Component::Schema => &mut timers.schema_failing_since,
    }
}

fn failing_since<'a>(ctx: &'a Context, component: Component) -> Option<&'a Time> {
    match component {
        Component::Storage => ctx.rollout.timers.storage_failing_since.as_ref(),
        Component::Schema => ctx.rollout.timers.schema_failing_since.as_ref(),
    }
}

/// When the time began that a release has to become ready: with the step, or when it first lost its readiness again. Once
/// only, so that one that comes and goes does not take for ever.
pub(super) fn unready_time_began(rollout: &Rollout) -> &Time {
    rollout.timers.unready_since.as_ref().unwrap_or(&rollout.since)
}

/// Whether a release on its way should have become ready by now.
pub(super) fn is_overdue(policy: &Policy, rollout: &Rollout, now: Timestamp) -> bool {
    rollout.step == Step::Deploying && elapsed(unready_time_began(rollout), now) >= policy.deploy_timeout
}

/// Whether the release on its way has failed, and the seconds until it will have, if nothing changes.
pub(super) fn failure(ctx: &Context, target: &Side) -> (Option<Verdict>, i64) {
    let noted = ctx.status.record(&target.version);
    let noted =
        noted.and_then(|record| Some(Verdict::plain(record.reason.as_ref()?, record.message.clone()?)));
    let hard = Component::ALL
        .into_iter()
        .filter_map(|component| failing_since(ctx, component))
        .map(|since| ctx.policy().failure_threshold - elapsed(since, ctx.now))
        .min();
    let timeout = ctx.policy().deploy_timeout - elapsed(unready_time_began(ctx.rollout), ctx.now);
    if hard.is_some_and(|left| left <= 0) {
        let text = "a component keeps failing. Remedy: see the Events of its pods with kubectl describe pod";
        let unknown = || Verdict::plain("Failing", text.into());
        return (Some(noted.unwrap_or_else(unknown)), 0);
    }
    if timeout <= 0 {
        return (Some(noted.unwrap_or_else(|| timeout_verdict(ctx, target))), 0);
    }
    (None, hard.map_or(timeout, |left| left.min(timeout)))
}

/// Words a deploy timeout: what the slowest component waits for.
fn timeout_verdict(ctx: &Context, target: &Side) -> Verdict {
    let seconds = ctx.policy().deploy_timeout;
    let color = ctx.facts.colors.get(target.strategy);
    let slow = color.iter().find(|(_, workload)| !health::component_full(workload, &target.version));
    let worst = slow.and_then(|(component, workload)| Some(Verdict::of(component, health::worst(workload)?)));
    match (worst, slow) {
        (Some(worst), _) => {
            Verdict { message: format!("not ready within {seconds} s: {}", worst.message), ..worst }
        }
        (None, slow) => {
            let which = slow.map_or("a component", |(component, _)| component.as_str());
            let text = format!(
                "{which}: not ready within {seconds} s. Remedy: see the Events of its Deployment and pods, or raise \
                 rollout.deployTimeoutSeconds"
            );
            Verdict::plain("DeployTimeout", text)
        }
    }
}
