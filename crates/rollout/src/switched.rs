//! The steps in which both colors live and traffic moves: Switching, Watching, RollingBack (design D7, D9, D13).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::acts::{missing_objects, restore_active, route_fronts, settle};
use super::facts::{Deployment, Workload};
use super::health::{self, Health, Verdict, health, may_go_back};
use super::machine::{POLL_SECONDS, record_active};
use super::shift::{Outcome, Transition};
use super::{Context, Desired, EventReason, Plan};
use api::names::{Color, PerComponent};
use api::status::{Side, Step, elapsed};

/// Seconds that a pod may be unready after the switch before it counts as bad (design D9).
const UNREADY_LIMIT: i64 = 5;

/// Switching: the front Services go to the target; left when proved.
pub(super) fn switching(ctx: &Context) -> Option<Plan> {
    let target = ctx.rollout.target.clone()?;
    let Some(active) = ctx.active() else { return first_switch(ctx, &target) };
    if let answer @ Some(_) = roll_back_if_needed(ctx, &target, &active) {
        return answer;
    }
    if !ctx.stamped() && has_strays(ctx, &target) {
        return Some(Plan::wait(1));
    }
    route_fronts(ctx).or_else(|| missing_objects(ctx, &target, true)).or_else(|| settle(ctx)).or_else(|| {
        let dwell = ctx.last_switch().saturating_add(ctx.policy().dwell) - ctx.now.as_second();
        if dwell > 0 {
            Some(Plan::wait(dwell))
        } else if ctx.proved(target.strategy) && !in_doubt(ctx, &target) {
            let mut transition = Transition::of(ctx);
            transition.serve(&target);
            transition.commit()
        } else {
            Some(Plan::wait(POLL_SECONDS))
        }
    })
}

/// Pods of something else behind the target's selector would get traffic (design D8).
fn has_strays(ctx: &Context, target: &Side) -> bool {
    ctx.facts.colors.get(target.strategy).any(|workload| !workload.pods.strays.is_empty())
}

/// Nothing served before: the switch is done when both front Services carry it.
fn first_switch(ctx: &Context, target: &Side) -> Option<Plan> {
    route_fronts(ctx).or_else(|| {
        let mut transition = Transition::of(ctx);
        transition.serve(target);
        transition.commit()
    })
}

/// Watching: traffic is on the new release, the old one is warm.
pub(super) fn grace(ctx: &Context) -> Option<Plan> {
    let (active, previous) = (ctx.active()?, ctx.rollout.previous.clone()?);
    if let answer @ Some(_) = roll_back_if_needed(ctx, &active, &previous) {
        return answer;
    }
    route_fronts(ctx).or_else(|| missing_objects(ctx, &active, true)).or_else(|| settle(ctx)).or_else(|| {
        let left = ctx.policy().cleanup_delay - ctx.in_step();
        if left > 0 {
            Some(Plan::wait(left))
        } else if in_doubt(ctx, &active) || !ctx.proved(active.strategy) {
            // The warm side is the only way out: keep it while the new one is in doubt.
            Some(Plan::wait(POLL_SECONDS))
        } else {
            let mut transition = Transition::of(ctx);
            transition.prune();
            transition.commit()
        }
    })
}

/// Whether the release that was switched to is bad, or may be, and not complete again.
fn in_doubt(ctx: &Context, new: &Side) -> bool {
    let timers = &ctx.rollout.timers;
    let doubt = is_bad(ctx, new).is_some() || timers.unready_since.is_some() || timers.empty_since.is_some();
    doubt && !health::full(ctx.facts.colors.get(new.strategy), &new.version)
}

