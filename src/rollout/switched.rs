//! The steps in which both colours live and traffic moves: Switching, Grace, RollingBack (design D7, D9, D13).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::acts::{missing_parts, point_fronts, settle};
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
    let doubt = is_bad(ctx, new).is_some() || ctx.rollout.clocks.unready_since.is_some();
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
    unready_clock(ctx, new).or_else(|| dead_end(ctx, new, old))
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
    if let Some(since) = &ctx.rollout.clocks.unready_since {
        let seconds = elapsed(since, ctx.now);
        let lasting = |verdict: Option<Verdict>, limit| verdict.filter(|_| seconds >= limit);
        let verdict = lasting(health::suspect(colour), UNREADY_LIMIT)
            .or_else(|| lasting(health::empty(colour), ctx.policy().failure_threshold.max(UNREADY_LIMIT)));
        if verdict.is_some() {
            return verdict;
        }
    }
    let late = ctx.rollout.step == Step::Switching
        && ctx.in_step() >= ctx.policy().deploy_timeout
        && !ctx.proved(new.strategy);
    late.then(|| {
        let text = "the EndpointSlices of the front Services did not follow within the deploy timeout. Remedy: see \
                    whether kube-controller-manager runs, and which pods kubectl get endpointslices shows";
        Verdict::plain("SwitchUnproved", text.into())
    })
}

/// Starts, stops and waits for the clock of a pod that became unready after the switch.
fn unready_clock(ctx: &Ctx, new: &Side) -> Answer {
    let colour = ctx.facts.colours.get(new.strategy);
    let suspect = health::suspect(colour).or_else(|| health::empty(colour));
    match (&ctx.rollout.clocks.unready_since, suspect) {
        (None, Some(_)) => {
            let mut shift = Shift::of(ctx);
            shift.clocks().unready_since = Some(Time(ctx.stamp));
            shift.commit()
        }
        (Some(_), None) => {
            let mut shift = Shift::of(ctx);
            shift.clocks().unready_since = None;
            shift.commit()
        }
        (Some(since), Some(_)) => {
            let left = UNREADY_LIMIT - elapsed(since, ctx.now);
            (left > 0 && ctx.stamped()).then(|| Plan::wait(left))
        }
        (None, None) => None,
    }
}

/// No dead ends (design D7): neither side is healthy for the deploy timeout and something newer is wanted. The
/// side that is not selected goes, without proof, and the newer release gets its place.
fn dead_end(ctx: &Ctx, selected: &Side, other: &Side) -> Answer {
    let sick = |side: &Side| health(ctx.facts.colours.get(side.strategy), &side.version) != Health::Full;
    let spec = Some(ctx.intent.wanted.hash.as_str());
    let newer = ctx.want() == Want::Spec
        && !ctx.policy().paused
        && spec != ctx.hash_of(&selected.version)
        && spec != ctx.hash_of(&other.version);
    let stuck = newer && sick(selected) && sick(other);
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
    point_fronts(ctx).or_else(|| settle(ctx)).or_else(|| record_active(ctx, &active)).or_else(|| {
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
