//! After the switch: what makes a release bad, what does not, and where traffic goes then (design D9).

use super::{assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::EventReason;
use rollout::facts::{Cause, ObjectId};
use simulator::{Boot, Sim};

const AFTER: [Step; 2] = [Step::Switching, Step::Watching];

fn switched(step: Step) -> Sim {
    let mut sim = in_step(step);
    sim.run();
    assert_eq!(sim.traffic(), "b on green");
    sim.forget();
    sim
}

fn assert_rolled_back(sim: &mut Sim, step: Step) {
    assert_eq!(sim.step(), Some(Step::RollingBack), "{step:?}: {}", sim.story());
    assert_eq!(sim.traffic(), "a on blue", "{}", sim.story());
    sim.settle();
    assert_settled_on(sim, "a on blue");
    assert_eq!(sim.history(), "a:Active b:Failed");
    let mark = sim.cluster.revisions.iter().find(|known| known.version == "b").unwrap();
    assert!(mark.failed.is_some(), "the mark outlives the status");
    assert_eq!((sim.told(EventReason::RolloutFailed), sim.told(EventReason::RolledBack)), (1, 1));
    let last = sim.known().last_rollback.clone().unwrap();
    assert_eq!((last.from.as_str(), last.to.as_str(), last.trigger.as_str()), ("b", "a", "Automatic"));
}

#[test]
fn a_restarted_pod_rolls_back_at_once() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.restart_pod(Component::Schema, Color::Green, 1);
        sim.run();
        assert_rolled_back(&mut sim, step);
        assert_eq!(sim.record_of("b").reason.as_deref(), Some("CrashLoop"));
    }
}

#[test]
fn restarts_from_before_the_switch_are_not_held_against_a_release() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(5);
    sim.restart_pod(Component::Storage, Color::Green, 0);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn an_unready_pod_rolls_back_after_five_seconds_and_not_after_four() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.unready(Component::Storage, Color::Green, 0);
        sim.run();
        sim.advance(4);
        assert_eq!(sim.step(), Some(step), "{}", sim.story());
        sim.advance(1);
        assert_rolled_back(&mut sim, step);
        assert_eq!(sim.record_of("b").reason.as_deref(), Some("NotReady"));
    }
}

#[test]
fn a_pod_that_is_unready_for_four_seconds_is_forgiven() {
    for step in AFTER {
        let mut sim = switched(step);
        for _ in 0..3 {
            sim.unready(Component::Storage, Color::Green, 0);
            sim.run();
            sim.advance(4);
            sim.recover(Component::Storage, Color::Green);
            sim.advance(1);
        }
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn a_component_without_a_ready_pod_rolls_back_at_once() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.all_unready(Component::Schema, Color::Green);
        sim.run();
        assert_rolled_back(&mut sim, step);
    }
}

#[test]
fn a_deleted_deployment_rolls_back_at_once() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.remove(&ObjectId::Deployment(Component::Storage, Color::Green));
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
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.total() <= 27, "{:?}", sim.writes);
    assert!(sim.events() <= 6, "I44: {:?}", sim.notes);
}

#[test]
fn scaling_eviction_and_deletion_of_pods_are_not_badness() {
    let acts: [fn(&mut Sim); 3] = [
        |sim| sim.scale_up(Component::Storage, Color::Green),
        |sim| sim.evict(Component::Storage, Color::Green, 0),
        |sim| sim.replace_pod(Component::Storage, Color::Green, 0),
    ];
    for step in AFTER {
        for (which, act) in acts.iter().enumerate() {
            let mut sim = switched(step);
            sim.boots("b", Component::Storage, Boot::Ready(20));
            sim.cluster.now += 1;
            act(&mut sim);
            sim.run();
            sim.advance(8);
            assert_eq!(sim.told(EventReason::RolloutFailed), 0, "{which} in {step:?}: {}", sim.story());
            sim.recover(Component::Storage, Color::Green);
            sim.settle();
            assert_settled_on(&mut sim, "b on green");
        }
    }
}

