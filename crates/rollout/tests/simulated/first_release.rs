//! The first release and a plain upgrade: steps, times and number of writes (invariant I31).
//!
//! Covers `steps.rs`, `steps/deploying.rs` and `transition.rs`.

use super::assert_settled_on;
use api::names::{Color, Component};
use api::status::{RecordStatus, Step};
use rollout::facts::Cause;
use rollout::{Effect, EventReason};
use simulator::{Sim, Startup};

#[test]
fn the_first_release_serves_without_grace_period_or_dwell() {
    let mut sim = Sim::new();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "a:Active");
    assert_eq!(sim.record_of("a").activated_at.as_ref().unwrap().0.as_second() - simulator::START, 3);
    assert!(sim.write_count() <= 15, "{:?}", sim.writes);
    assert_eq!(sim.phase(), "Stable");
}

#[test]
fn status_comes_first_then_front_services_then_the_color() {
    let mut sim = Sim::new();
    let first = sim.reconcile();
    let Effect::UpdateStatus(status) = first.effect else { panic!("{first:?}") };
    assert_eq!(status.deployment_phase.as_deref(), Some("Deploying"));
    assert_eq!((status.pending_strategy, status.active_strategy), (Some(Color::Blue), None));
    sim.reconcile();
    assert_eq!((sim.wrote("CreateFront"), sim.wrote("Create")), (2, 0));
    for component in Component::ALL {
        let front = sim.cluster.fronts.get(component).clone().unwrap();
        assert_eq!(
            (front.selects, front.epoch, front.version),
            (None, 0, None),
            "{component} selects nothing yet"
        );
    }
}

#[test]
fn an_upgrade_uses_the_other_color_and_deletes_the_old_one() {
    let mut sim = Sim::stable();
    sim.edit("b");
    let first = sim.reconcile();
    let Effect::UpdateStatus(status) = first.effect else { panic!("{first:?}") };
    assert_eq!(status.deployment_phase.as_deref(), Some("Deploying"), "C42: the first write");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.history(), "a:Superseded b:Active");
    assert!(!sim.has_objects(Color::Blue));
    assert!(sim.write_count() <= 22, "{:?}", sim.writes);
    assert_eq!((sim.wrote("Create"), sim.wrote("Delete"), sim.wrote("Route")), (6, 6, 2));
    let reasons = [
        EventReason::ReleaseStarted,
        EventReason::ReleaseReady,
        EventReason::TrafficSwitched,
        EventReason::CleanupDone,
    ];
    assert!(reasons.iter().all(|reason| sim.event_count(*reason) == 1), "{:?}", sim.notes);
    assert!(sim.event_total() <= 6, "I44: {:?}", sim.notes);
}

#[test]
fn an_upgrade_takes_the_documented_time() {
    let mut sim = Sim::stable();
    sim.edit("b");
    let start = sim.cluster.now;
    for (step, second) in [(Step::Switching, 3 + 120), (Step::Watching, 133), (Step::Prune, 163)] {
        sim.until(step);
        assert_eq!(sim.cluster.now - start, second, "{step:?}");
    }
}

#[test]
fn the_pending_color_starts_with_the_active_replica_count() {
    let mut sim = Sim::stable();
    sim.scale_up(Component::Storage, Color::Blue);
    sim.advance(5);
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.cluster.cell(Component::Storage, Color::Green).pods.len(), 3);
}

#[test]
fn a_resource_at_rest_is_not_written() {
    let mut sim = Sim::upgraded();
    sim.assert_stays_idle();
    assert_eq!(sim.write_count(), 0);
}

#[test]
fn a_failed_first_release_stays_and_can_recover() {
    let mut sim = Sim::new();
    sim.fail_startup("a", Cause::ImagePull);
    sim.run_until_idle();
    assert_eq!((sim.step(), sim.phase()), (Some(Step::Deploying), "Failed"), "{}", sim.trace_text());
    assert_eq!(sim.condition_state("Stalled"), "True/ImagePullFailed");
    assert_eq!(sim.condition_state("Reconciling"), "False/Settled");
    assert_eq!(sim.record_of("a").status, RecordStatus::Pending);
    sim.assert_stays_idle();
    assert_eq!(sim.wrote("Delete"), 0);
    sim.recover(Component::Storage, Color::Blue);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.phase(), "Stable");
    assert_eq!(sim.record_of("a").reason, None, "the reason is cleared after the recovery");
}

#[test]
fn a_first_release_past_its_timeout_is_reported_and_can_recover() {
    let mut sim = Sim::new();
    sim.set_startup("a", Component::Schema, Startup::Fails(Cause::Unschedulable));
    sim.advance(599);
    assert_eq!(sim.phase(), "Deploying");
    sim.advance(1);
    assert_eq!(sim.phase(), "Failed", "{}", sim.trace_text());
    sim.assert_stays_idle();
    sim.recover(Component::Schema, Color::Blue);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_failing_first_release_is_replaced_by_a_new_spec() {
    for wait in [0, 1, 121, 700] {
        let mut sim = Sim::new();
        sim.fail_startup("a", Cause::Crash);
        sim.advance(wait);
        sim.edit("b");
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on blue");
        assert!(!sim.failed("a"), "a first release is never blocked");
        assert!(
            sim.cluster.revisions.iter().all(|known| known.version == "b"),
            "{:?}",
            sim.cluster.revisions
        );
    }
}

#[test]
fn a_first_release_switches_although_it_is_unhealthy() {
    let mut sim = Sim::new();
    sim.until(Step::Switching);
    sim.make_all_unready(Component::Storage, Color::Blue);
    sim.run_until_idle();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Stable), "a on blue"));
    assert_eq!((sim.condition_state("Ready").as_str(), sim.phase()), ("False/NotServing", "Degraded"));
    sim.assert_stays_idle();
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}
