//! After the switch: the causes that fail a release, the causes that do not, and the resulting traffic (design D9).
//!
//! Covers `steps/switching.rs`, `steps/watching.rs`, `steps/rolling_back.rs`, `steps/roll_back.rs`, `assessment.rs` and `health.rs`.

use super::{assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::EventReason;
use rollout::facts::{Cause, ObjectId};
use simulator::{Sim, Startup};

const AFTER: [Step; 2] = [Step::Switching, Step::Watching];

fn switched(step: Step) -> Sim {
    let mut sim = in_step(step);
    sim.run();
    assert_eq!(sim.traffic(), "b on green");
    sim.reset_counters();
    sim
}

fn assert_rolled_back(sim: &mut Sim, step: Step) {
    assert_eq!(sim.step(), Some(Step::RollingBack), "{step:?}: {}", sim.trace_text());
    assert_eq!(sim.traffic(), "a on blue", "{}", sim.trace_text());
    sim.run_until_idle();
    assert_settled_on(sim, "a on blue");
    assert_eq!(sim.history(), "a:Active b:Failed");
    let mark = sim.cluster.revisions.iter().find(|known| known.version == "b").unwrap();
    assert!(mark.failed.is_some(), "the Failed mark is on the revision");
    assert_eq!(
        (sim.event_count(EventReason::RolloutFailed), sim.event_count(EventReason::RolledBack)),
        (1, 1)
    );
    let last = sim.stored_status().last_rollback.clone().unwrap();
    assert_eq!((last.from.as_str(), last.to.as_str(), last.trigger.as_str()), ("b", "a", "Automatic"));
}

#[test]
fn a_restarted_pod_causes_a_rollback_at_once() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.restart_pod(Component::Schema, Color::Green, 1);
        sim.run();
        assert_rolled_back(&mut sim, step);
        assert_eq!(sim.record_of("b").reason.as_deref(), Some("CrashLoop"));
    }
}

#[test]
fn pod_restarts_before_the_switch_do_not_fail_a_release() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(5);
    sim.restart_pod(Component::Storage, Color::Green, 0);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn an_unready_pod_causes_a_rollback_after_exactly_five_seconds() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.make_unready(Component::Storage, Color::Green, 0);
        sim.run();
        sim.advance(4);
        assert_eq!(sim.step(), Some(step), "{}", sim.trace_text());
        sim.advance(1);
        assert_rolled_back(&mut sim, step);
        assert_eq!(sim.record_of("b").reason.as_deref(), Some("NotReady"));
    }
}

#[test]
fn a_pod_unready_for_four_seconds_does_not_fail_a_release() {
    for step in AFTER {
        let mut sim = switched(step);
        for _ in 0..3 {
            sim.make_unready(Component::Storage, Color::Green, 0);
            sim.run();
            sim.advance(4);
            sim.recover(Component::Storage, Color::Green);
            sim.advance(1);
        }
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn a_component_without_ready_pods_causes_a_rollback_at_once() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.make_all_unready(Component::Schema, Color::Green);
        sim.run();
        assert_rolled_back(&mut sim, step);
    }
}

#[test]
fn a_deleted_deployment_causes_a_rollback_at_once() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.delete_externally(&ObjectId::Deployment(Component::Storage, Color::Green));
        sim.run();
        assert_rolled_back(&mut sim, step);
        assert_eq!(sim.record_of("b").reason.as_deref(), Some("DeploymentLost"));
    }
}

#[test]
fn a_rollback_after_the_switch_costs_at_most_27_writes() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Watching);
    sim.restart_pod(Component::Storage, Color::Green, 0);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.write_count() <= 27, "{:?}", sim.writes);
    assert!(sim.event_total() <= 6, "I44: {:?}", sim.notes);
}

#[test]
fn scaled_evicted_and_replaced_pods_do_not_fail_a_release() {
    let acts: [fn(&mut Sim); 3] = [
        |sim| sim.scale_up(Component::Storage, Color::Green),
        |sim| sim.evict(Component::Storage, Color::Green, 0),
        |sim| sim.replace_pod(Component::Storage, Color::Green, 0),
    ];
    for step in AFTER {
        for (which, act) in acts.iter().enumerate() {
            let mut sim = switched(step);
            sim.set_startup("b", Component::Storage, Startup::Ready(20));
            sim.cluster.now += 1;
            act(&mut sim);
            sim.run();
            sim.advance(8);
            assert_eq!(
                sim.event_count(EventReason::RolloutFailed),
                0,
                "{which} in {step:?}: {}",
                sim.trace_text()
            );
            sim.recover(Component::Storage, Color::Green);
            sim.run_until_idle();
            assert_settled_on(&mut sim, "b on green");
        }
    }
}

