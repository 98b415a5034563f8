//! A crash, or the loss of the status, at every write of every scenario (invariants I4, I18, I36; design D6, D14).
//!
//! Covers `recovery.rs` and the order of writes in `steps`.

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::facts::Cause;
use simulator::{Sim, Startup};

type Setup = fn() -> Sim;
type Script = fn(&mut Sim);

fn create(sim: &mut Sim) {
    sim.run_until_idle();
}

fn upgrade(sim: &mut Sim) {
    sim.edit("b");
    sim.run_until_idle();
}

fn rolled_back_before_the_switch(sim: &mut Sim) {
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
}

fn rolled_back_after_the_switch(sim: &mut Sim) {
    sim.edit("b");
    if sim.reaches(Step::Watching) {
        sim.restart_pod(Component::Storage, Color::Green, 0);
    }
    sim.run_until_idle();
}

fn undone(sim: &mut Sim) {
    sim.edit("b");
    sim.reaches(Step::Watching);
    sim.edit("a");
    sim.run_until_idle();
}

fn superseded(sim: &mut Sim) {
    sim.edit("b");
    sim.reaches(Step::Deploying);
    sim.run();
    sim.edit("c");
    sim.run_until_idle();
}

fn rolled_back_by_request(sim: &mut Sim) {
    sim.rollback_to("z");
    sim.run_until_idle();
}

fn restarted(sim: &mut Sim) {
    sim.restart("now");
    sim.run_until_idle();
}

fn retried(sim: &mut Sim) {
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
    sim.set_startup("b", Component::Storage, Startup::Ready(3));
    sim.retry("now");
    sim.run_until_idle();
}

/// Returns a resource with `a` active on green, and `z` before it.
fn with_previous_release() -> Sim {
    let mut sim = Sim::new();
    sim.edit("z");
    sim.run_until_idle();
    sim.edit("a");
    sim.run_until_idle();
    sim.reset_counters();
    sim
}

const SCRIPTS: [(&str, Setup, Script); 9] = [
    ("create", Sim::new, create),
    ("upgrade", Sim::stable, upgrade),
    ("rolled back before the switch", Sim::stable, rolled_back_before_the_switch),
    ("rolled back after the switch", Sim::stable, rolled_back_after_the_switch),
    ("undone", Sim::stable, undone),
    ("superseded", Sim::stable, superseded),
    ("rolled back by request", with_previous_release, rolled_back_by_request),
    ("restarted", with_previous_release, restarted),
    ("retried", Sim::stable, retried),
];

/// Returns the part of the end that must not depend on crashes.
fn outcome(sim: &Sim) -> String {
    let marks: Vec<_> =
        sim.cluster.revisions.iter().map(|known| (&known.version, known.failed.is_some())).collect();
    let counts: Vec<_> =
        ["CreateFront", "Create", "Delete", "Route"].iter().map(|kind| sim.wrote(kind)).collect();
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
        for reversed in [false, true] {
            for write in 0..reference.write_count() {
                let mut sim = start();
                (sim.crash_after, sim.reversed) = (Some(write), reversed);
                script(&mut sim);
                assert_eq!(sim.crash_after, None, "{name}: write {write} is not reached");
                assert_eq!(
                    outcome(&sim),
                    expected,
                    "{name}, crash before write {write}: {}",
                    sim.trace_text()
                );
                sim.assert_stays_idle();
            }
        }
    }
}

#[test]
fn two_crashes_in_sequence_lead_to_the_same_end() {
    for (name, start, script) in SCRIPTS {
        let mut reference = start();
        script(&mut reference);
        for first in 0..reference.write_count() - 2 {
            for second in [0, 1] {
                let mut sim = start();
                (sim.crash_after, sim.crash_again_after) = (Some(first), Some(second));
                script(&mut sim);
                assert_eq!((sim.crash_after, sim.crash_again_after), (None, None), "{name}");
                assert_eq!(
                    outcome(&sim),
                    outcome(&reference),
                    "{name} {first}+{second}: {}",
                    sim.trace_text()
                );
            }
        }
    }
}

