//! The steps in which both colours live and traffic moves: Switching, Grace, RollingBack (design D7, D9, D13).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::acts::{mend_serving, missing_parts, point_fronts, settle};
use super::facts::{Deployment, Workload};
use super::health::{self, Health, Verdict, health, may_go_back};
use super::machine::{LOOK_AGAIN, record_active};
use super::shift::{Ending, Shift};
use super::{Answer, Ctx, Plan, Want, What};
use crate::api::status::{Side, Step, elapsed};
use crate::names::{Colour, PerComponent};

/// Seconds that a pod may be unready after the switch before it counts as bad (design D9).
const UNREADY_LIMIT: i64 = 5;

/// Switching: the front Services go to the target; left when proved.
pub(super) fn switching(ctx: &Ctx) -> Answer {
    let target = ctx.rollout.target.clone()?;
    let Some(active) = ctx.active() else { return first_switch(ctx, &target) };
    if let answer @ Some(_) = turn_back(ctx, &target, &active) {
        return answer;
    }
    if !ctx.stamped() && has_strays(ctx, &target) {
        return Some(Plan::wait(1));
    }
    point_fronts(ctx).or_else(|| missing_parts(ctx, &target, true)).or_else(|| settle(ctx)).or_else(|| {
        let dwell = ctx.last_switch().saturating_add(ctx.policy().dwell) - ctx.now.as_second();
        if dwell > 0 {
            Some(Plan::wait(dwell))
        } else if ctx.proved(target.strategy) && !in_doubt(ctx, &target) {
            let mut shift = Shift::of(ctx);
            shift.serve(&target);
            shift.commit()
        } else {
            Some(Plan::wait(LOOK_AGAIN))
        }
    })
}

/// Pods of something else behind the target's selector would get traffic (design D8).
fn has_strays(ctx: &Ctx, target: &Side) -> bool {
    ctx.facts.colours.get(target.strategy).any(|workload| !workload.pods.strays.is_empty())
}

/// Nothing served before: the switch is done when both front Services carry it.
fn first_switch(ctx: &Ctx, target: &Side) -> Answer {
    point_fronts(ctx).or_else(|| {
        let mut shift = Shift::of(ctx);
        shift.serve(target);
        shift.commit()
    })
}

/// Grace: traffic is on the new release, the old one is warm.
pub(super) fn grace(ctx: &Ctx) -> Answer {
    let (active, previous) = (ctx.active()?, ctx.rollout.previous.clone()?);
    if let answer @ Some(_) = turn_back(ctx, &active, &previous) {
        return answer;
    }
    point_fronts(ctx).or_else(|| missing_parts(ctx, &active, true)).or_else(|| settle(ctx)).or_else(|| {
        let left = ctx.policy().cleanup_delay - ctx.in_step();
        if left > 0 {
            Some(Plan::wait(left))
        } else if in_doubt(ctx, &active) || !ctx.proved(active.strategy) {
            // The warm side is the only way out: keep it while the new one is in doubt.
            Some(Plan::wait(LOOK_AGAIN))
        } else {
            let mut shift = Shift::of(ctx);
            shift.prune();
            shift.commit()
        }
    })
}

/// Whether the release that was switched to is bad, or may be, and not complete again.
fn in_doubt(ctx: &Ctx, new: &Side) -> bool {
    let clocks = &ctx.rollout.clocks;
    let doubt = is_bad(ctx, new).is_some() || clocks.unready_since.is_some() || clocks.empty_since.is_some();
    doubt && !health::full(ctx.facts.colours.get(new.strategy), &new.version)
}

