//! Scenarios of the core, played in the simulator; the laws of `sim::laws` hold at every write of each.

mod bad;
mod clocks;
mod crashes;
mod deploying;
mod edited;
mod first;
mod history;
mod intents;
mod laws;
mod lost;
mod others;
mod random;
mod requests;
mod words;

use api::names::{Color, Component};
use api::status::Step;
use simulator::Sim;

/// The steps of an upgrade.
const STEPS: [Step; 6] =
    [Step::Stable, Step::Deploying, Step::Switching, Step::Watching, Step::RollingBack, Step::Prune];

/// An upgrade from `a` on blue to `b` on green, just when this step was decided. `RollingBack`: `b` restarted in Watching.
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

/// Fails unless the resource is settled on this side and at peace.
fn assert_settled_on(sim: &mut Sim, side: &str) {
    assert_eq!(sim.step(), Some(Step::Stable), "{}", sim.story());
    assert_eq!(sim.active(), side, "{}", sim.story());
    assert_eq!(sim.traffic(), side, "{}", sim.story());
    assert_eq!(sim.says("Ready"), "True/Serving", "{}", sim.story());
    sim.stays_quiet();
}