#[test]
fn replacing_the_only_pod_does_not_fail_a_release() {
    let mut sim = Sim::stable();
    sim.cluster.replicas = 1;
    for component in Component::ALL {
        sim.cluster.cell_mut(component, Color::Blue).pods.truncate(1);
        sim.cluster.cell_mut(component, Color::Blue).deployment.as_mut().unwrap().desired = 1;
    }
    sim.edit("b");
    sim.until(Step::Watching);
    sim.cluster.now += 1;
    sim.set_startup("b", Component::Storage, Startup::Ready(20));
    sim.replace_pod(Component::Storage, Color::Green, 0);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn the_previous_color_stays_until_drained_pods_are_replaced() {
    let mut sim = switched(Step::Watching);
    sim.evict(Component::Storage, Color::Green, 0);
    sim.evict(Component::Storage, Color::Green, 1);
    sim.advance(100);
    assert_eq!(sim.step(), Some(Step::Watching), "the previous color is kept: {}", sim.trace_text());
    sim.advance(25);
    assert_rolled_back(&mut sim, Step::Watching);
}

#[test]
fn with_both_colors_unhealthy_traffic_stays_and_is_reported() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.make_all_unready(Component::Storage, Color::Blue);
        sim.make_all_unready(Component::Storage, Color::Green);
        sim.advance(60);
        assert_eq!((sim.step(), sim.traffic().as_str()), (Some(step), "b on green"), "{}", sim.trace_text());
        assert_eq!(sim.phase(), "Degraded");
        assert!(sim.condition_state("Stalled").starts_with("True/"), "{}", sim.condition_state("Stalled"));
        sim.assert_stays_idle();
        sim.recover(Component::Storage, Color::Green);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn traffic_returns_once_the_old_color_recovers() {
    let mut sim = switched(Step::Watching);
    sim.make_all_unready(Component::Storage, Color::Blue);
    sim.make_all_unready(Component::Storage, Color::Green);
    sim.advance(60);
    sim.recover(Component::Storage, Color::Blue);
    sim.run();
    assert_rolled_back(&mut sim, Step::Watching);
}

#[test]
fn an_impaired_previous_color_is_no_rollback_target() {
    let mut sim = switched(Step::Watching);
    sim.make_unready(Component::Schema, Color::Blue, 0);
    sim.make_unready(Component::Storage, Color::Green, 0);
    sim.advance(20);
    assert_eq!(sim.step(), Some(Step::Watching), "{}", sim.trace_text());
    sim.make_unready(Component::Storage, Color::Green, 1);
    sim.run();
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::RollingBack), "a on blue"),
        "{}",
        sim.trace_text()
    );
}

#[test]
fn without_automatic_rollback_a_bad_release_stays_degraded() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.intent.policy.auto_rollback = false;
        sim.make_all_unready(Component::Schema, Color::Green);
        sim.advance(300);
        assert_eq!((sim.step(), sim.traffic().as_str()), (Some(step), "b on green"), "{}", sim.trace_text());
        assert_eq!(sim.phase(), "Degraded");
        sim.recover(Component::Schema, Color::Green);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn a_step_waits_for_outdated_endpoint_slices() {
    for step in [Step::Switching, Step::RollingBack] {
        let mut sim = in_step(step);
        sim.cluster.slices_frozen = true;
        sim.advance(200);
        assert_eq!(sim.step(), Some(step), "{}", sim.trace_text());
        sim.cluster.slices_frozen = false;
        sim.run_until_idle();
        assert_settled_on(&mut sim, if step == Step::Switching { "b on green" } else { "a on blue" });
    }
}

#[test]
fn an_unproved_switch_is_rolled_back_at_the_timeout() {
    let mut sim = in_step(Step::Switching);
    sim.cluster.slices_frozen = true;
    sim.advance(599);
    assert_eq!(sim.step(), Some(Step::Switching), "{}", sim.trace_text());
    sim.advance(1);
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::RollingBack), "a on blue"),
        "{}",
        sim.trace_text()
    );
    assert_eq!(sim.record_of("b").reason.as_deref(), Some("SwitchUnproved"));
}

#[test]
fn unhealthy_colors_do_not_block_a_third_release() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.make_all_unready(Component::Storage, Color::Blue);
        sim.make_all_unready(Component::Storage, Color::Green);
        sim.edit("c");
        sim.run();
        sim.advance(599);
        assert_eq!(sim.step(), Some(step), "{}", sim.trace_text());
        sim.run_until_idle();
        assert_settled_on(&mut sim, "c on blue");
    }
}

#[test]
fn unhealthy_colors_do_not_block_the_previous_release() {
    for step in AFTER {
        for gone in [false, true] {
            let mut sim = switched(step);
            if gone {
                sim.delete_externally(&ObjectId::Deployment(Component::Storage, Color::Blue));
            } else {
                sim.make_all_unready(Component::Storage, Color::Blue);
            }
            sim.make_all_unready(Component::Storage, Color::Green);
            sim.edit("a");
            sim.run();
            sim.advance(599);
            assert_eq!(
                (sim.step(), sim.traffic().as_str()),
                (Some(step), "b on green"),
                "{}",
                sim.trace_text()
            );
            sim.run_until_idle();
            assert_settled_on(&mut sim, "a on blue");
        }
    }
}

