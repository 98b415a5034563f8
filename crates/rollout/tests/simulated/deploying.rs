//! Deploying: the grace period, what fails a release before the switch, and when (design D8, D9).

use super::{assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::EventReason;
use rollout::facts::Cause;
use simulator::{Boot, Sim};

const HARD: [Cause; 8] = [
    Cause::InvalidImage,
    Cause::ImagePull,
    Cause::ContainerConfig,
    Cause::ContainerStart,
    Cause::Crash,
    Cause::Quota,
    Cause::PodsRefused,
    Cause::ProgressDeadline,
];

fn failing(component: Component, cause: Cause) -> Sim {
    let mut sim = Sim::stable();
    sim.boots("b", component, Boot::Fails(cause));
    sim.edit("b");
    sim
}

#[test]
fn every_hard_cause_fails_a_release_at_the_threshold_and_not_before() {
    for component in Component::ALL {
        for cause in HARD {
            let mut sim = failing(component, cause);
            sim.advance(119);
            assert_eq!(sim.step(), Some(Step::Deploying), "{cause:?}: {}", sim.story());
            sim.advance(1);
            sim.settle();
            assert_settled_on(&mut sim, "a on blue");
            assert_eq!(sim.record_of("b").reason.as_deref(), Some(cause.reason()));
            let message = sim.record_of("b").message.clone().unwrap();
            assert!(message.starts_with(component.as_str()) && message.contains(cause.remedy()), "{message}");
            assert!(!sim.has_objects(Color::Green));
            assert_eq!(sim.moved, 0, "traffic was never touched");
            assert!(sim.total() <= 20, "{:?}", sim.writes);
            assert_eq!((sim.told(EventReason::RolloutFailed), sim.told(EventReason::RolledBack)), (1, 1));
            assert!(sim.events() <= 6, "I44: {:?}", sim.notes);
        }
    }
}

#[test]
fn a_soft_cause_fails_a_release_only_at_the_timeout() {
    for cause in [Cause::Unschedulable, Cause::NotReady] {
        let mut sim = failing(Component::Schema, cause);
        sim.advance(599);
        assert_eq!(sim.step(), Some(Step::Deploying), "{cause:?}: {}", sim.story());
        sim.advance(1);
        sim.settle();
        assert_settled_on(&mut sim, "a on blue");
        let record = sim.record_of("b");
        assert_eq!(record.reason.as_deref(), Some(cause.reason()));
        assert!(
            record.message.as_ref().unwrap().starts_with("not ready within 600 s: schema: "),
            "{record:?}"
        );
    }
}

#[test]
fn alternating_signals_do_not_reset_the_failing_clock() {
    let mut sim = failing(Component::Storage, Cause::Crash);
    for second in 0..119 {
        let signal =
            [Some(Cause::Crash), None, Some(Cause::ImagePull), Some(Cause::Unschedulable)][second % 4];
        sim.suffer(Component::Storage, Color::Green, signal);
        sim.advance(1);
        assert_eq!(sim.step(), Some(Step::Deploying), "second {second}");
    }
    sim.advance(1);
    sim.settle();
    assert!(sim.failed("b"), "{}", sim.story());
}

#[test]
fn a_partly_ready_component_does_not_clear_its_clock_but_a_complete_one_does() {
    for (index, cleared) in [(1, false), (0, true)] {
        let mut sim = failing(Component::Storage, Cause::Crash);
        sim.boots("b", Component::Schema, Boot::Ready(400));
        sim.advance(60);
        sim.recover(Component::Storage, Color::Green);
        if !cleared {
            sim.unready(Component::Storage, Color::Green, index);
        }
        sim.advance(100);
        let expected = if cleared { Some(Step::Deploying) } else { Some(Step::Stable) };
        assert_eq!(sim.step(), expected, "cleared: {cleared}, {}", sim.story());
    }
}

#[test]
fn the_clocks_of_the_components_are_their_own() {
    let mut sim = failing(Component::Storage, Cause::Crash);
    sim.boots("b", Component::Schema, Boot::Fails(Cause::ImagePull));
    sim.advance(100);
    sim.recover(Component::Storage, Color::Green);
    sim.advance(19);
    assert_eq!(sim.step(), Some(Step::Deploying));
    sim.advance(1);
    sim.settle();
    assert!(sim.failed("b"), "schema failed for 120 s: {}", sim.story());
    assert_eq!(
        sim.record_of("b").reason.as_deref(),
        Some("ImagePullFailed"),
        "the reason is the failing component's"
    );
}

#[test]
fn a_flap_starts_the_grace_period_anew() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(100);
    sim.unready(Component::Schema, Color::Green, 0);
    sim.advance(10);
    sim.recover(Component::Schema, Color::Green);
    sim.advance(119);
    assert_eq!(sim.step(), Some(Step::Deploying), "{}", sim.story());
    sim.advance(1);
    assert_eq!(sim.step(), Some(Step::Switching), "{}", sim.story());
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_flap_that_no_pass_saw_starts_the_grace_period_anew() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(100);
    sim.cluster.now += 5;
    sim.unready(Component::Schema, Color::Green, 0);
    sim.cluster.now += 5;
    sim.recover(Component::Schema, Color::Green);
    sim.cluster.now += 5;
    sim.run();
    sim.advance(114);
    assert_eq!(sim.step(), Some(Step::Deploying), "{}", sim.story());
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_release_that_flaps_for_ever_fails_at_the_timeout() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(3);
    for _ in 0..12 {
        sim.advance(55);
        if sim.step() == Some(Step::Deploying) && sim.has_objects(Color::Green) {
            sim.unready(Component::Storage, Color::Green, 0);
            sim.advance(1);
        }
        if sim.step() == Some(Step::Deploying) && sim.has_objects(Color::Green) {
            sim.recover(Component::Storage, Color::Green);
        }
    }
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"), "{}", sim.story());
}

