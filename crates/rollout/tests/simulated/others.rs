//! Another hand: drifted selectors, deleted objects, orphans, foreign names, edited pod templates (design D2, D3, D5).

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step};
use rollout::facts::{Extra, ObjectId, Setting};
use rollout::{Effect, EventReason, Facts, plan};
use simulator::Sim;

/// What the persisted decision of a step sends traffic to, and where the upgrade ends.
fn expected(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Deploying => ("a on blue", "b on green"),
        Step::Stable | Step::RollingBack => ("a on blue", "a on blue"),
        Step::Switching | Step::Watching | Step::Prune | Step::Unknown => ("b on green", "b on green"),
    }
}

#[test]
fn a_drifted_selector_is_mended_at_once_in_every_step() {
    for step in STEPS {
        for component in Component::ALL {
            for selects in [None, Some(Color::Blue), Some(Color::Green)] {
                let mut sim = in_step(step);
                if step == Step::Deploying {
                    sim.advance(60);
                } else if step != Step::Prune {
                    sim.run();
                }
                sim.drift(component, selects);
                let now = sim.cluster.now;
                sim.run();
                let (traffic, end) = expected(step);
                assert_eq!(
                    (sim.traffic().as_str(), sim.cluster.now),
                    (traffic, now),
                    "{step:?}: {}",
                    sim.story()
                );
                sim.settle();
                assert_settled_on(&mut sim, end);
            }
        }
    }
}

#[test]
fn a_foreign_key_in_a_selector_and_a_forged_stamp_are_mended() {
    for step in [Step::Stable, Step::Switching, Step::Watching, Step::RollingBack] {
        let mut sim = in_step(step);
        sim.run();
        sim.forget();
        sim.tampered = true;
        sim.cluster.fronts.storage.as_mut().unwrap().exact = false;
        sim.cluster.fronts.schema.as_mut().unwrap().version = Some("forged".into());
        sim.run();
        assert_eq!((sim.wrote("Point"), sim.traffic().as_str()), (2, expected(step).0), "{step:?}");
    }
}

#[test]
fn a_deleted_front_service_comes_back_with_the_decision_in_every_step() {
    for step in STEPS {
        for component in Component::ALL {
            let mut sim = in_step(step);
            sim.run();
            sim.remove(&ObjectId::Front(component));
            sim.run();
            assert_eq!(
                sim.traffic(),
                if step == Step::Prune { "b on green" } else { expected(step).0 },
                "{step:?}"
            );
            sim.settle();
            assert_settled_on(&mut sim, expected(step).1);
        }
    }
}

fn parts(component: Component, color: Color) -> [ObjectId; 3] {
    [
        ObjectId::Deployment(component, color),
        ObjectId::Service(component, color),
        ObjectId::ConfigMap(component, color),
    ]
}

#[test]
fn a_deleted_object_of_any_color_in_any_step_leads_to_a_settled_end() {
    for step in STEPS {
        for color in Color::ALL {
            for component in Component::ALL {
                for id in parts(component, color) {
                    let mut sim = in_step(step);
                    if step != Step::Prune {
                        sim.run();
                    }
                    sim.remove(&id);
                    sim.settle();
                    let active = sim.active();
                    assert!(active.starts_with("a on ") || active.starts_with("b on "), "{}", sim.story());
                    assert_settled_on(&mut sim, &active);
                }
            }
        }
    }
}

#[test]
fn what_the_serving_color_lost_is_made_again_for_the_same_release() {
    for id in parts(Component::Storage, Color::Green) {
        let mut sim = Sim::upgraded();
        sim.remove(&id);
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
        assert_eq!((sim.wrote("Create"), sim.moved), (1, 0), "{id:?}");
    }
}

#[test]
fn what_the_serving_color_lost_is_made_again_while_the_spec_has_moved_on() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.pause(true);
    sim.remove(&ObjectId::Deployment(Component::Schema, Color::Green));
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn objects_on_the_color_that_does_not_serve_are_swept_through_prune() {
    let mut sim = Sim::upgraded();
    let tag = sim.cluster.cell(Component::Storage, Color::Green).config.clone();
    sim.cluster.cell_mut(Component::Storage, Color::Blue).config = tag;
    sim.surplus = vec![Extra::DisruptionBudget(Component::Schema)];
    sim.until(Step::Prune);
    assert_eq!(sim.wrote("Delete"), 0, "D15: first the edge is persisted");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!((sim.wrote("Delete"), sim.surplus.len()), (2, 0));
}

#[test]
fn a_resource_applied_again_after_an_orphaning_delete_takes_its_objects_back() {
    let mut sim = Sim::upgraded();
    sim.orphan();
    let all = sim.adoptable.len();
    assert_eq!(all, 2 + 6 + 2);
    let first = sim.pass();
    assert!(matches!(first.effect, rollout::Effect::Write(_)), "{first:?}");
    assert_eq!(sim.wrote("Adopt"), all, "adopted before anything else is looked at");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!((sim.wrote("Create"), sim.wrote("Delete"), sim.moved), (0, 0, 0), "{}", sim.story());
    assert_eq!(sim.history(), "a:Superseded b:Active");
}