/// The ways back while the old side is warm: the user's, the release's own badness, and out of a dead end.
fn roll_back_if_needed(ctx: &Context, new: &Side, old: &Side) -> Option<Plan> {
    let colors = &ctx.facts.colors;
    let old_health = health(colors.get(old.strategy), &old.version);
    let new_health = health(colors.get(new.strategy), &new.version);
    // Back only to a side that can serve, and no worse than what serves.
    if undo_wanted(ctx, new, old) && old_health >= Health::Impaired && old_health >= new_health {
        let why = Verdict::plain("Undone", "the spec went back to the release before".into());
        return go_back(ctx, old, new, &Outcome::Cancelled(EventReason::Undone, why));
    }
    let bad = is_bad(ctx, new).filter(|_| ctx.policy().auto_rollback && may_go_back(old_health, new_health));
    if let Some(why) = bad {
        // A restart of the same release that turns bad is no verdict on its template.
        let restart = new.version == old.version;
        let outcome =
            if restart { Outcome::Cancelled(EventReason::RolledBack, why) } else { Outcome::Failed(why) };
        return go_back(ctx, old, new, &outcome);
    }
    // Nothing goes back by itself, but a newer release must get through: the bad side makes room for it.
    let newer = newer_wanted(ctx, new, old) && is_bad(ctx, new).is_some();
    if newer && !ctx.policy().auto_rollback && may_go_back(old_health, new_health) {
        let why = Verdict::plain("Superseded", "a newer release was asked for while this one was bad".into());
        return go_back(ctx, old, new, &Outcome::Cancelled(EventReason::Superseded, why));
    }
    unready_timers(ctx, new).or_else(|| resolve_deadlock(ctx, new, old))
}

/// Whether a release is to be started that neither side holds.
fn newer_wanted(ctx: &Context, one: &Side, other: &Side) -> bool {
    let spec = Some(ctx.intent.wanted.hash.as_str());
    ctx.desired() == Desired::Spec
        && !ctx.policy().paused
        && spec != ctx.hash_of(&one.version)
        && spec != ctx.hash_of(&other.version)
}

fn go_back(ctx: &Context, old: &Side, new: &Side, outcome: &Outcome) -> Option<Plan> {
    let mut transition = Transition::of(ctx);
    transition.go_back(old, new, outcome);
    transition.commit()
}

fn undo_wanted(ctx: &Context, new: &Side, old: &Side) -> bool {
    let spec = Some(ctx.intent.wanted.hash.as_str());
    ctx.desired() != Desired::Unknown
        && new.version != old.version
        && spec == ctx.hash_of(&old.version)
        && spec != ctx.hash_of(&new.version)
}

/// Why the release that was switched to is bad now (design D9), with the clock of merely unready pods applied.
pub(super) fn is_bad(ctx: &Context, new: &Side) -> Option<Verdict> {
    let color = ctx.facts.colors.get(new.strategy);
    if let bad @ Some(_) = health::bad(color) {
        return bad;
    }
    let timers = &ctx.rollout.timers;
    let lasts =
        |since: &Option<Time>, limit| since.as_ref().is_some_and(|since| elapsed(since, ctx.now) >= limit);
    let unready = timers.unready_pod.as_ref().filter(|_| lasts(&timers.unready_since, UNREADY_LIMIT));
    let empty = lasts(&timers.empty_since, ctx.policy().failure_threshold.max(UNREADY_LIMIT));
    let verdict = unready.and_then(|pod| health::suspect(color, pod));
    let verdict = verdict.or_else(|| health::empty(color).filter(|_| empty));
    if verdict.is_some() {
        return verdict;
    }
    // Since traffic was moved last (another hand may have taken it away in the dwell time), or should have been.
    let moved = if ctx.stamped() { ctx.last_switch() } else { ctx.rollout.since.0.as_second() };
    let timeout_verdict = ctx.rollout.step == Step::Switching
        && ctx.now.as_second() - moved >= ctx.policy().deploy_timeout.max(ctx.policy().dwell)
        && !ctx.proved(new.strategy);
    timeout_verdict.then(|| {
        let text = "the EndpointSlices of the front Services did not follow within the deploy timeout. Remedy: see \
                    whether kube-controller-manager runs, and which pods kubectl get endpointslices shows";
        Verdict::plain("SwitchUnproved", text.into())
    })
}