#[test]
fn with_automatic_rollback_off_a_failing_release_stays_degraded_and_heals() {
    for cause in [Cause::Crash, Cause::Unschedulable] {
        let mut sim = failing(Component::Storage, cause);
        sim.intent.policy.auto_rollback = false;
        sim.settle();
        assert_eq!((sim.step(), sim.phase()), (Some(Step::Deploying), "Degraded"), "{}", sim.story());
        assert!(sim.says("Stalled").starts_with("True/"), "{}", sim.says("Stalled"));
        assert_eq!((sim.says("Ready").as_str(), sim.traffic().as_str()), ("True/Serving", "a on blue"));
        sim.stays_quiet();
        sim.recover(Component::Storage, Color::Green);
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
        assert_eq!(sim.says("Stalled"), "False/None");
    }
}

#[test]
fn strays_behind_the_selector_hold_the_switch_up() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    let mut stray = sim.cluster.cell(Component::Storage, Color::Green).pods[0].clone();
    (stray.name, stray.version) = ("stray".into(), "x".into());
    sim.cluster.cell_mut(Component::Storage, Color::Green).pods.push(stray);
    sim.advance(400);
    assert_eq!((sim.step(), sim.wrote("Point")), (Some(Step::Deploying), 0), "{}", sim.story());
    sim.cluster.cell_mut(Component::Storage, Color::Green).pods.retain(|pod| pod.name != "stray");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn an_unobserved_generation_holds_the_grace_period_up() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    let observe = |sim: &mut Sim, seen| {
        let cell = sim.cluster.cell_mut(Component::Schema, Color::Green);
        cell.deployment.as_mut().unwrap().observed = seen;
    };
    observe(&mut sim, false);
    sim.advance(300);
    assert_eq!(sim.step(), Some(Step::Deploying));
    observe(&mut sim, true);
    sim.advance(119);
    assert_eq!(sim.step(), Some(Step::Deploying));
    sim.advance(1);
    assert_eq!(sim.step(), Some(Step::Switching), "{}", sim.story());
}

#[test]
fn a_pending_deployment_that_does_not_go_is_late_like_anything_else() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    sim.cluster.cell_mut(Component::Storage, Color::Green).terminating = true;
    sim.advance(599);
    assert_eq!(sim.step(), Some(Step::Deploying), "{}", sim.story());
    sim.advance(1);
    assert_eq!((sim.step(), sim.failed("b")), (Some(Step::Prune), true), "{}", sim.story());
    sim.cluster.delete_deployment(Component::Storage, Color::Green);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

/// It was slow, but in time; then a pod is added or replaced shortly before the switch.
#[test]
fn readiness_lost_late_in_the_grace_period_is_given_time() {
    for soak in [120, 1_800] {
        for scaled in [true, false] {
            let mut sim = Sim::stable();
            sim.intent.policy.grace = soak;
            sim.boots("b", Component::Storage, Boot::Ready(520));
            sim.edit("b");
            sim.advance(610);
            assert_eq!(
                (sim.says("Progressing").as_str(), sim.says("Stalled").as_str(), sim.phase()),
                ("True/GracePeriod", "False/None", "Deploying"),
                "all pods are ready"
            );
            sim.boots("b", Component::Storage, Boot::Ready(20));
            if scaled {
                sim.scale_up(Component::Storage, Color::Green);
            } else {
                sim.replace_pod(Component::Storage, Color::Green, 0);
            }
            sim.settle();
            assert_settled_on(&mut sim, "b on green");
        }
    }
}

/// That time is given once.
#[test]
fn a_release_that_comes_and_goes_fails_in_the_end() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    for _ in 0..40 {
        sim.advance(40);
        if sim.step() != Some(Step::Deploying) {
            break;
        }
        sim.unready(Component::Storage, Color::Green, 0);
        sim.advance(5);
        sim.recover(Component::Storage, Color::Green);
    }
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"));
}

/// What was to be begun anew on a clean color is not wanted any more.
#[test]
fn a_dirty_color_leaves_no_attempt_behind_that_nobody_wants() {
    for paused in [true, false] {
        let mut sim = in_step(Step::Deploying);
        sim.run();
        sim.cluster.cell_mut(Component::Schema, Color::Green).service.as_mut().unwrap().epoch = 1;
        sim.until(Step::Prune);
        if paused {
            sim.pause(true);
        } else {
            sim.edit("a");
        }
        sim.forget();
        sim.settle();
        let history = if paused { "a:Active b:Superseded" } else { "b:Superseded a:Active" };
        assert_eq!(sim.history(), history, "{}", sim.story());
        assert_eq!(sim.told(EventReason::StatusRebuilt), 0);
    }
}
