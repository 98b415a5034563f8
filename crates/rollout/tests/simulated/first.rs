//! The first release and the plain upgrade: which steps there are, and what they cost (invariant I31).

use super::assert_settled_on;
use api::names::{Color, Component};
use api::status::{RecordStatus, Step};
use rollout::facts::Cause;
use rollout::{Effect, EventReason};
use simulator::{Boot, Sim};

#[test]
fn the_first_release_comes_to_serve_without_grace_or_dwell() {
    let mut sim = Sim::new();
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "a:Active");
    assert_eq!(sim.record_of("a").activated_at.as_ref().unwrap().0.as_second() - simulator::START, 3);
    assert!(sim.total() <= 15, "{:?}", sim.writes);
    assert_eq!(sim.phase(), "Stable");
}

#[test]
fn the_first_write_is_the_phase_and_the_fronts_come_before_the_color() {
    let mut sim = Sim::new();
    let first = sim.pass();
    let Effect::UpdateStatus(status) = first.effect else { panic!("{first:?}") };
    assert_eq!(status.deployment_phase.as_deref(), Some("Deploying"));
    assert_eq!((status.pending_strategy, status.active_strategy), (Some(Color::Blue), None));
    sim.pass();
    assert_eq!((sim.wrote("CreateFront"), sim.wrote("Create")), (2, 0));
    for component in Component::ALL {
        let door = sim.cluster.fronts.get(component).clone().unwrap();
        assert_eq!(
            (door.selects, door.epoch, door.version),
            (None, 0, None),
            "{component} selects nothing yet"
        );
    }
}

#[test]
fn an_upgrade_goes_to_the_other_color_and_leaves_nothing_behind() {
    let mut sim = Sim::stable();
    sim.edit("b");
    let first = sim.pass();
    let Effect::UpdateStatus(status) = first.effect else { panic!("{first:?}") };
    assert_eq!(status.deployment_phase.as_deref(), Some("Deploying"), "C42: the first write");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.history(), "a:Superseded b:Active");
    assert!(!sim.has_objects(Color::Blue));
    assert!(sim.total() <= 22, "{:?}", sim.writes);
    assert_eq!((sim.wrote("Create"), sim.wrote("Delete"), sim.wrote("Point")), (6, 6, 2));
    let told = [
        EventReason::ReleaseStarted,
        EventReason::ReleaseReady,
        EventReason::TrafficSwitched,
        EventReason::CleanupDone,
    ];
    assert!(told.iter().all(|what| sim.told(*what) == 1), "{:?}", sim.notes);
    assert!(sim.events() <= 6, "I44: {:?}", sim.notes);
}

#[test]
fn an_upgrade_takes_the_times_of_the_guide() {
    let mut sim = Sim::stable();
    sim.edit("b");
    let start = sim.cluster.now;
    for (step, second) in [(Step::Switching, 3 + 120), (Step::Watching, 133), (Step::Prune, 163)] {
        sim.until(step);
        assert_eq!(sim.cluster.now - start, second, "{step:?}");
    }
}

#[test]
fn a_pending_color_starts_as_big_as_the_serving_one() {
    let mut sim = Sim::stable();
    sim.scale_up(Component::Storage, Color::Blue);
    sim.advance(5);
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.cluster.cell(Component::Storage, Color::Green).pods.len(), 3);
}

#[test]
fn a_settled_resource_is_not_written() {
    let mut sim = Sim::upgraded();
    sim.stays_quiet();
    assert_eq!(sim.total(), 0);
}

#[test]
fn a_first_release_that_fails_stays_quietly_and_heals() {
    let mut sim = Sim::new();
    sim.breaks("a", Cause::ImagePull);
    sim.settle();
    assert_eq!((sim.step(), sim.phase()), (Some(Step::Deploying), "Failed"), "{}", sim.story());
    assert_eq!(sim.says("Stalled"), "True/ImagePullFailed");
    assert_eq!(sim.says("Reconciling"), "False/Settled");
    assert_eq!(sim.record_of("a").status, RecordStatus::Pending);
    sim.stays_quiet();
    assert_eq!(sim.wrote("Delete"), 0);
    sim.recover(Component::Storage, Color::Blue);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.phase(), "Stable");
    assert_eq!(sim.record_of("a").reason, None, "what is healed is not blamed any more");
}

#[test]
fn a_first_release_that_is_never_ready_says_so_at_the_timeout_and_heals() {
    let mut sim = Sim::new();
    sim.boots("a", Component::Schema, Boot::Fails(Cause::Unschedulable));
    sim.advance(599);
    assert_eq!(sim.phase(), "Deploying");
    sim.advance(1);
    assert_eq!(sim.phase(), "Failed", "{}", sim.story());
    sim.stays_quiet();
    sim.recover(Component::Schema, Color::Blue);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_failing_first_release_is_replaced_by_a_new_spec() {
    for wait in [0, 1, 121, 700] {
        let mut sim = Sim::new();
        sim.breaks("a", Cause::Crash);
        sim.advance(wait);
        sim.edit("b");
        sim.settle();
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
fn a_first_release_switches_even_when_it_breaks_in_switching() {
    let mut sim = Sim::new();
    sim.until(Step::Switching);
    sim.all_unready(Component::Storage, Color::Blue);
    sim.settle();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Stable), "a on blue"));
    assert_eq!((sim.says("Ready").as_str(), sim.phase()), ("False/NotServing", "Degraded"));
    sim.stays_quiet();
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}
