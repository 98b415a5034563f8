//! Step Watching: the new release receives traffic, the previous one keeps running as the way back (design D7).

use super::roll_back::roll_back_if_needed;
use crate::actions::{apply_settings, missing_objects, route_fronts};
use crate::assessment::in_doubt;
use crate::context::Context;
use crate::plan::Plan;
use crate::transition::Transition;

/// Rolls back a bad release. Otherwise enters Prune after the cleanup delay, once the switch is proved.
pub(super) fn plan(ctx: &Context) -> Option<Plan> {
    let (active, previous) = (ctx.active()?, ctx.rollout.previous.clone()?);
    if let plan @ Some(_) = roll_back_if_needed(ctx, &active, &previous) {
        return plan;
    }
    route_fronts(ctx).or_else(|| missing_objects(ctx, &active, true)).or_else(|| apply_settings(ctx)).or_else(
        || {
            let left = ctx.policy().cleanup_delay - ctx.in_step();
            if left > 0 {
                Some(Plan::wait(left))
            } else if in_doubt(ctx, &active) || !ctx.proved(active.strategy) {
                // The previous release is the only way back: it stays while the new one is in doubt.
                Some(Plan::poll())
            } else {
                let mut transition = Transition::new(ctx);
                transition.prune();
                transition.commit()
            }
        },
    )
}
