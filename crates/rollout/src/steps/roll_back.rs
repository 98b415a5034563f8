//! The ways back while the previous release runs: an undo by the user, a bad release, a deadlock (design D9, D13).

use api::status::{Side, elapsed};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::assessment::{UNREADY_LIMIT, is_bad};
use crate::context::{Context, Desired};
use crate::health::{self, Health, Verdict, health, may_go_back};
use crate::plan::{EventReason, Plan};
use crate::transition::{Outcome, Transition};

/// Returns traffic to the `old` side if the user asks for it or the `new` side is bad.
///
/// Otherwise starts, stops or waits for the timers that decide about it.
pub(super) fn roll_back_if_needed(ctx: &Context, new: &Side, old: &Side) -> Option<Plan> {
    let colors = &ctx.facts.colors;
    let old_health = health(colors.get(old.strategy), &old.version);
    let new_health = health(colors.get(new.strategy), &new.version);
    // An undo needs a side that can serve, and is no less healthy than the side that receives traffic.
    if undo_desired(ctx, new, old) && old_health >= Health::Impaired && old_health >= new_health {
        let why = Verdict::plain("Undone", "the spec went back to the previous release".into());
        return roll_back(ctx, old, new, &Outcome::Cancelled(EventReason::Undone, why));
    }
    let bad = is_bad(ctx, new).filter(|_| ctx.policy().auto_rollback && may_go_back(old_health, new_health));
    if let Some(why) = bad {
        // A restart deploys the same template again: a bad restart is no verdict on the template.
        let restart = new.version == old.version;
        let outcome =
            if restart { Outcome::Cancelled(EventReason::RolledBack, why) } else { Outcome::Failed(why) };
        return roll_back(ctx, old, new, &outcome);
    }
    // Without automatic rollback a bad side still makes room for a newer release.
    let newer = newer_desired(ctx, new, old) && is_bad(ctx, new).is_some();
    if newer && !ctx.policy().auto_rollback && may_go_back(old_health, new_health) {
        let text = "the spec asked for a newer release while this one was bad";
        let why = Verdict::plain("Superseded", text.into());
        return roll_back(ctx, old, new, &Outcome::Cancelled(EventReason::Superseded, why));
    }
    unready_timers(ctx, new).or_else(|| resolve_deadlock(ctx, new, old))
}

fn roll_back(ctx: &Context, old: &Side, new: &Side, outcome: &Outcome) -> Option<Plan> {
    let mut transition = Transition::new(ctx);
    transition.roll_back(old, new, outcome);
    transition.commit()
}

/// Returns whether the spec asks for a release that runs on neither side.
fn newer_desired(ctx: &Context, one: &Side, other: &Side) -> bool {
    let spec = Some(ctx.intent.wanted.hash.as_str());
    ctx.desired() == Desired::Spec
        && !ctx.policy().paused
        && spec != ctx.hash_of(&one.version)
        && spec != ctx.hash_of(&other.version)
}

/// Returns whether the spec asks for the release on the old side.
fn undo_desired(ctx: &Context, new: &Side, old: &Side) -> bool {
    let spec = Some(ctx.intent.wanted.hash.as_str());
    ctx.desired() != Desired::Unknown
        && new.version != old.version
        && spec == ctx.hash_of(&old.version)
        && spec != ctx.hash_of(&new.version)
}

/// Starts and stops two timers: how long one Pod has been unready since the switch, and how long a component has had
/// no ready Pod.
///
/// Each Pod gets its own five seconds, so short outages of several Pods do not add up.
fn unready_timers(ctx: &Context, new: &Side) -> Option<Plan> {
    let color = ctx.facts.colors.get(new.strategy);
    let timers = &ctx.rollout.timers;
    let known = timers.unready_pod.as_deref();
    let suspect = health::suspects(color).find(|pod| known == Some(*pod));
    let suspect = suspect.or_else(|| health::suspects(color).next());
    let empty = health::empty(color).is_some();
    let (unready_runs, empty_runs) = (timers.unready_since.is_some(), timers.empty_since.is_some());
    let other_pod = suspect != known || suspect.is_some() != unready_runs;
    if other_pod || empty != empty_runs {
        let mut transition = Transition::new(ctx);
        let now = Time(ctx.now_for_record);
        let timers = transition.timers();
        if other_pod {
            timers.unready_since = suspect.map(|_| now.clone());
            timers.unready_pod = suspect.map(str::to_owned);
        }
        if empty != empty_runs {
            timers.empty_since = empty.then_some(now);
        }
        return transition.commit();
    }
    let since = timers.unready_since.as_ref().or(timers.empty_since.as_ref())?;
    let left = UNREADY_LIMIT - elapsed(since, ctx.now);
    (left > 0 && ctx.stamped()).then(|| Plan::wait(left))
}

/// Resolves a deadlock (design D7, "No dead ends").
///
/// If both colors stay unhealthy for `deployTimeoutSeconds`, and the spec asks for a third release or for the release
/// on the unselected color, that color is deleted without waiting for EndpointSlices. The requested release is then
/// deployed there.
fn resolve_deadlock(ctx: &Context, selected: &Side, other: &Side) -> Option<Plan> {
    let unhealthy = |side: &Side| health(ctx.facts.colors.get(side.strategy), &side.version) != Health::Full;
    let undo = undo_desired(ctx, selected, other) && !ctx.policy().paused;
    let stuck = (undo || newer_desired(ctx, selected, other)) && unhealthy(selected) && unhealthy(other);
    let mut transition = Transition::new(ctx);
    match (&ctx.rollout.timers.both_down_since, stuck) {
        (None, true) => transition.timers().both_down_since = Some(Time(ctx.now_for_record)),
        (Some(_), false) => transition.timers().both_down_since = None,
        (Some(since), true) if elapsed(since, ctx.now) >= ctx.policy().deploy_timeout => {
            transition.keep(selected);
        }
        (Some(_), true) | (None, false) => return None,
    }
    transition.commit()
}
