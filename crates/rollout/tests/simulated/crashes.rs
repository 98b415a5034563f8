//! A crash, or the loss of the status, at every write of every scenario (invariants I4, I18, I36; design D6, D14).

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::facts::Cause;
use simulator::{Boot, Sim};

type Start = fn() -> Sim;
type Script = fn(&mut Sim);

fn create(sim: &mut Sim) {
    sim.settle();
}

fn upgrade(sim: &mut Sim) {
    sim.edit("b");
    sim.settle();
}

fn rolled_back_before_the_switch(sim: &mut Sim) {
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
}

fn rolled_back_after_the_switch(sim: &mut Sim) {
    sim.edit("b");
    if sim.reaches(Step::Watching) {
        sim.restart_pod(Component::Storage, Color::Green, 0);
    }
    sim.settle();
}

fn undone(sim: &mut Sim) {
    sim.edit("b");
    sim.reaches(Step::Watching);
    sim.edit("a");
    sim.settle();
}

fn superseded(sim: &mut Sim) {
    sim.edit("b");
    sim.reaches(Step::Deploying);
    sim.run();
    sim.edit("c");
    sim.settle();
}

fn rolled_back_by_hand(sim: &mut Sim) {
    sim.rollback_to("z");
    sim.settle();
}

fn restarted(sim: &mut Sim) {
    sim.restart("now");
    sim.settle();
}

fn retried(sim: &mut Sim) {
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
    sim.boots("b", Component::Storage, Boot::Ready(3));
    sim.retry("now");
    sim.settle();
}

/// `a` serves on green, `z` served before it.
fn with_a_past() -> Sim {
    let mut sim = Sim::new();
    sim.edit("z");
    sim.settle();
    sim.edit("a");
    sim.settle();
    sim.forget();
    sim
}

const SCRIPTS: [(&str, Start, Script); 9] = [
    ("create", Sim::new, create),
    ("upgrade", Sim::stable, upgrade),
    ("rolled back before the switch", Sim::stable, rolled_back_before_the_switch),
    ("rolled back after the switch", Sim::stable, rolled_back_after_the_switch),
    ("undone", Sim::stable, undone),
    ("superseded", Sim::stable, superseded),
    ("rolled back by hand", with_a_past, rolled_back_by_hand),
    ("restarted", with_a_past, restarted),
    ("retried", Sim::stable, retried),
];

/// What must not depend on crashes.
fn outcome(sim: &Sim) -> String {
    let marks: Vec<_> =
        sim.cluster.revisions.iter().map(|known| (&known.version, known.failed.is_some())).collect();
    let counts: Vec<_> =
        ["CreateFront", "Create", "Delete", "Point"].iter().map(|kind| sim.wrote(kind)).collect();
    format!(
        "{} {} {} {} {marks:?} {counts:?} {} {:?}",
        sim.step_name(),
        sim.active(),
        sim.traffic(),
        sim.history(),
        sim.phase(),
        sim.intent.wanted.hash
    )
}

#[test]
fn a_crash_before_any_write_leads_to_the_same_end() {
    for (name, start, script) in SCRIPTS {
        let mut reference = start();
        script(&mut reference);
        let expected = outcome(&reference);
        for backwards in [false, true] {
            for write in 0..reference.total() {
                let mut sim = start();
                (sim.fuse, sim.backwards) = (Some(write), backwards);
                script(&mut sim);
                assert_eq!(sim.fuse, None, "{name}: write {write} was never reached");
                assert_eq!(outcome(&sim), expected, "{name}, crash before write {write}: {}", sim.story());
                sim.stays_quiet();
            }
        }
    }
}

#[test]
fn a_second_crash_right_after_the_first_leads_to_the_same_end() {
    for (name, start, script) in SCRIPTS {
        let mut reference = start();
        script(&mut reference);
        for first in 0..reference.total() - 2 {
            for second in [0, 1] {
                let mut sim = start();
                (sim.fuse, sim.next_fuse) = (Some(first), Some(second));
                script(&mut sim);
                assert_eq!((sim.fuse, sim.next_fuse), (None, None), "{name}");
                assert_eq!(outcome(&sim), outcome(&reference), "{name} {first}+{second}: {}", sim.story());
            }
        }
    }
}