/// The ways back while the old side is warm: the user's, the release's own badness, and out of a dead end.
fn turn_back(ctx: &Ctx, new: &Side, old: &Side) -> Answer {
    let colours = &ctx.facts.colours;
    let old_health = health(colours.get(old.strategy), &old.version);
    let new_health = health(colours.get(new.strategy), &new.version);
    // Back only to a side that can serve, and no worse than what serves.
    if undo_wanted(ctx, new, old) && old_health >= Health::Impaired && old_health >= new_health {
        let why = Verdict::plain("Undone", "the spec went back to the release before".into());
        return go_back(ctx, old, new, &Ending::Dropped(What::Undone, why));
    }
    let bad = is_bad(ctx, new).filter(|_| ctx.policy().auto_rollback && may_go_back(old_health, new_health));
    if let Some(why) = bad {
        // A restart of the same release that turns bad is no verdict on its template.
        let restart = new.version == old.version;
        let ending = if restart { Ending::Dropped(What::RolledBack, why) } else { Ending::Failed(why) };
        return go_back(ctx, old, new, &ending);
    }
    // Nothing goes back by itself, but a newer release must get through: the bad side makes room for it.
    let newer = newer_wanted(ctx, new, old) && is_bad(ctx, new).is_some();
    if newer && !ctx.policy().auto_rollback && may_go_back(old_health, new_health) {
        let why = Verdict::plain("Superseded", "a newer release was asked for while this one was bad".into());
        return go_back(ctx, old, new, &Ending::Dropped(What::Superseded, why));
    }
    unready_clock(ctx, new).or_else(|| dead_end(ctx, new, old))
}

/// Whether a release is to be started that neither side holds.
fn newer_wanted(ctx: &Ctx, one: &Side, other: &Side) -> bool {
    let spec = Some(ctx.intent.wanted.hash.as_str());
    ctx.want() == Want::Spec
        && !ctx.policy().paused
        && spec != ctx.hash_of(&one.version)
        && spec != ctx.hash_of(&other.version)
}

fn go_back(ctx: &Ctx, old: &Side, new: &Side, ending: &Ending) -> Answer {
    let mut shift = Shift::of(ctx);
    shift.go_back(old, new, ending);
    shift.commit()
}

fn undo_wanted(ctx: &Ctx, new: &Side, old: &Side) -> bool {
    let spec = Some(ctx.intent.wanted.hash.as_str());
    ctx.want() != Want::Nothing
        && new.version != old.version
        && spec == ctx.hash_of(&old.version)
        && spec != ctx.hash_of(&new.version)
}

/// Why the release that was switched to is bad now (design D9), with the clock of merely unready pods applied.
pub(super) fn is_bad(ctx: &Ctx, new: &Side) -> Option<Verdict> {
    let colour = ctx.facts.colours.get(new.strategy);
    if let bad @ Some(_) = health::bad(colour) {
        return bad;
    }
    let clocks = &ctx.rollout.clocks;
    let lasts =
        |since: &Option<Time>, limit| since.as_ref().is_some_and(|since| elapsed(since, ctx.now) >= limit);
    let unready = clocks.unready_pod.as_ref().filter(|_| lasts(&clocks.unready_since, UNREADY_LIMIT));
    let empty = lasts(&clocks.empty_since, ctx.policy().failure_threshold.max(UNREADY_LIMIT));
    let verdict = unready.and_then(|pod| health::suspect(colour, pod));
    let verdict = verdict.or_else(|| health::empty(colour).filter(|_| empty));
    if verdict.is_some() {
        return verdict;
    }
    // Since traffic was moved last (another hand may have taken it away in the dwell time), or should have been.
    let moved = if ctx.stamped() { ctx.last_switch() } else { ctx.rollout.since.0.as_second() };
    let late = ctx.rollout.step == Step::Switching
        && ctx.now.as_second() - moved >= ctx.policy().deploy_timeout.max(ctx.policy().dwell)
        && !ctx.proved(new.strategy);
    late.then(|| {
        let text = "the EndpointSlices of the front Services did not follow within the deploy timeout. Remedy: see \
                    whether kube-controller-manager runs, and which pods kubectl get endpointslices shows";
        Verdict::plain("SwitchUnproved", text.into())
    })
}

