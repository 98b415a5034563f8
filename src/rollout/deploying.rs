//! Deploying: the pending colour is created, becomes ready, and stays ready for the grace period (design D7, D9, D13).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::acts::{account, create_fronts, mend_routes, mend_serving, missing_parts, settle, tag};
use super::facts::{Front, Tag};
use super::health::{self, Verdict};
use super::intent::Policy;
use super::shift::{Ending, Shift};
use super::{Action, Answer, Ctx, Move, Plan, Want, What};
use crate::api::status::{Clocks, Rollout, Side, Step, elapsed};
use crate::names::Component;

/// What the step has to do.
pub(super) fn step(ctx: &Ctx) -> Answer {
    let target = ctx.rollout.target.clone()?;
    if let Some(ending) = given_up(ctx, &target) {
        let mut shift = Shift::of(ctx);
        shift.give_up(&target, &ending);
        return shift.commit();
    }
    if dirty(ctx, &target) {
        // Objects of another release on the pending colour: prune, then start again under a new epoch.
        let mut shift = Shift::of(ctx);
        shift.clear(&target);
        return shift.commit();
    }
    if ctx.facts.front.any(|front| *front == Front::Absent) {
        return create_fronts(ctx);
    }
    let answer = mend_routes(ctx)
        .or_else(|| mend_serving(ctx))
        .or_else(|| account(ctx, &target))
        .or_else(|| missing_parts(ctx, &target, false))
        .or_else(|| settle(ctx))
        .or_else(|| become_ready(ctx, &target));
    // While nothing can be done the release may fail: what cannot even be created, since a predecessor does not go,
    // is late like anything else.
    let waits = answer.as_ref().is_none_or(|plan| plan.next == Move::Wait);
    if waits && ctx.rollout.clocks.ready_since.is_none() { fail(ctx, &target).or(answer) } else { answer }
}

/// Gives the release up if it has failed and something else serves.
fn fail(ctx: &Ctx, target: &Side) -> Answer {
    fail_for(ctx, failure(ctx, target).0)
}

/// Gives the release on its way up for this reason, if something else serves.
pub(super) fn fail_for(ctx: &Ctx, why: Option<Verdict>) -> Answer {
    let target = ctx.rollout.target.as_ref()?;
    let why = why.filter(|_| ctx.active().is_some() && ctx.policy().auto_rollback)?;
    let mut shift = Shift::of(ctx);
    shift.give_up(target, &Ending::Failed(why));
    shift.commit()
}

/// Why the release on its way is not wanted any more (design D13).
fn given_up(ctx: &Ctx, target: &Side) -> Option<Ending> {
    let hash = ctx.hash_of(&target.version);
    let restart = ctx.status.active_release_version.as_ref() == Some(&target.version);
    match ctx.want() {
        Want::Active if !restart && ctx.blocked() => {
            let why = Verdict::plain("Superseded", "the spec went back to a release that failed".into());
            Some(Ending::Dropped(What::Superseded, why))
        }
        Want::Active if !restart => {
            let why = Verdict::plain("Aborted", "the spec went back to the serving release".into());
            Some(Ending::Dropped(What::Aborted, why))
        }
        Want::Spec if hash != Some(&ctx.intent.wanted.hash) => {
            let why = Verdict::plain("Superseded", "a newer release was asked for before the switch".into());
            Some(Ending::Dropped(What::Superseded, why))
        }
        Want::Nothing if hash.is_some_and(|hash| !ctx.has_template(hash)) => {
            let why = Verdict::plain("Superseded", "the spec that described it is gone".into());
            Some(Ending::Dropped(What::Superseded, why))
        }
        Want::Active | Want::Spec | Want::Nothing => None,
    }
}

/// Whether the pending colour holds anything that was not created for this very decision.
fn dirty(ctx: &Ctx, target: &Side) -> bool {
    let ours = |tag: &Tag| tag.version == target.version && tag.epoch == ctx.rollout.epoch;
    let colour = ctx.facts.colours.get(target.strategy);
    colour.any(|workload| workload.tags().into_iter().flatten().any(|tag| !ours(tag)))
}

fn become_ready(ctx: &Ctx, target: &Side) -> Answer {
    let colour = ctx.facts.colours.get(target.strategy);
    if !health::full(colour, &target.version) {
        return not_ready(ctx, target);
    }
    let grace = if ctx.active().is_some() { ctx.policy().grace } else { 0 };
    let Some(since) = &ctx.rollout.clocks.ready_since else {
        return if grace == 0 { pass_grace(ctx, target) } else { start_grace(ctx, target) };
    };
    if flapped(ctx, target, since) {
        return start_grace(ctx, target);
    }
    let left = grace - elapsed(since, ctx.now);
    if left > 0 { Some(Plan::wait(left)) } else { pass_grace(ctx, target) }
}

fn start_grace(ctx: &Ctx, target: &Side) -> Answer {
    let mut shift = Shift::of(ctx);
    let mut unready_since = ctx.rollout.clocks.unready_since.clone();
    if ctx.rollout.clocks.ready_since.is_some() {
        unready_since.get_or_insert(Time(ctx.stamp));
    }
    *shift.clocks() = Clocks { ready_since: Some(Time(ctx.stamp)), unready_since, ..Default::default() };
    shift.ready(&target.version);
    shift.remark(&target.version, None);
    if ctx.rollout.clocks.ready_since.is_none() {
        let text = format!("all pods of {} are ready; watching for {} s", target.version, ctx.policy().grace);
        shift.tell(What::ReleaseReady, text);
    }
    shift.commit()
}

