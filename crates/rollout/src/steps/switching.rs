//! Step Switching: the front Services select the target; the step ends when EndpointSlices prove it (design D7).

use api::status::Side;

use super::roll_back::roll_back_if_needed;
use crate::actions::{apply_settings, missing_objects, route_fronts};
use crate::assessment::in_doubt;
use crate::context::Context;
use crate::plan::Plan;
use crate::transition::Transition;

/// Routes both front Services to the target, then activates it once the dwell time is over and the switch is proved.
pub(super) fn plan(ctx: &Context) -> Option<Plan> {
    let target = ctx.rollout.target.clone()?;
    let Some(active) = ctx.active() else { return first_switch(ctx, &target) };
    if let plan @ Some(_) = roll_back_if_needed(ctx, &target, &active) {
        return plan;
    }
    if !ctx.stamped() && has_strays(ctx, &target) {
        return Some(Plan::wait(1));
    }
    route_fronts(ctx).or_else(|| missing_objects(ctx, &target, true)).or_else(|| apply_settings(ctx)).or_else(
        || {
            let dwell = ctx.last_switch().saturating_add(ctx.policy().dwell) - ctx.now.as_second();
            if dwell > 0 {
                Some(Plan::wait(dwell))
            } else if ctx.proved(target.strategy) && !in_doubt(ctx, &target) {
                activate(ctx, &target)
            } else {
                Some(Plan::poll())
            }
        },
    )
}

/// Returns whether foreign Pods match the target's selector: they would receive traffic too (design D8).
fn has_strays(ctx: &Context, target: &Side) -> bool {
    ctx.facts.colors.get(target.strategy).any(|workload| !workload.pods.strays.is_empty())
}

/// Without an active release, the switch is complete when both front Services carry the decision.
fn first_switch(ctx: &Context, target: &Side) -> Option<Plan> {
    route_fronts(ctx).or_else(|| activate(ctx, target))
}

fn activate(ctx: &Context, target: &Side) -> Option<Plan> {
    let mut transition = Transition::new(ctx);
    transition.activate(target);
    transition.commit()
}