/// Starts and stops the clocks of a pod that became unready after the switch, and of a component without a ready pod, and
/// waits for the first. Another pod's time begins when this one's is over: each may be unready for a moment.
fn unready_timers(ctx: &Context, new: &Side) -> Option<Plan> {
    let color = ctx.facts.colors.get(new.strategy);
    let timers = &ctx.rollout.timers;
    let known = timers.unready_pod.as_deref();
    let suspect = health::suspects(color).find(|pod| known == Some(*pod));
    let suspect = suspect.or_else(|| health::suspects(color).next());
    let empty = health::empty(color).is_some();
    let (runs, empties) = (timers.unready_since.is_some(), timers.empty_since.is_some());
    if suspect != known || suspect.is_some() != runs || empty != empties {
        let mut transition = Transition::of(ctx);
        let now = Time(ctx.now_for_record);
        let timers = transition.timers();
        if suspect != known || suspect.is_some() != runs {
            timers.unready_since = suspect.map(|_| now.clone());
            timers.unready_pod = suspect.map(str::to_owned);
        }
        if empty != empties {
            timers.empty_since = empty.then_some(now);
        }
        return transition.commit();
    }
    let since = timers.unready_since.as_ref().or(timers.empty_since.as_ref())?;
    let left = UNREADY_LIMIT - elapsed(since, ctx.now);
    (left > 0 && ctx.stamped()).then(|| Plan::wait(left))
}

/// No dead ends (design D7): neither side is healthy for the deploy timeout and something newer is wanted, or the side that
/// is not selected, which cannot be gone back to. That side goes, without proof, and what is wanted gets its place.
fn resolve_deadlock(ctx: &Context, selected: &Side, other: &Side) -> Option<Plan> {
    let sick = |side: &Side| health(ctx.facts.colors.get(side.strategy), &side.version) != Health::Full;
    let back = undo_wanted(ctx, selected, other) && !ctx.policy().paused;
    let stuck = (back || newer_wanted(ctx, selected, other)) && sick(selected) && sick(other);
    match (&ctx.rollout.timers.both_down_since, stuck) {
        (None, true) => {
            let mut transition = Transition::of(ctx);
            transition.timers().both_down_since = Some(Time(ctx.now_for_record));
            transition.commit()
        }
        (Some(_), false) => {
            let mut transition = Transition::of(ctx);
            transition.timers().both_down_since = None;
            transition.commit()
        }
        (Some(since), true) if elapsed(since, ctx.now) >= ctx.policy().deploy_timeout => {
            let mut transition = Transition::of(ctx);
            transition.keep_instead(selected);
            transition.commit()
        }
        (Some(_), true) | (None, false) => None,
    }
}

/// RollingBack: the front Services go back.
pub(super) fn rolling_back(ctx: &Context) -> Option<Plan> {
    let active = ctx.active()?;
    let color = ctx.facts.colors.get(active.strategy);
    let other = other_side(ctx, active.strategy);
    if let Some(other) = other.as_ref().filter(|_| lost_deployment(color)) {
        let mut transition = Transition::of(ctx);
        transition.keep_instead(other);
        return transition.commit();
    }
    // Neither side can serve: the one that is gone back to is made whole, before traffic goes there.
    if lost_deployment(color)
        && let answer @ Some(_) = restore_active(ctx)
    {
        return answer;
    }
    let moved = route_fronts(ctx).or_else(|| restore_active(ctx)).or_else(|| settle(ctx));
    moved.or_else(|| record_active(ctx, &active)).or_else(|| {
        let delay = ctx.policy().dwell + ctx.policy().cleanup_delay;
        let left = ctx.last_switch().saturating_add(delay) - ctx.now.as_second();
        if left > 0 {
            return Some(Plan::wait(left));
        }
        let waived = ctx.desired() == Desired::Spec && ctx.in_step() >= ctx.policy().deploy_timeout;
        if ctx.proved(active.strategy) || waived {
            let mut transition = Transition::of(ctx);
            transition.prune();
            return transition.commit();
        }
        Some(Plan::wait(POLL_SECONDS))
    })
}

fn lost_deployment(color: &PerComponent<Workload>) -> bool {
    color.any(|workload| !matches!(workload.deployment, Deployment::Present(_)))
}

/// The release on the color that does not serve, if both its Deployments are there and recorded.
fn other_side(ctx: &Context, active: Color) -> Option<Side> {
    let strategy = active.other();
    let color = ctx.facts.colors.get(strategy);
    let version = &color.storage.deployment.state()?.tag.version;
    let same = &color.schema.deployment.state()?.tag.version == version;
    (same && ctx.status.record(version).is_some()).then(|| Side { strategy, version: version.clone() })
}