#[test]
fn the_only_pod_may_be_replaced() {
    let mut sim = Sim::stable();
    sim.cluster.replicas = 1;
    for component in Component::ALL {
        sim.cluster.cell_mut(component, Color::Blue).pods.truncate(1);
        sim.cluster.cell_mut(component, Color::Blue).deployment.as_mut().unwrap().desired = 1;
    }
    sim.edit("b");
    sim.until(Step::Watching);
    sim.cluster.now += 1;
    sim.boots("b", Component::Storage, Boot::Ready(20));
    sim.replace_pod(Component::Storage, Color::Green, 0);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn the_warm_side_is_kept_while_a_drained_pod_has_no_replacement() {
    let mut sim = switched(Step::Watching);
    sim.evict(Component::Storage, Color::Green, 0);
    sim.evict(Component::Storage, Color::Green, 1);
    sim.advance(100);
    assert_eq!(sim.step(), Some(Step::Watching), "the way back is kept: {}", sim.story());
    sim.advance(25);
    assert_rolled_back(&mut sim, Step::Watching);
}

#[test]
fn with_both_sides_bad_traffic_stays_and_says_so() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.all_unready(Component::Storage, Color::Blue);
        sim.all_unready(Component::Storage, Color::Green);
        sim.advance(60);
        assert_eq!((sim.step(), sim.traffic().as_str()), (Some(step), "b on green"), "{}", sim.story());
        assert_eq!(sim.phase(), "Degraded");
        assert!(sim.says("Stalled").starts_with("True/"), "{}", sim.says("Stalled"));
        sim.stays_quiet();
        sim.recover(Component::Storage, Color::Green);
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn with_both_sides_bad_the_old_one_is_taken_as_soon_as_it_is_healthier() {
    let mut sim = switched(Step::Watching);
    sim.all_unready(Component::Storage, Color::Blue);
    sim.all_unready(Component::Storage, Color::Green);
    sim.advance(60);
    sim.recover(Component::Storage, Color::Blue);
    sim.run();
    assert_rolled_back(&mut sim, Step::Watching);
}

#[test]
fn an_impaired_old_side_is_no_way_back_from_an_impaired_new_one() {
    let mut sim = switched(Step::Watching);
    sim.unready(Component::Schema, Color::Blue, 0);
    sim.unready(Component::Storage, Color::Green, 0);
    sim.advance(20);
    assert_eq!(sim.step(), Some(Step::Watching), "{}", sim.story());
    sim.unready(Component::Storage, Color::Green, 1);
    sim.run();
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::RollingBack), "a on blue"),
        "{}",
        sim.story()
    );
}

#[test]
fn with_automatic_rollback_off_a_bad_release_stays_degraded() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.intent.policy.auto_rollback = false;
        sim.all_unready(Component::Schema, Color::Green);
        sim.advance(300);
        assert_eq!((sim.step(), sim.traffic().as_str()), (Some(step), "b on green"), "{}", sim.story());
        assert_eq!(sim.phase(), "Degraded");
        sim.recover(Component::Schema, Color::Green);
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn endpoint_slices_that_do_not_follow_hold_the_next_step_up() {
    for step in [Step::Switching, Step::RollingBack] {
        let mut sim = in_step(step);
        sim.cluster.slices_held = true;
        sim.advance(200);
        assert_eq!(sim.step(), Some(step), "{}", sim.story());
        sim.cluster.slices_held = false;
        sim.settle();
        assert_settled_on(&mut sim, if step == Step::Switching { "b on green" } else { "a on blue" });
    }
}

#[test]
fn a_switch_that_stays_unproved_is_rolled_back_at_the_timeout() {
    let mut sim = in_step(Step::Switching);
    sim.cluster.slices_held = true;
    sim.advance(599);
    assert_eq!(sim.step(), Some(Step::Switching), "{}", sim.story());
    sim.advance(1);
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::RollingBack), "a on blue"),
        "{}",
        sim.story()
    );
    assert_eq!(sim.record_of("b").reason.as_deref(), Some("SwitchUnproved"));
}

#[test]
fn neither_side_healthy_is_no_dead_end_for_a_third_release() {
    for step in AFTER {
        let mut sim = switched(step);
        sim.all_unready(Component::Storage, Color::Blue);
        sim.all_unready(Component::Storage, Color::Green);
        sim.edit("c");
        sim.run();
        sim.advance(599);
        assert_eq!(sim.step(), Some(step), "{}", sim.story());
        sim.settle();
        assert_settled_on(&mut sim, "c on blue");
    }
}

#[test]
fn neither_side_healthy_is_no_dead_end_for_the_release_before() {
    for step in AFTER {
        for gone in [false, true] {
            let mut sim = switched(step);
            if gone {
                sim.remove(&ObjectId::Deployment(Component::Storage, Color::Blue));
            } else {
                sim.all_unready(Component::Storage, Color::Blue);
            }
            sim.all_unready(Component::Storage, Color::Green);
            sim.edit("a");
            sim.run();
            sim.advance(599);
            assert_eq!((sim.step(), sim.traffic().as_str()), (Some(step), "b on green"), "{}", sim.story());
            sim.settle();
            assert_settled_on(&mut sim, "a on blue");
        }
    }
}

