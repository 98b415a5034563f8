//! Scenarios of the core in the simulator. The invariants of `simulator::invariants` are checked at every write.
//!
//! Covers the public functions of `lib.rs`. The modules name the files of `src` that they cover.

// A panic is a failed test, also in the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod adoption;
mod condition_messages;
mod crashes;
mod deploying_step;
mod external_changes;
mod failed_releases;
mod first_release;
mod hand_edited_status;
mod invariants;
mod random_histories;
mod release_history;
mod spec_changes;
mod status_loss;
mod unknown_step;
mod user_requests;
mod wait_timers;

use api::names::{Color, Component};
use api::status::Step;
use simulator::Sim;

/// The steps of an upgrade.
const STEPS: [Step; 6] =
    [Step::Stable, Step::Deploying, Step::Switching, Step::Watching, Step::RollingBack, Step::Prune];

/// Returns an upgrade from `a` on blue to `b` on green, right after the decision for this step. For `RollingBack`, a
/// Pod of `b` restarted in Watching.
fn in_step(step: Step) -> Sim {
    let mut sim = Sim::stable();
    match step {
        Step::Stable => return sim,
        Step::RollingBack => {
            sim.edit("b");
            sim.until(Step::Watching);
            sim.restart_pod(Component::Schema, Color::Green, 0);
        }
        Step::Deploying | Step::Switching | Step::Watching | Step::Prune | Step::Unknown => sim.edit("b"),
    }
    sim.until(step);
    sim
}

/// Fails unless the resource is at rest with this release, and writes nothing.
fn assert_settled_on(sim: &mut Sim, side: &str) {
    assert_eq!(sim.step(), Some(Step::Stable), "{}", sim.trace_text());
    assert_eq!(sim.active(), side, "{}", sim.trace_text());
    assert_eq!(sim.traffic(), side, "{}", sim.trace_text());
    assert_eq!(sim.condition_state("Ready"), "True/Serving", "{}", sim.trace_text());
    sim.assert_stays_idle();
}
