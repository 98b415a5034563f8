//! External changes: selectors, deleted objects, orphans, taken names, edited Pod templates (design D2, D3, D5).
//!
//! Covers `actions.rs`, `steps/stable.rs` and `steps/prune.rs`.

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step};
use rollout::facts::{Extra, ObjectId, Setting};
use rollout::{Effect, EventReason, Facts, plan};
use simulator::Sim;

/// Returns the release that receives traffic in a step, and the release at the end of the upgrade.
fn expected(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Deploying => ("a on blue", "b on green"),
        Step::Stable | Step::RollingBack => ("a on blue", "a on blue"),
        Step::Switching | Step::Watching | Step::Prune | Step::Unknown => ("b on green", "b on green"),
    }
}

#[test]
fn a_changed_selector_is_repaired_at_once_in_every_step() {
    for step in STEPS {
        for component in Component::ALL {
            for selects in [None, Some(Color::Blue), Some(Color::Green)] {
                let mut sim = in_step(step);
                if step == Step::Deploying {
                    sim.advance(60);
                } else if step != Step::Prune {
                    sim.run();
                }
                sim.change_selector(component, selects);
                let now = sim.cluster.now;
                sim.run();
                let (traffic, end) = expected(step);
                assert_eq!(
                    (sim.traffic().as_str(), sim.cluster.now),
                    (traffic, now),
                    "{step:?}: {}",
                    sim.trace_text()
                );
                sim.run_until_idle();
                assert_settled_on(&mut sim, end);
            }
        }
    }
}

#[test]
fn a_foreign_selector_key_and_a_forged_version_are_repaired() {
    for step in [Step::Stable, Step::Switching, Step::Watching, Step::RollingBack] {
        let mut sim = in_step(step);
        sim.run();
        sim.reset_counters();
        sim.externally_changed = true;
        sim.cluster.fronts.storage.as_mut().unwrap().exact = false;
        sim.cluster.fronts.schema.as_mut().unwrap().version = Some("forged".into());
        sim.run();
        assert_eq!((sim.wrote("Route"), sim.traffic().as_str()), (2, expected(step).0), "{step:?}");
    }
}

#[test]
fn a_deleted_front_service_is_recreated_in_every_step() {
    for step in STEPS {
        for component in Component::ALL {
            let mut sim = in_step(step);
            sim.run();
            sim.delete_externally(&ObjectId::Front(component));
            sim.run();
            assert_eq!(
                sim.traffic(),
                if step == Step::Prune { "b on green" } else { expected(step).0 },
                "{step:?}"
            );
            sim.run_until_idle();
            assert_settled_on(&mut sim, expected(step).1);
        }
    }
}

fn color_objects(component: Component, color: Color) -> [ObjectId; 3] {
    [
        ObjectId::Deployment(component, color),
        ObjectId::Service(component, color),
        ObjectId::ConfigMap(component, color),
    ]
}

#[test]
fn a_deleted_object_in_any_step_still_leads_to_rest() {
    for step in STEPS {
        for color in Color::ALL {
            for component in Component::ALL {
                for id in color_objects(component, color) {
                    let mut sim = in_step(step);
                    if step != Step::Prune {
                        sim.run();
                    }
                    sim.delete_externally(&id);
                    sim.run_until_idle();
                    let active = sim.active();
                    assert!(
                        active.starts_with("a on ") || active.starts_with("b on "),
                        "{}",
                        sim.trace_text()
                    );
                    assert_settled_on(&mut sim, &active);
                }
            }
        }
    }
}

#[test]
fn lost_objects_are_recreated_for_the_same_release() {
    for id in color_objects(Component::Storage, Color::Green) {
        let mut sim = Sim::upgraded();
        sim.delete_externally(&id);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
        assert_eq!((sim.wrote("Create"), sim.selector_changes), (1, 0), "{id:?}");
    }
}

#[test]
fn lost_objects_are_recreated_while_a_newer_spec_waits() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.pause(true);
    sim.delete_externally(&ObjectId::Deployment(Component::Schema, Color::Green));
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn objects_on_the_inactive_color_are_deleted_in_prune() {
    let mut sim = Sim::upgraded();
    let tag = sim.cluster.cell(Component::Storage, Color::Green).config.clone();
    sim.cluster.cell_mut(Component::Storage, Color::Blue).config = tag;
    sim.surplus = vec![Extra::DisruptionBudget(Component::Schema)];
    sim.until(Step::Prune);
    assert_eq!(sim.wrote("Delete"), 0, "D15: the status comes first");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!((sim.wrote("Delete"), sim.surplus.len()), (2, 0));
}

#[test]
fn a_resource_created_again_adopts_its_orphaned_objects() {
    let mut sim = Sim::upgraded();
    sim.orphan();
    let all = sim.adoptable.len();
    assert_eq!(all, 2 + 6 + 2);
    let first = sim.reconcile();
    assert!(matches!(first.effect, rollout::Effect::Write(_)), "{first:?}");
    assert_eq!(sim.wrote("Adopt"), all, "adoption comes first");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(
        (sim.wrote("Create"), sim.wrote("Delete"), sim.selector_changes),
        (0, 0, 0),
        "{}",
        sim.trace_text()
    );
    assert_eq!(sim.history(), "a:Superseded b:Active");
}