#[test]
fn a_lost_rollback_target_is_pruned_and_the_other_color_kept() {
    let mut sim = in_step(Step::RollingBack);
    sim.run();
    sim.delete_externally(&ObjectId::Deployment(Component::Schema, Color::Blue));
    sim.run_until_idle();
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::Stable), "b on green"),
        "{}",
        sim.trace_text()
    );
    assert!(!sim.has_objects(Color::Blue));
    sim.assert_stays_idle();
}

#[test]
fn a_failure_after_cleanup_is_only_reported() {
    let mut sim = Sim::upgraded();
    sim.make_all_unready(Component::Storage, Color::Green);
    sim.set_problem(Component::Storage, Color::Green, Some(Cause::Crash));
    sim.run();
    assert_eq!((sim.condition_state("Ready").as_str(), sim.phase()), ("False/NotServing", "Degraded"));
    assert_eq!((sim.wrote("UpdateStatus"), sim.write_count()), (1, 1), "{}", sim.trace_text());
    sim.assert_stays_idle();
    sim.recover(Component::Storage, Color::Green);
    sim.run();
    assert_settled_on(&mut sim, "b on green");
}

/// A status lists at most 32 Pods that restarted before the switch. Restarts of unlisted Pods do not count.
#[test]
fn restarts_of_many_pods_before_the_switch_do_not_count() {
    let mut sim = Sim::new();
    sim.cluster.replicas = 20;
    sim.run_until_idle();
    sim.edit("b");
    sim.advance(5);
    for component in Component::ALL {
        for index in 0..20 {
            sim.restart_pod(component, Color::Green, index);
        }
    }
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// Automatic rollback is off, and the user fixes the release while the bad one receives traffic.
#[test]
fn without_automatic_rollback_a_fixed_release_is_deployed() {
    for step in [Step::Switching, Step::Watching] {
        for all in [true, false] {
            let mut sim = in_step(step);
            sim.run();
            sim.intent.policy.auto_rollback = false;
            if all {
                sim.make_all_unready(Component::Schema, Color::Green);
            } else {
                sim.make_unready(Component::Schema, Color::Green, 0);
            }
            sim.advance(60);
            assert_eq!(sim.step(), Some(step), "no automatic rollback: {}", sim.trace_text());
            sim.edit("c");
            sim.run_until_idle();
            assert_settled_on(&mut sim, "c on green");
            assert!(!sim.failed("b"), "b is not Failed");
        }
    }
}

fn make_ready(sim: &mut Sim, index: usize) {
    let now = sim.cluster.now;
    let pod = &mut sim.cluster.cell_mut(Component::Storage, Color::Green).pods[index];
    (pod.ready, pod.changed) = (true, Some(now));
    sim.cluster.tick();
    sim.run();
}

/// Each Pod has its own five seconds.
#[test]
fn short_outages_of_several_pods_do_not_add_up() {
    let mut sim = Sim::new();
    sim.cluster.replicas = 3;
    sim.run_until_idle();
    sim.edit("b");
    sim.until(Step::Watching);
    sim.run();
    sim.cluster.now += 1;
    sim.make_unready(Component::Storage, Color::Green, 0);
    sim.run();
    sim.advance(3);
    sim.make_unready(Component::Storage, Color::Green, 1);
    sim.run();
    sim.advance(1);
    make_ready(&mut sim, 0);
    sim.advance(2);
    make_ready(&mut sim, 1);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// A drained component has the time of a drain, and a Pod of the other component its own five seconds.
#[test]
fn a_short_outage_during_a_drain_does_not_fail_a_release() {
    let mut sim = in_step(Step::Watching);
    sim.run();
    sim.cluster.now += 1;
    sim.set_startup("b", Component::Storage, Startup::Ready(60));
    for _ in 0..2 {
        sim.replace_pod(Component::Storage, Color::Green, 0);
    }
    sim.run();
    sim.advance(20);
    sim.make_unready(Component::Schema, Color::Green, 0);
    sim.run();
    sim.advance(1);
    sim.recover(Component::Schema, Color::Green);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_pod_created_in_the_second_of_the_switch_counts_as_new() {
    let mut sim = in_step(Step::Switching);
    sim.set_startup("b", Component::Storage, Startup::Ready(20));
    sim.scale_up(Component::Storage, Color::Green);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// The dwell time may exceed the deploy timeout. The operator repairs a selector that another client changes
/// meanwhile.
#[test]
fn a_long_dwell_does_not_fail_the_switch() {
    let mut sim = Sim::stable();
    (sim.intent.policy.dwell, sim.intent.policy.deploy_timeout) = (300, 60);
    sim.edit("b");
    sim.until(Step::Switching);
    sim.run();
    sim.advance(100);
    sim.change_selector(Component::Storage, Some(Color::Blue));
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}