/// Starts and stops the clocks of a pod that became unready after the switch, and of a component without a ready pod, and
/// waits for the first. Another pod's time begins when this one's is over: each may be unready for a moment.
fn unready_clock(ctx: &Ctx, new: &Side) -> Answer {
    let colour = ctx.facts.colours.get(new.strategy);
    let clocks = &ctx.rollout.clocks;
    let known = clocks.unready_pod.as_deref();
    let suspect = health::suspects(colour).find(|pod| known == Some(*pod));
    let suspect = suspect.or_else(|| health::suspects(colour).next());
    let empty = health::empty(colour).is_some();
    let (runs, empties) = (clocks.unready_since.is_some(), clocks.empty_since.is_some());
    if suspect != known || suspect.is_some() != runs || empty != empties {
        let mut shift = Shift::of(ctx);
        let now = Time(ctx.stamp);
        let clocks = shift.clocks();
        if suspect != known || suspect.is_some() != runs {
            clocks.unready_since = suspect.map(|_| now.clone());
            clocks.unready_pod = suspect.map(str::to_owned);
        }
        if empty != empties {
            clocks.empty_since = empty.then_some(now);
        }
        return shift.commit();
    }
    let since = clocks.unready_since.as_ref().or(clocks.empty_since.as_ref())?;
    let left = UNREADY_LIMIT - elapsed(since, ctx.now);
    (left > 0 && ctx.stamped()).then(|| Plan::wait(left))
}

/// No dead ends (design D7): neither side is healthy for the deploy timeout and something newer is wanted, or the side that
/// is not selected, which cannot be gone back to. That side goes, without proof, and what is wanted gets its place.
fn dead_end(ctx: &Ctx, selected: &Side, other: &Side) -> Answer {
    let sick = |side: &Side| health(ctx.facts.colours.get(side.strategy), &side.version) != Health::Full;
    let back = undo_wanted(ctx, selected, other) && !ctx.policy().paused;
    let stuck = (back || newer_wanted(ctx, selected, other)) && sick(selected) && sick(other);
    match (&ctx.rollout.clocks.both_down_since, stuck) {
        (None, true) => {
            let mut shift = Shift::of(ctx);
            shift.clocks().both_down_since = Some(Time(ctx.stamp));
            shift.commit()
        }
        (Some(_), false) => {
            let mut shift = Shift::of(ctx);
            shift.clocks().both_down_since = None;
            shift.commit()
        }
        (Some(since), true) if elapsed(since, ctx.now) >= ctx.policy().deploy_timeout => {
            let mut shift = Shift::of(ctx);
            shift.keep_instead(selected);
            shift.commit()
        }
        (Some(_), true) | (None, false) => None,
    }
}

/// RollingBack: the front Services go back.
pub(super) fn rolling_back(ctx: &Ctx) -> Answer {
    let active = ctx.active()?;
    let colour = ctx.facts.colours.get(active.strategy);
    let other = other_side(ctx, active.strategy);
    if let Some(other) = other.as_ref().filter(|_| lost_deployment(colour)) {
        let mut shift = Shift::of(ctx);
        shift.keep_instead(other);
        return shift.commit();
    }
    // Neither side can serve: the one that is gone back to is made whole, before traffic goes there.
    if lost_deployment(colour)
        && let answer @ Some(_) = mend_serving(ctx)
    {
        return answer;
    }
    let moved = point_fronts(ctx).or_else(|| mend_serving(ctx)).or_else(|| settle(ctx));
    moved.or_else(|| record_active(ctx, &active)).or_else(|| {
        let delay = ctx.policy().dwell + ctx.policy().cleanup_delay;
        let left = ctx.last_switch().saturating_add(delay) - ctx.now.as_second();
        if left > 0 {
            return Some(Plan::wait(left));
        }
        let waived = ctx.want() == Want::Spec && ctx.in_step() >= ctx.policy().deploy_timeout;
        if ctx.proved(active.strategy) || waived {
            let mut shift = Shift::of(ctx);
            shift.prune();
            return shift.commit();
        }
        Some(Plan::wait(LOOK_AGAIN))
    })
}

fn lost_deployment(colour: &PerComponent<Workload>) -> bool {
    colour.any(|workload| !matches!(workload.deployment, Deployment::Present(_)))
}

/// The release on the colour that does not serve, if both its Deployments are there and recorded.
fn other_side(ctx: &Ctx, active: Colour) -> Option<Side> {
    let strategy = active.other();
    let colour = ctx.facts.colours.get(strategy);
    let version = &colour.storage.deployment.state()?.tag.version;
    let same = &colour.schema.deployment.state()?.tag.version == version;
    (same && ctx.status.record(version).is_some()).then(|| Side { strategy, version: version.clone() })
}
