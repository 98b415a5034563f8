//! Deploying: the grace period, and the causes and times of a failure before the switch (design D8, D9).
//!
//! Covers `steps/deploying.rs` and `assessment.rs`.

use super::{assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::EventReason;
use rollout::facts::Cause;
use simulator::{Sim, Startup};

const HARD: [Cause; 7] = [
    Cause::InvalidImage,
    Cause::ImagePull,
    Cause::ContainerConfig,
    Cause::ContainerStart,
    Cause::Crash,
    Cause::Quota,
    Cause::PodsRefused,
];

fn failing(component: Component, cause: Cause) -> Sim {
    let mut sim = Sim::stable();
    sim.set_startup("b", component, Startup::Fails(cause));
    sim.edit("b");
    sim
}

#[test]
fn hard_causes_fail_a_release_exactly_at_the_threshold() {
    for component in Component::ALL {
        for cause in HARD {
            let mut sim = failing(component, cause);
            sim.advance(119);
            assert_eq!(sim.step(), Some(Step::Deploying), "{cause:?}: {}", sim.trace_text());
            sim.advance(1);
            sim.run_until_idle();
            assert_settled_on(&mut sim, "a on blue");
            assert_eq!(sim.record_of("b").reason.as_deref(), Some(cause.reason()));
            let message = sim.record_of("b").message.clone().unwrap();
            assert!(message.starts_with(component.as_str()) && message.contains(cause.remedy()), "{message}");
            assert!(!sim.has_objects(Color::Green));
            assert_eq!(sim.selector_changes, 0, "no selector changed");
            assert!(sim.write_count() <= 20, "{:?}", sim.writes);
            assert_eq!(
                (sim.event_count(EventReason::RolloutFailed), sim.event_count(EventReason::RolledBack)),
                (1, 1)
            );
            assert!(sim.event_total() <= 6, "I44: {:?}", sim.notes);
        }
    }
}

#[test]
fn a_soft_cause_fails_a_release_only_at_the_timeout() {
    for cause in [Cause::Unschedulable, Cause::NotReady, Cause::Sidecar, Cause::ProgressDeadline] {
        let mut sim = failing(Component::Schema, cause);
        sim.advance(599);
        assert_eq!(sim.step(), Some(Step::Deploying), "{cause:?}: {}", sim.trace_text());
        sim.advance(1);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "a on blue");
        let record = sim.record_of("b");
        // The message of the Deployment says less than the Pod.
        let told = if cause == Cause::ProgressDeadline { Cause::NotReady } else { cause };
        assert_eq!(record.reason.as_deref(), Some(told.reason()));
        assert!(
            record.message.as_ref().unwrap().starts_with("not ready within 600 s: schema: "),
            "{record:?}"
        );
    }
}

#[test]
fn alternating_problems_do_not_reset_the_failure_timer() {
    let mut sim = failing(Component::Storage, Cause::Crash);
    for second in 0..119 {
        let signal =
            [Some(Cause::Crash), None, Some(Cause::ImagePull), Some(Cause::Unschedulable)][second % 4];
        sim.set_problem(Component::Storage, Color::Green, signal);
        sim.advance(1);
        assert_eq!(sim.step(), Some(Step::Deploying), "second {second}");
    }
    sim.advance(1);
    sim.run_until_idle();
    assert!(sim.failed("b"), "{}", sim.trace_text());
}

#[test]
fn only_a_complete_component_clears_its_failure_timer() {
    for (index, cleared) in [(1, false), (0, true)] {
        let mut sim = failing(Component::Storage, Cause::Crash);
        sim.set_startup("b", Component::Schema, Startup::Ready(400));
        sim.advance(60);
        sim.recover(Component::Storage, Color::Green);
        if !cleared {
            sim.make_unready(Component::Storage, Color::Green, index);
        }
        sim.advance(100);
        let expected = if cleared { Some(Step::Deploying) } else { Some(Step::Stable) };
        assert_eq!(sim.step(), expected, "cleared: {cleared}, {}", sim.trace_text());
    }
}

#[test]
fn each_component_has_its_own_failure_timer() {
    let mut sim = failing(Component::Storage, Cause::Crash);
    sim.set_startup("b", Component::Schema, Startup::Fails(Cause::ImagePull));
    sim.advance(100);
    sim.recover(Component::Storage, Color::Green);
    sim.advance(19);
    assert_eq!(sim.step(), Some(Step::Deploying));
    sim.advance(1);
    sim.run_until_idle();
    assert!(sim.failed("b"), "schema failed for 120 s: {}", sim.trace_text());
    assert_eq!(
        sim.record_of("b").reason.as_deref(),
        Some("ImagePullFailed"),
        "the reason names the failing component"
    );
}

#[test]
fn a_flap_restarts_the_grace_period() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(100);
    sim.make_unready(Component::Schema, Color::Green, 0);
    sim.advance(10);
    sim.recover(Component::Schema, Color::Green);
    sim.advance(119);
    assert_eq!(sim.step(), Some(Step::Deploying), "{}", sim.trace_text());
    sim.advance(1);
    assert_eq!(sim.step(), Some(Step::Switching), "{}", sim.trace_text());
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_flap_between_reconciles_restarts_the_grace_period() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(100);
    sim.cluster.now += 5;
    sim.make_unready(Component::Schema, Color::Green, 0);
    sim.cluster.now += 5;
    sim.recover(Component::Schema, Color::Green);
    sim.cluster.now += 5;
    sim.run();
    sim.advance(114);
    assert_eq!(sim.step(), Some(Step::Deploying), "{}", sim.trace_text());
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_release_that_keeps_flapping_fails_at_the_timeout() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.advance(3);
    for _ in 0..12 {
        sim.advance(55);
        if sim.step() == Some(Step::Deploying) && sim.has_objects(Color::Green) {
            sim.make_unready(Component::Storage, Color::Green, 0);
            sim.advance(1);
        }
        if sim.step() == Some(Step::Deploying) && sim.has_objects(Color::Green) {
            sim.recover(Component::Storage, Color::Green);
        }
    }
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"), "{}", sim.trace_text());
}

