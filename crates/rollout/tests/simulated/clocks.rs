//! The API server's clock is set back, or another server that is behind answers (I42).

use super::{STEPS, assert_settled_on, in_step};
use api::status::Step;

/// All timers of the simulated policy together, with room for pods to come up.
const USUAL: i64 = 300;

#[test]
fn a_clock_set_back_by_hours_makes_a_wait_begin_anew_and_no_longer() {
    for step in STEPS.into_iter().filter(|step| *step != Step::Stable) {
        let mut sim = in_step(step);
        sim.run();
        // Pods live by clocks of their own.
        while let Some(next) = sim.cluster.next_event() {
            sim.cluster.now = next;
            sim.cluster.tick();
            sim.run();
        }
        sim.cluster.now -= 7_200;
        let start = sim.cluster.now;
        sim.settle();
        let took = sim.cluster.now - start;
        assert!(took < USUAL, "{step:?} took {took} s\n{}", sim.story());
        assert_settled_on(&mut sim, if step == Step::RollingBack { "a on blue" } else { "b on green" });
    }
}