/// Whether a pod changed its readiness since the grace period began, unseen. A node's clock may be ahead: a time
/// in the future counts when it has come.
fn flapped(ctx: &Ctx, target: &Side, since: &Time) -> bool {
    let (since, now) = (since.0.as_second(), ctx.now.as_second());
    ctx.facts
        .colours
        .get(target.strategy)
        .any(|workload| workload.pods.last_transition.is_some_and(|at| at > since && at <= now))
}

/// The release is good enough to be switched to: first its ControllerRevision says so, then the switch is decided.
fn pass_grace(ctx: &Ctx, target: &Side) -> Answer {
    let recorded = ctx.facts.revisions.iter().any(|revision| {
        revision.version == target.version && revision.failed.is_none() && is_newest(ctx, revision.number)
    });
    if !recorded {
        let tagged = tag(ctx, target, ctx.rollout.epoch);
        return Plan::act(vec![vec![Action::Record { tagged, failed: None }]]);
    }
    let mut shift = Shift::of(ctx);
    if ctx.status.record(&target.version).is_some_and(|record| record.ready_at.is_none()) {
        shift.ready(&target.version);
    }
    shift.remark(&target.version, None);
    shift.switch(target);
    shift.commit()
}

fn is_newest(ctx: &Ctx, number: i64) -> bool {
    ctx.facts.revisions.iter().all(|revision| revision.number <= number)
}

fn not_ready(ctx: &Ctx, target: &Side) -> Answer {
    if ctx.rollout.clocks.ready_since.is_some() {
        let mut shift = Shift::of(ctx);
        shift.clocks().ready_since = None;
        shift.clocks().unready_since.get_or_insert(Time(ctx.stamp));
        return shift.commit();
    }
    if let answer @ Some(_) = failing_clocks(ctx, target) {
        return answer;
    }
    let due = failure(ctx, target).1;
    // Past the deadline of a release that is not rolled back, its pods' events announce any change.
    (due > 0).then(|| Plan::wait(due))
}

/// Starts or stops the failing clocks: a hard signal starts a component's, its full readiness stops it.
fn failing_clocks(ctx: &Ctx, target: &Side) -> Answer {
    let colour = ctx.facts.colours.get(target.strategy);
    let mut shift = Shift::of(ctx);
    let mut changed = false;
    for (component, workload) in colour.iter() {
        let running = failing_since(ctx, component).is_some();
        let trouble = health::hard_trouble(workload);
        if let (false, Some(trouble)) = (running, trouble) {
            *clock_mut(shift.clocks(), component) = Some(Time(ctx.stamp));
            let other_fails =
                ctx.status.record(&target.version).is_some_and(|record| record.reason.is_some());
            if !other_fails {
                shift.remark(&target.version, Some(Verdict::of(component, trouble)));
            }
            changed = true;
        } else if running && trouble.is_none() && health::component_full(workload, &target.version) {
            *clock_mut(shift.clocks(), component) = None;
            changed = true;
        }
    }
    let clocks = shift.clocks();
    if changed && clocks.storage_failing_since.is_none() && clocks.schema_failing_since.is_none() {
        shift.remark(&target.version, None);
    }
    changed.then(|| shift.commit())?
}

fn clock_mut(clocks: &mut Clocks, component: Component) -> &mut Option<Time> {
    match component {
        Component::Storage => &mut clocks.storage_failing_since,
        Component::Schema => &mut clocks.schema_failing_since,
    }
}

fn failing_since<'a>(ctx: &'a Ctx, component: Component) -> Option<&'a Time> {
    match component {
        Component::Storage => ctx.rollout.clocks.storage_failing_since.as_ref(),
        Component::Schema => ctx.rollout.clocks.schema_failing_since.as_ref(),
    }
}

/// When the time began that a release has to become ready: with the step, or when it first lost its readiness again. Once
/// only, so that one that comes and goes does not take for ever.
pub(super) fn begun(rollout: &Rollout) -> &Time {
    rollout.clocks.unready_since.as_ref().unwrap_or(&rollout.since)
}

/// Whether a release on its way should have become ready by now.
pub(super) fn is_overdue(policy: &Policy, rollout: &Rollout, now: Timestamp) -> bool {
    rollout.step == Step::Deploying && elapsed(begun(rollout), now) >= policy.deploy_timeout
}

/// Whether the release on its way has failed, and the seconds until it will have, if nothing changes.
pub(super) fn failure(ctx: &Ctx, target: &Side) -> (Option<Verdict>, i64) {
    let noted = ctx.status.record(&target.version);
    let noted =
        noted.and_then(|record| Some(Verdict::plain(record.reason.as_ref()?, record.message.clone()?)));
    let hard = Component::ALL
        .into_iter()
        .filter_map(|component| failing_since(ctx, component))
        .map(|since| ctx.policy().failure_threshold - elapsed(since, ctx.now))
        .min();
    let timeout = ctx.policy().deploy_timeout - elapsed(begun(ctx.rollout), ctx.now);
    if hard.is_some_and(|left| left <= 0) {
        let text = "a component keeps failing. Remedy: see the Events of its pods with kubectl describe pod";
        let unknown = || Verdict::plain("Failing", text.into());
        return (Some(noted.unwrap_or_else(unknown)), 0);
    }
    if timeout <= 0 {
        return (Some(noted.unwrap_or_else(|| late(ctx, target))), 0);
    }
    (None, hard.map_or(timeout, |left| left.min(timeout)))
}

/// Words a deploy timeout: what the slowest component waits for.
fn late(ctx: &Ctx, target: &Side) -> Verdict {
    let seconds = ctx.policy().deploy_timeout;
    let colour = ctx.facts.colours.get(target.strategy);
    let slow = colour.iter().find(|(_, workload)| !health::component_full(workload, &target.version));
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