#[test]
fn without_automatic_rollback_a_failing_release_can_recover() {
    for cause in [Cause::Crash, Cause::Unschedulable] {
        let mut sim = failing(Component::Storage, cause);
        sim.intent.policy.auto_rollback = false;
        sim.run_until_idle();
        assert_eq!((sim.step(), sim.phase()), (Some(Step::Deploying), "Degraded"), "{}", sim.trace_text());
        assert!(sim.condition_state("Stalled").starts_with("True/"), "{}", sim.condition_state("Stalled"));
        assert_eq!(
            (sim.condition_state("Ready").as_str(), sim.traffic().as_str()),
            ("True/Serving", "a on blue")
        );
        sim.assert_stays_idle();
        sim.recover(Component::Storage, Color::Green);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
        assert_eq!(sim.condition_state("Stalled"), "False/None");
    }
}

#[test]
fn foreign_pods_behind_the_selector_delay_the_switch() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    let mut stray = sim.cluster.cell(Component::Storage, Color::Green).pods[0].clone();
    (stray.name, stray.version) = ("stray".into(), "x".into());
    sim.cluster.cell_mut(Component::Storage, Color::Green).pods.push(stray);
    sim.advance(400);
    assert_eq!((sim.step(), sim.wrote("Route")), (Some(Step::Deploying), 0), "{}", sim.trace_text());
    sim.cluster.cell_mut(Component::Storage, Color::Green).pods.retain(|pod| pod.name != "stray");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn the_grace_period_waits_for_the_observed_generation() {
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
    assert_eq!(sim.step(), Some(Step::Switching), "{}", sim.trace_text());
}

#[test]
fn a_terminating_pending_deployment_fails_at_the_timeout() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    sim.cluster.cell_mut(Component::Storage, Color::Green).terminating = true;
    sim.advance(599);
    assert_eq!(sim.step(), Some(Step::Deploying), "{}", sim.trace_text());
    sim.advance(1);
    assert_eq!((sim.step(), sim.failed("b")), (Some(Step::Prune), true), "{}", sim.trace_text());
    sim.cluster.delete_deployment(Component::Storage, Color::Green);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

/// All Pods were ready in time. Then a Pod is added or replaced shortly before the switch.
#[test]
fn readiness_lost_late_in_the_grace_period_may_recover() {
    for soak in [120, 1_800] {
        for scaled in [true, false] {
            let mut sim = Sim::stable();
            sim.intent.policy.grace = soak;
            sim.set_startup("b", Component::Storage, Startup::Ready(520));
            sim.edit("b");
            sim.advance(610);
            assert_eq!(
                (
                    sim.condition_state("Progressing").as_str(),
                    sim.condition_state("Stalled").as_str(),
                    sim.phase()
                ),
                ("True/GracePeriod", "False/None", "Deploying"),
                "all pods are ready"
            );
            sim.set_startup("b", Component::Storage, Startup::Ready(20));
            if scaled {
                sim.scale_up(Component::Storage, Color::Green);
            } else {
                sim.replace_pod(Component::Storage, Color::Green, 0);
            }
            sim.run_until_idle();
            assert_settled_on(&mut sim, "b on green");
        }
    }
}

/// The operator grants the additional time only once.
#[test]
fn a_release_that_flaps_during_the_timeout_fails() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    for _ in 0..40 {
        sim.advance(40);
        if sim.step() != Some(Step::Deploying) {
            break;
        }
        sim.make_unready(Component::Storage, Color::Green, 0);
        sim.advance(5);
        sim.recover(Component::Storage, Color::Green);
    }
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"));
}

/// Prune would start the release again, but the spec does not ask for it any more.
#[test]
fn a_dirty_color_leaves_no_unwanted_pending_release() {
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
        sim.reset_counters();
        sim.run_until_idle();
        let history = if paused { "a:Active b:Superseded" } else { "b:Superseded a:Active" };
        assert_eq!(sim.history(), history, "{}", sim.trace_text());
        assert_eq!(sim.event_count(EventReason::StatusRebuilt), 0);
    }
}

/// A signal that ended is no cause: the image was pulled at the second attempt, and the container takes its time to start.
#[test]
fn a_release_that_starts_after_a_failure_is_not_condemned_for_it() {
    let mut sim = failing(Component::Storage, Cause::ImagePull);
    sim.advance(10);
    assert_eq!(sim.status.as_ref().unwrap().record("b").unwrap().reason.as_deref(), Some("ImagePullFailed"));
    sim.set_problem(Component::Storage, Color::Green, None);
    sim.advance(300);
    let record = sim.status.as_ref().unwrap().record("b").cloned().unwrap();
    assert_eq!((sim.step(), record.reason), (Some(Step::Deploying), None), "{}", sim.trace_text());
    sim.recover(Component::Storage, Color::Green);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// A container that has restarted may alternate between running and waiting: the failure lasts.
#[test]
fn a_crash_loop_is_no_start() {
    let mut sim = failing(Component::Storage, Cause::Crash);
    sim.advance(10);
    sim.set_problem(Component::Storage, Color::Green, None);
    sim.advance(130);
    assert!(sim.failed("b"), "{}", sim.trace_text());
}
