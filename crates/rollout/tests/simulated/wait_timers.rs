//! The API server's clock is set back, or a server with a slow clock answers (I42).
//!
//! Covers the reset of future times in `lib.rs` and `transition.rs`.

use super::{STEPS, assert_settled_on, in_step};
use api::status::Step;

/// The sum of all timers of the simulated policy, with time for the Pods to start, in seconds.
const USUAL: i64 = 300;

#[test]
fn a_clock_set_back_by_hours_only_restarts_the_current_wait() {
    for step in STEPS.into_iter().filter(|step| *step != Step::Stable) {
        let mut sim = in_step(step);
        sim.run();
        // Pods use the clocks of their nodes.
        while let Some(next) = sim.cluster.next_event() {
            sim.cluster.now = next;
            sim.cluster.tick();
            sim.run();
        }
        sim.cluster.now -= 7_200;
        let start = sim.cluster.now;
        sim.run_until_idle();
        let took = sim.cluster.now - start;
        assert!(took < USUAL, "{step:?} took {took} s\n{}", sim.trace_text());
        assert_settled_on(&mut sim, if step == Step::RollingBack { "a on blue" } else { "b on green" });
    }
}