#[test]
fn a_foreign_name_is_never_written_and_is_named_in_a_condition() {
    let mut sim = Sim::new();
    sim.taken = vec![ObjectId::Deployment(Component::Storage, Color::Blue)];
    sim.advance(1000);
    assert_eq!(sim.wrote("Create"), 0, "{}", sim.story());
    assert_eq!((sim.says("Stalled").as_str(), sim.phase()), ("True/NameTaken", "Pending"));
    assert!(sim.condition("Stalled").message.contains("Deployment(Storage, Blue)"));
    assert_eq!(sim.told(EventReason::NameTaken), 1);
    sim.stays_quiet();
    sim.taken.clear();
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_foreign_name_on_the_pending_color_leaves_the_serving_release_alone() {
    let mut sim = Sim::stable();
    sim.taken = vec![ObjectId::ConfigMap(Component::Schema, Color::Green)];
    sim.edit("b");
    sim.advance(300);
    assert_eq!((sim.wrote("Create"), sim.traffic().as_str()), (0, "a on blue"), "{}", sim.story());
    assert_eq!((sim.says("Stalled").as_str(), sim.step()), ("True/NameTaken", Some(Step::Deploying)));
    sim.taken.clear();
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn an_edited_pod_template_is_told_and_healed_by_a_restart_only() {
    let mut sim = Sim::upgraded();
    let cell = sim.cluster.cell_mut(Component::Storage, Color::Green);
    cell.deployment.as_mut().unwrap().drifted_by = vec!["kubectl-edit".into()];
    sim.settle();
    assert_eq!(
        (sim.says("Drifted").as_str(), sim.told(EventReason::Drifted), sim.total()),
        ("True/TemplateChanged", 1, 1)
    );
    assert!(sim.condition("Drifted").message.contains("kubectl-edit"));
    sim.stays_quiet();
    sim.restart("now");
    sim.settle();
    assert_settled_on(&mut sim, "b on blue");
    assert_eq!(sim.says("Drifted"), "False/AsReleased");
}

#[test]
fn a_deleted_revision_of_the_serving_release_is_recorded_again() {
    let mut sim = Sim::upgraded();
    sim.remove(&ObjectId::Revision("b".into()));
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.wrote("Record"), 1);
}

#[test]
fn objects_of_another_decision_on_the_pending_color_are_pruned_first() {
    let mut sim = in_step(Step::Deploying);
    sim.run();
    sim.cluster.cell_mut(Component::Schema, Color::Green).service.as_mut().unwrap().epoch = 1;
    sim.until(Step::Prune);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

/// In any step, what serves is whole again within seconds.
#[test]
fn what_serves_is_made_again_in_steps_that_are_about_something_else() {
    for step in [Step::Deploying, Step::RollingBack, Step::Prune] {
        let mut sim = in_step(step);
        sim.cluster.deletes_held = step == Step::Prune;
        sim.run();
        let (color, name) = match step {
            Step::Prune => (Color::Green, "b on green"),
            _ => (Color::Blue, "a on blue"),
        };
        assert_eq!(sim.active(), name);
        sim.cluster.deletes_held = false;
        sim.remove(&ObjectId::Deployment(Component::Storage, color));
        if step == Step::RollingBack {
            // Else the other side would be kept.
            sim.remove(&ObjectId::Deployment(Component::Storage, color.other()));
        }
        sim.run();
        sim.advance(2);
        let made = sim.cluster.cell(Component::Storage, color).deployment.is_some();
        assert!(made, "{step:?}: {}", sim.story());
        sim.cluster.collect();
        sim.settle();
        assert_eq!(sim.step(), Some(Step::Stable), "{}", sim.story());
    }
}

/// What the spec does not ask for may be what an older CRD hides.
#[test]
fn an_outdated_crd_takes_nothing_away() {
    let mut sim = Sim::upgraded();
    sim.intent.crd_outdated = Some("kubectl apply".into());
    sim.surplus = vec![Extra::DisruptionBudget(Component::Storage)];
    sim.settle();
    assert_eq!(sim.wrote("Delete"), 0, "{}", sim.story());
}

/// A port that is taken, a quota: the setting waits, the release does not.
#[test]
fn a_setting_that_is_not_taken_holds_no_release_up() {
    let mut sim = in_step(Step::Deploying);
    sim.stale = vec![Setting::Front(Component::Storage)];
    sim.deferred.settings = true;
    sim.settle();
    assert_eq!(sim.active(), "b on green", "{}", sim.story());
    sim.cluster.now += 600;
    let facts = Facts { refused: Some("patching Service: taken".into()), ..sim.facts() };
    let told = plan(&sim.intent, sim.status.as_ref(), &facts, sim.now());
    let Effect::UpdateStatus(status) = told.effect else { panic!("{told:?}") };
    assert_eq!(status.phase.as_deref(), Some("Degraded"));
    assert!(status.release_history.iter().all(|record| record.status != RecordStatus::Failed));
}