/// After the loss the first thing that is persisted names what serves, and nothing of it has been touched.
fn assert_rebuilt(sim: &mut Sim, name: &str, write: usize) {
    let (serves, pods) = (sim.traffic(), serving_pods(sim));
    let before = sim.trace.len();
    sim.lose_status();
    sim.pass();
    let done: Vec<_> = sim.trace[before..].to_vec();
    assert!(done.len() <= 1 && done.iter().all(|write| write.contains("Commit")), "{name} {write}: {done:?}");
    if serves != "torn" && serves != "none" {
        assert_eq!(sim.active(), serves, "{name}, lost before write {write}: {}", sim.story());
        assert_eq!(serving_pods(sim), pods);
    }
}

fn serving_pods(sim: &Sim) -> Vec<String> {
    let doors = Component::ALL.into_iter().filter_map(|component| {
        let color = sim.cluster.fronts.get(component).as_ref()?.selects?;
        Some(&sim.cluster.cell(component, color).pods)
    });
    doors.flatten().map(|pod| pod.name.clone()).collect()
}

#[test]
fn a_status_lost_before_any_write_ends_on_a_sound_release() {
    for (name, start, script) in SCRIPTS {
        let mut reference = start();
        script(&mut reference);
        for backwards in [false, true] {
            for write in 0..reference.total() {
                let mut sim = start();
                (sim.fuse, sim.takeover, sim.backwards) = (Some(write), 0, backwards);
                sim.crash_loses_status = true;
                script(&mut sim);
                assert_eq!(sim.fuse, None, "{name}: write {write} was never reached");
                assert_sound(&mut sim, &format!("{name}, lost before write {write}"));
            }
        }
    }
}

/// Settled on what the spec says, or on another release because that one failed.
fn assert_sound(sim: &mut Sim, name: &str) {
    let active = sim.active();
    assert_settled_on(sim, &active);
    let serves = sim.record_of(sim.known().active_release_version.as_deref().unwrap()).hash.clone();
    let wanted = sim.intent.wanted.hash.clone();
    let blocked = sim.known().record_of_hash(&wanted).is_some_and(|known| sim.failed(&known.version));
    assert!(serves == wanted || blocked, "{name}: neither served nor blocked {}", sim.story());
    assert_eq!(sim.phase(), if blocked { "Degraded" } else { "Stable" }, "{name}");
}

#[test]
fn a_status_lost_at_any_time_is_rebuilt_at_once_and_names_what_serves() {
    for (name, start, _) in SCRIPTS {
        for write in 0.. {
            let mut sim = start();
            if name != "create" {
                sim.edit("b");
            }
            if !sim.stop_before(write) {
                break;
            }
            assert_rebuilt(&mut sim, name, write);
        }
    }
}

#[test]
fn a_status_lost_in_each_step_goes_on_with_what_serves() {
    let serves = ["a on blue", "a on blue", "a on blue", "b on green", "b on green", "b on green"];
    for (step, serves) in STEPS.into_iter().zip(serves) {
        let mut sim = in_step(step);
        assert_eq!(sim.traffic(), serves, "{step:?}");
        assert_rebuilt(&mut sim, "step", 0);
        sim.settle();
        let blocked = sim.known().record("b").is_some() && sim.failed("b");
        let active = sim.active();
        assert!(active.starts_with("b on ") || blocked || step == Step::Stable, "{step:?}: {}", sim.story());
        assert_settled_on(&mut sim, &active);
    }
}

#[test]
fn torn_fronts_without_a_status_go_to_the_higher_epoch_if_it_is_sound() {
    for sound in [true, false] {
        let mut sim = in_step(Step::Switching);
        assert!(sim.stop_before(1), "one of the two patches is done");
        assert_eq!(sim.traffic(), "torn");
        if !sound {
            sim.unready(Component::Schema, Color::Green, 0);
        }
        sim.lose_status();
        sim.run();
        let (step, expected) =
            if sound { (Step::Switching, "b on green") } else { (Step::RollingBack, "a on blue") };
        assert_eq!((sim.step(), sim.traffic().as_str()), (Some(step), expected), "{}", sim.story());
        sim.recover(Component::Schema, Color::Green);
        sim.settle();
        let active = sim.active();
        assert_settled_on(&mut sim, &active);
        assert!(!sim.failed("a") && !sim.failed("b"));
    }
}