/// Fails unless the first write after the loss is a status that names the active release, and no Pod was touched.
fn assert_recovered_first(sim: &mut Sim, name: &str, write: usize) {
    let (traffic, pods) = (sim.traffic(), selected_pods(sim));
    let before = sim.trace.len();
    sim.lose_status();
    sim.reconcile();
    let done: Vec<_> = sim.trace[before..].to_vec();
    assert!(
        done.len() <= 1 && done.iter().all(|write| write.contains("UpdateStatus")),
        "{name} {write}: {done:?}"
    );
    if traffic != "split" && traffic != "none" {
        assert_eq!(sim.active(), traffic, "{name}, lost before write {write}: {}", sim.trace_text());
        assert_eq!(selected_pods(sim), pods);
    }
}

fn selected_pods(sim: &Sim) -> Vec<String> {
    let fronts = Component::ALL.into_iter().filter_map(|component| {
        let color = sim.cluster.fronts.get(component).as_ref()?.selects?;
        Some(&sim.cluster.cell(component, color).pods)
    });
    fronts.flatten().map(|pod| pod.name.clone()).collect()
}

#[test]
fn a_status_lost_before_any_write_leads_to_a_healthy_release() {
    for (name, start, script) in SCRIPTS {
        let mut reference = start();
        script(&mut reference);
        for reversed in [false, true] {
            for write in 0..reference.write_count() {
                let mut sim = start();
                (sim.crash_after, sim.takeover_seconds, sim.reversed) = (Some(write), 0, reversed);
                sim.crash_loses_status = true;
                script(&mut sim);
                assert_eq!(sim.crash_after, None, "{name}: write {write} is not reached");
                assert_ends_well(&mut sim, &format!("{name}, lost before write {write}"));
            }
        }
    }
}

/// Fails unless the resource rests on the wanted release, or on another one because the wanted one failed.
fn assert_ends_well(sim: &mut Sim, name: &str) {
    let active = sim.active();
    assert_settled_on(sim, &active);
    let active = sim.record_of(sim.stored_status().active_release_version.as_deref().unwrap()).hash.clone();
    let wanted = sim.intent.wanted.hash.clone();
    let blocked = sim.stored_status().record_of_hash(&wanted).is_some_and(|known| sim.failed(&known.version));
    assert!(active == wanted || blocked, "{name}: neither active nor blocked {}", sim.trace_text());
    assert_eq!(sim.phase(), if blocked { "Degraded" } else { "Stable" }, "{name}");
}

#[test]
fn a_lost_status_is_rebuilt_first_and_names_the_active_release() {
    for (name, start, _) in SCRIPTS {
        for write in 0.. {
            let mut sim = start();
            if name != "create" {
                sim.edit("b");
            }
            if !sim.stop_before(write) {
                break;
            }
            assert_recovered_first(&mut sim, name, write);
        }
    }
}

#[test]
fn a_status_lost_in_each_step_keeps_the_active_release() {
    let traffic = ["a on blue", "a on blue", "a on blue", "b on green", "b on green", "b on green"];
    for (step, traffic) in STEPS.into_iter().zip(traffic) {
        let mut sim = in_step(step);
        assert_eq!(sim.traffic(), traffic, "{step:?}");
        assert_recovered_first(&mut sim, "step", 0);
        sim.run_until_idle();
        let blocked = sim.stored_status().record("b").is_some() && sim.failed("b");
        let active = sim.active();
        assert!(
            active.starts_with("b on ") || blocked || step == Step::Stable,
            "{step:?}: {}",
            sim.trace_text()
        );
        assert_settled_on(&mut sim, &active);
    }
}

#[test]
fn recovery_of_a_split_switch_prefers_the_higher_healthy_epoch() {
    for sound in [true, false] {
        let mut sim = in_step(Step::Switching);
        assert!(sim.stop_before(1), "one of the two patches is done");
        assert_eq!(sim.traffic(), "split");
        if !sound {
            sim.make_unready(Component::Schema, Color::Green, 0);
        }
        sim.lose_status();
        sim.run();
        let (step, expected) =
            if sound { (Step::Switching, "b on green") } else { (Step::RollingBack, "a on blue") };
        assert_eq!((sim.step(), sim.traffic().as_str()), (Some(step), expected), "{}", sim.trace_text());
        sim.recover(Component::Schema, Color::Green);
        sim.run_until_idle();
        let active = sim.active();
        assert_settled_on(&mut sim, &active);
        assert!(!sim.failed("a") && !sim.failed("b"));
    }
}