#[test]
fn a_taken_name_is_never_written_and_appears_in_a_condition() {
    let mut sim = Sim::new();
    sim.taken_names = vec![ObjectId::Deployment(Component::Storage, Color::Blue)];
    sim.advance(1000);
    assert_eq!(sim.wrote("Create"), 0, "{}", sim.trace_text());
    assert_eq!((sim.condition_state("Stalled").as_str(), sim.phase()), ("True/NameTaken", "Pending"));
    assert!(sim.condition("Stalled").message.contains("Deployment(Storage, Blue)"));
    assert_eq!(sim.event_count(EventReason::NameTaken), 1);
    sim.assert_stays_idle();
    sim.taken_names.clear();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_taken_name_on_the_pending_color_spares_the_active_release() {
    let mut sim = Sim::stable();
    sim.taken_names = vec![ObjectId::ConfigMap(Component::Schema, Color::Green)];
    sim.edit("b");
    sim.advance(300);
    assert_eq!((sim.wrote("Create"), sim.traffic().as_str()), (0, "a on blue"), "{}", sim.trace_text());
    assert_eq!(
        (sim.condition_state("Stalled").as_str(), sim.step()),
        ("True/NameTaken", Some(Step::Deploying))
    );
    sim.taken_names.clear();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn only_a_restart_repairs_an_edited_pod_template() {
    let mut sim = Sim::upgraded();
    let cell = sim.cluster.cell_mut(Component::Storage, Color::Green);
    cell.deployment.as_mut().unwrap().drifted_by = vec!["kubectl-edit".into()];
    sim.run_until_idle();
    assert_eq!(
        (sim.condition_state("Drifted").as_str(), sim.event_count(EventReason::Drifted), sim.write_count()),
        ("True/TemplateChanged", 1, 1)
    );
    assert!(sim.condition("Drifted").message.contains("kubectl-edit"));
    sim.assert_stays_idle();
    sim.restart("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on blue");
    assert_eq!(sim.condition_state("Drifted"), "False/AsReleased");
}

#[test]
fn a_deleted_revision_of_the_active_release_is_recreated() {
    let mut sim = Sim::upgraded();
    sim.delete_externally(&ObjectId::Revision("b".into()));
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.wrote("RecordRevision"), 1);
}

#[test]
fn objects_of_another_epoch_on_the_pending_color_are_pruned() {
    let mut sim = in_step(Step::Deploying);
    sim.run();
    sim.cluster.cell_mut(Component::Schema, Color::Green).service.as_mut().unwrap().epoch = 1;
    sim.until(Step::Prune);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// The operator recreates lost objects of the active release within seconds.
#[test]
fn lost_active_objects_are_recreated_in_every_step() {
    for step in [Step::Deploying, Step::RollingBack, Step::Prune] {
        let mut sim = in_step(step);
        sim.cluster.deletions_delayed = step == Step::Prune;
        sim.run();
        let (color, name) = match step {
            Step::Prune => (Color::Green, "b on green"),
            _ => (Color::Blue, "a on blue"),
        };
        assert_eq!(sim.active(), name);
        sim.cluster.deletions_delayed = false;
        sim.delete_externally(&ObjectId::Deployment(Component::Storage, color));
        if step == Step::RollingBack {
            // Otherwise the operator would keep the other color.
            sim.delete_externally(&ObjectId::Deployment(Component::Storage, color.other()));
        }
        sim.run();
        sim.advance(2);
        let made = sim.cluster.cell(Component::Storage, color).deployment.is_some();
        assert!(made, "{step:?}: {}", sim.trace_text());
        sim.cluster.collect();
        sim.run_until_idle();
        assert_eq!(sim.step(), Some(Step::Stable), "{}", sim.trace_text());
    }
}

/// The older CRD may hide the field that asks for the object.
#[test]
fn an_outdated_crd_deletes_nothing() {
    let mut sim = Sim::upgraded();
    sim.intent.crd_outdated = Some("kubectl apply".into());
    sim.surplus = vec![Extra::DisruptionBudget(Component::Storage)];
    sim.run_until_idle();
    assert_eq!(sim.wrote("Delete"), 0, "{}", sim.trace_text());
}

/// The setting waits if the API server rejects it, for example because of a used port or a quota. The release does
/// not wait.
#[test]
fn a_rejected_setting_does_not_block_a_release() {
    let mut sim = in_step(Step::Deploying);
    sim.stale = vec![Setting::Front(Component::Storage)];
    sim.deferred.settings = true;
    sim.run_until_idle();
    assert_eq!(sim.active(), "b on green", "{}", sim.trace_text());
    sim.cluster.now += 600;
    let facts = Facts { refused: Some("patching Service: taken".into()), ..sim.facts() };
    let made = plan(&sim.intent, sim.status.as_ref(), &facts, sim.now());
    let Effect::UpdateStatus(status) = made.effect else { panic!("{made:?}") };
    assert_eq!(status.phase.as_deref(), Some("Degraded"));
    assert!(status.release_history.iter().all(|record| record.status != RecordStatus::Failed));
}