#[test]
fn a_failed_release_stays_blocked_when_the_status_is_lost() {
    let mut sim = Sim::stable();
    rolled_back_before_the_switch(&mut sim);
    assert_eq!(sim.history(), "a:Active b:Failed");
    sim.forget();
    sim.lose_status();
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "a:Active b:Failed", "the guide's [-2] is what serves, as before");
    assert_eq!((sim.wrote("Create"), sim.failed("b")), (0, true), "{}", sim.story());
    assert_eq!(
        (sim.says("SpecApplied").as_str(), sim.says("Stalled").as_str()),
        ("False/RolledBack", "True/RolledBack")
    );
}

#[test]
fn a_settled_status_that_is_lost_comes_back_with_its_history() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.settle();
    let history = sim.history();
    let epoch = sim.known().rollout.as_ref().unwrap().epoch;
    sim.forget();
    sim.lose_status();
    sim.settle();
    assert_settled_on(&mut sim, "c on blue");
    assert_eq!(sim.history(), history);
    assert!(sim.known().rollout.as_ref().unwrap().epoch > epoch);
    assert_eq!((sim.wrote("Create"), sim.wrote("Delete"), sim.moved), (0, 0, 0));
    assert_eq!(sim.wrote("Point"), 2, "the new epoch is stamped on both");
    sim.rollback_to("b");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_status_without_the_machines_part_is_rebuilt() {
    let mut sim = Sim::upgraded();
    sim.lose_status();
    sim.status = Some(api::status::MetadataServicesStatus::default());
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_status_that_does_not_hang_together_is_rebuilt() {
    type Edit = fn(&mut api::status::MetadataServicesStatus);
    let edits: [Edit; 4] = [
        |status| status.release_history.clear(),
        |status| status.active_strategy = None,
        |status| status.rollout.as_mut().unwrap().step = Step::Switching,
        |status| status.rollout.as_mut().unwrap().step = Step::Watching,
    ];
    for (which, edit) in edits.iter().enumerate() {
        let mut sim = Sim::upgraded();
        let mut status = sim.known().clone();
        edit(&mut status);
        sim.lose_status();
        let rebuilt = rollout::plan(&sim.intent, Some(&status), &sim.facts(), sim.now());
        let rollout::Effect::UpdateStatus(rebuilt) = rebuilt.effect else { panic!("{which}: {rebuilt:?}") };
        assert_eq!(rebuilt.active_release_version.as_deref(), Some("b"), "{which}");
        assert_eq!(rebuilt.rollout.unwrap().step, Step::Stable, "{which}");
    }
}

#[test]
fn a_failed_template_is_tried_as_a_first_release_when_nothing_serves_any_more() {
    let mut sim = Sim::stable();
    rolled_back_before_the_switch(&mut sim);
    assert!(sim.failed("b"));
    for color in Color::ALL {
        *sim.cluster.cells.get_mut(color) = api::names::PerComponent::default();
    }
    sim.cluster.fronts = api::names::PerComponent::default();
    sim.boots("b", Component::Storage, Boot::Ready(3));
    sim.lose_status();
    sim.settle();
    assert_settled_on(&mut sim, "b on blue");
}

#[test]
fn a_step_of_a_newer_version_is_left_alone() {
    let mut sim = Sim::upgraded();
    sim.status.as_mut().unwrap().rollout.as_mut().unwrap().step = Step::Unknown;
    sim.edit("c");
    sim.drift(Component::Storage, None);
    assert_eq!(sim.run(), None);
    assert_eq!(sim.total(), 0);
}

#[test]
fn what_is_deleted_slowly_is_waited_for() {
    for orphaned in [true, false] {
        let mut sim = in_step(Step::Prune);
        sim.cluster.deletes_held = true;
        sim.advance(500);
        assert_eq!(sim.step(), Some(Step::Prune), "{}", sim.story());
        assert_eq!(sim.wrote("Delete"), 6, "each is deleted once");
        if orphaned {
            sim.edit("c");
            sim.advance(60);
            assert_eq!(sim.step(), Some(Step::Prune), "c does not start among the pods of a");
        }
        sim.cluster.deletes_held = false;
        sim.cluster.collect();
        sim.settle();
        assert_settled_on(&mut sim, if orphaned { "c on blue" } else { "b on green" });
    }
}
