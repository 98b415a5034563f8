//! The state machine: a file for each step, and two for the ways in and back (design D7, D9, D13).
//!
//! ```text
//! Stable -> Deploying -> Switching -> Watching -> Prune -> Stable | Deploying
//!               |            |           |          ^
//!               |            +-----------+-> RollingBack
//!               +-------------------------------->+       (failed, aborted, superseded)
//! Stable -> Prune (orphans)      Switching -> Stable (first release)      Switching -> Prune (deadlock)
//! ```
//!
//! Each step returns the one plan that is due now, a wait, or `None` if nothing is due.

pub(crate) mod deploying;
mod prune;
mod roll_back;
mod rolling_back;
mod stable;
mod start;
mod switching;
mod watching;

use api::status::Step;

use crate::actions::record_failures;
use crate::context::Context;
use crate::plan::Plan;

/// The plan of the current step. The mark of a failed release comes before everything else.
pub(crate) fn plan(ctx: &Context) -> Option<Plan> {
    if let plan @ Some(_) = record_failures(ctx) {
        return plan;
    }
    match ctx.rollout.step {
        Step::Stable => stable::plan(ctx),
        Step::Deploying => deploying::plan(ctx),
        Step::Switching => switching::plan(ctx),
        Step::Watching => watching::plan(ctx),
        Step::RollingBack => rolling_back::plan(ctx),
        Step::Prune => prune::plan(ctx),
        Step::Unknown => None,
    }
}