#[test]
fn a_lost_rollback_target_is_pruned_and_the_other_side_kept() {
    let mut sim = in_step(Step::RollingBack);
    sim.run();
    sim.remove(&ObjectId::Deployment(Component::Schema, Color::Blue));
    sim.settle();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Stable), "b on green"), "{}", sim.story());
    assert!(!sim.has_objects(Color::Blue));
    sim.stays_quiet();
}

#[test]
fn a_failure_after_cleanup_is_told_but_changes_nothing() {
    let mut sim = Sim::upgraded();
    sim.all_unready(Component::Storage, Color::Green);
    sim.suffer(Component::Storage, Color::Green, Some(Cause::Crash));
    sim.run();
    assert_eq!((sim.says("Ready").as_str(), sim.phase()), ("False/NotServing", "Degraded"));
    assert_eq!((sim.wrote("Commit"), sim.total()), (1, 1), "{}", sim.story());
    sim.stays_quiet();
    sim.recover(Component::Storage, Color::Green);
    sim.run();
    assert_settled_on(&mut sim, "b on green");
}

/// A status has a place for 32 pods that restarted before the switch. What is not known of the others is no news.
#[test]
fn many_pods_that_restarted_before_the_switch_are_no_news_after_it() {
    let mut sim = Sim::new();
    sim.cluster.replicas = 20;
    sim.settle();
    sim.edit("b");
    sim.advance(5);
    for component in Component::ALL {
        for index in 0..20 {
            sim.restart_pod(component, Color::Green, index);
        }
    }
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

/// No automatic rollback, and the fix is pushed while the bad release has the traffic.
#[test]
fn a_fix_gets_through_where_nothing_is_rolled_back_automatically() {
    for step in [Step::Switching, Step::Watching] {
        for all in [true, false] {
            let mut sim = in_step(step);
            sim.run();
            sim.intent.policy.auto_rollback = false;
            if all {
                sim.all_unready(Component::Schema, Color::Green);
            } else {
                sim.unready(Component::Schema, Color::Green, 0);
            }
            sim.advance(60);
            assert_eq!(sim.step(), Some(step), "nothing goes back by itself: {}", sim.story());
            sim.edit("c");
            sim.settle();
            assert_settled_on(&mut sim, "c on green");
            assert!(!sim.failed("b"), "nothing is held against it");
        }
    }
}

fn heal(sim: &mut Sim, index: usize) {
    let now = sim.cluster.now;
    let pod = &mut sim.cluster.cell_mut(Component::Storage, Color::Green).pods[index];
    (pod.ready, pod.changed) = (true, Some(now));
    sim.cluster.tick();
    sim.run();
}

/// Five seconds are each pod's own.
#[test]
fn pods_that_are_unready_for_a_moment_one_after_another_are_not_bad() {
    let mut sim = Sim::new();
    sim.cluster.replicas = 3;
    sim.settle();
    sim.edit("b");
    sim.until(Step::Watching);
    sim.run();
    sim.cluster.now += 1;
    sim.unready(Component::Storage, Color::Green, 0);
    sim.run();
    sim.advance(3);
    sim.unready(Component::Storage, Color::Green, 1);
    sim.run();
    sim.advance(1);
    heal(&mut sim, 0);
    sim.advance(2);
    heal(&mut sim, 1);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

/// A drained component is given its time, and another one's pod its own five seconds.
#[test]
fn a_blip_while_drained_pods_are_replaced_is_not_bad() {
    let mut sim = in_step(Step::Watching);
    sim.run();
    sim.cluster.now += 1;
    sim.boots("b", Component::Storage, Boot::Ready(60));
    for _ in 0..2 {
        sim.replace_pod(Component::Storage, Color::Green, 0);
    }
    sim.run();
    sim.advance(20);
    sim.unready(Component::Schema, Color::Green, 0);
    sim.run();
    sim.advance(1);
    sim.recover(Component::Schema, Color::Green);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_pod_made_in_the_second_of_the_switch_is_a_new_one() {
    let mut sim = in_step(Step::Switching);
    sim.boots("b", Component::Storage, Boot::Ready(20));
    sim.scale_up(Component::Storage, Color::Green);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

/// The dwell time may be longer than the deploy timeout; a selector that another hand turned in it is mended.
#[test]
fn a_long_dwell_is_no_late_switch() {
    let mut sim = Sim::stable();
    (sim.intent.policy.dwell, sim.intent.policy.deploy_timeout) = (300, 60);
    sim.edit("b");
    sim.until(Step::Switching);
    sim.run();
    sim.advance(100);
    sim.drift(Component::Storage, Some(Color::Blue));
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}