#[test]
fn a_failed_release_stays_blocked_after_a_status_loss() {
    let mut sim = Sim::stable();
    rolled_back_before_the_switch(&mut sim);
    assert_eq!(sim.history(), "a:Active b:Failed");
    sim.reset_counters();
    sim.lose_status();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "a:Active b:Failed", "the documented [-2] is still the active release");
    assert_eq!((sim.wrote("Create"), sim.failed("b")), (0, true), "{}", sim.trace_text());
    assert_eq!(
        (sim.condition_state("SpecApplied").as_str(), sim.condition_state("Stalled").as_str()),
        ("False/RolledBack", "True/RolledBack")
    );
}

#[test]
fn a_status_lost_at_rest_is_recovered_with_its_history() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.run_until_idle();
    let history = sim.history();
    let epoch = sim.stored_status().rollout.as_ref().unwrap().epoch;
    sim.reset_counters();
    sim.lose_status();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on blue");
    assert_eq!(sim.history(), history);
    assert!(sim.stored_status().rollout.as_ref().unwrap().epoch > epoch);
    assert_eq!((sim.wrote("Create"), sim.wrote("Delete"), sim.selector_changes), (0, 0, 0));
    assert_eq!(sim.wrote("Route"), 2, "both front Services get the new epoch");
    sim.rollback_to("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_status_without_a_rollout_is_rebuilt() {
    let mut sim = Sim::upgraded();
    sim.lose_status();
    sim.status = Some(api::status::MetadataServicesStatus::default());
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn an_inconsistent_status_is_rebuilt() {
    type Edit = fn(&mut api::status::MetadataServicesStatus);
    let edits: [Edit; 4] = [
        |status| status.release_history.clear(),
        |status| status.active_strategy = None,
        |status| status.rollout.as_mut().unwrap().step = Step::Switching,
        |status| status.rollout.as_mut().unwrap().step = Step::Watching,
    ];
    for (which, edit) in edits.iter().enumerate() {
        let mut sim = Sim::upgraded();
        let mut status = sim.stored_status().clone();
        edit(&mut status);
        sim.lose_status();
        let rebuilt = rollout::plan(&sim.intent, Some(&status), &sim.facts(), sim.now());
        let rollout::Effect::UpdateStatus(rebuilt) = rebuilt.effect else { panic!("{which}: {rebuilt:?}") };
        assert_eq!(rebuilt.active_release_version.as_deref(), Some("b"), "{which}");
        assert_eq!(rebuilt.rollout.unwrap().step, Step::Stable, "{which}");
    }
}

#[test]
fn a_failed_template_may_become_the_first_release_again() {
    let mut sim = Sim::stable();
    rolled_back_before_the_switch(&mut sim);
    assert!(sim.failed("b"));
    for color in Color::ALL {
        *sim.cluster.cells.get_mut(color) = api::names::PerComponent::default();
    }
    sim.cluster.fronts = api::names::PerComponent::default();
    sim.set_startup("b", Component::Storage, Startup::Ready(3));
    sim.lose_status();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on blue");
}

#[test]
fn an_unknown_step_is_left_alone() {
    let mut sim = Sim::upgraded();
    sim.status.as_mut().unwrap().rollout.as_mut().unwrap().step = Step::Unknown;
    sim.edit("c");
    sim.change_selector(Component::Storage, None);
    assert_eq!(sim.run(), None);
    assert_eq!(sim.write_count(), 0);
}

#[test]
fn prune_waits_for_slow_deletions() {
    for orphaned in [true, false] {
        let mut sim = in_step(Step::Prune);
        sim.cluster.deletions_delayed = true;
        sim.advance(500);
        assert_eq!(sim.step(), Some(Step::Prune), "{}", sim.trace_text());
        assert_eq!(sim.wrote("Delete"), 6, "each is deleted once");
        if orphaned {
            sim.edit("c");
            sim.advance(60);
            assert_eq!(sim.step(), Some(Step::Prune), "c does not start among the pods of a");
        }
        sim.cluster.deletions_delayed = false;
        sim.cluster.collect();
        sim.run_until_idle();
        assert_settled_on(&mut sim, if orphaned { "c on blue" } else { "b on green" });
    }
}
