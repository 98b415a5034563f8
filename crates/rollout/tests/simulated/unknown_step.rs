//! A step of a newer operator in the status (design D36): this operator neither starts a release, nor ends the step, nor
//! writes the status. The newer operator continues where it stopped.
//!
//! Covers `plan` and `explain` in `lib.rs`, and `recovery/validity.rs`.

use serde_json::json;

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, Step};
use rollout::facts::{Extra, Facts, ObjectId, Setting};
use rollout::{Effect, explain, is_overdue, plan};
use simulator::Sim;

/// A change while an operator that does not know the step runs.
type Change = (&'static str, fn(&mut Sim));

/// Edits of the spec and the policy.
const EDITS: [Change; 7] = [
    ("no edit", |_| {}),
    ("a third release", |sim| sim.edit("c")),
    ("the release before", |sim| sim.edit("a")),
    ("a pause", |sim| sim.pause(true)),
    ("an invalid spec", |sim| {
        sim.edit("c");
        sim.intent.violations = vec!["spec.storage.imageTag: bad".into()];
    }),
    ("an outdated CRD", |sim| sim.intent.crd_outdated = Some("kubectl apply -f crd.yaml".into())),
    ("changed settings", |sim| {
        sim.intent.generation += 1;
        sim.stale = vec![Setting::Front(Component::Storage), Setting::ACCOUNT];
        sim.surplus = vec![Extra::DisruptionBudget(Component::Schema)];
    }),
];

/// Annotations of the user.
const REQUESTS: [Change; 4] = [
    ("a rollback", |sim| sim.rollback_to("a")),
    ("a rollback to an unknown release", |sim| sim.rollback_to("nope")),
    ("a retry", |sim| sim.retry("now")),
    ("a restart", |sim| sim.restart("now")),
];

/// Lost and changed objects, and failing Pods.
const CHANGES: [Change; 8] = [
    ("a deleted front Service", |sim| sim.delete_externally(&ObjectId::Front(Component::Storage))),
    ("a changed selector", |sim| sim.change_selector(Component::Schema, None)),
    ("a later epoch", |sim| sim.cluster.fronts.storage.as_mut().unwrap().epoch += 5),
    ("a deleted blue Deployment", |sim| {
        sim.delete_externally(&ObjectId::Deployment(Component::Storage, Color::Blue));
    }),
    ("a deleted green Deployment", |sim| {
        sim.delete_externally(&ObjectId::Deployment(Component::Schema, Color::Green));
    }),
    ("a deleted green ConfigMap", |sim| {
        sim.delete_externally(&ObjectId::ConfigMap(Component::Storage, Color::Green));
    }),
    ("a deleted revision", |sim| sim.delete_externally(&ObjectId::Revision("a".into()))),
    ("unready Pods", |sim| {
        for color in Color::ALL {
            sim.make_all_unready(Component::Storage, color);
        }
    }),
];

fn changes() -> impl Iterator<Item = Change> {
    EDITS.into_iter().chain(REQUESTS).chain(CHANGES)
}

/// Returns the status as an operator reads it that does not know the step `Standby`.
fn with_unknown_step(status: &MetadataServicesStatus) -> MetadataServicesStatus {
    let mut value = serde_json::to_value(status).unwrap();
    value["rollout"]["step"] = json!("Standby");
    serde_json::from_value(value).unwrap()
}

/// Returns an upgrade in a step that is unknown to this operator.
fn in_unknown_step(step: Step) -> Sim {
    let mut sim = in_step(step);
    sim.run();
    sim.status = Some(with_unknown_step(sim.stored_status()));
    sim.reset_counters();
    sim
}

/// Fails if the operator writes anything, sends an Event, or calls the release overdue within an hour.
fn assert_left_alone(sim: &mut Sim, name: &str) {
    assert_left_alone_for(sim, &[0, 1, 130, 3_600], name);
}

fn assert_left_alone_for(sim: &mut Sim, waits: &[i64], name: &str) {
    let before = sim.status.clone();
    for seconds in waits {
        sim.cluster.now += seconds;
        let made = sim.reconcile();
        assert_eq!((&made.effect, made.requeue_after), (&Effect::Wait, None), "{name}: {}", sim.trace_text());
        assert!(made.notes.is_empty(), "{name}: {:?}", made.notes);
        assert!(!is_overdue(&sim.intent, sim.stored_status(), sim.now()), "{name}");
    }
    assert_eq!((sim.write_count(), &sim.status), (0, &before), "{name}: {}", sim.trace_text());
}

#[test]
fn a_step_of_a_newer_operator_reads_as_unknown() {
    for step in STEPS {
        let known = in_step(step).stored_status().clone();
        let read = with_unknown_step(&known);
        let rollout = read.rollout.clone().unwrap();
        assert_eq!((rollout.step, rollout.epoch), (Step::Unknown, known.rollout.as_ref().unwrap().epoch));
        assert_eq!(read.release_history, known.release_history);
    }
}

#[test]
fn an_unknown_step_ignores_edits_requests_and_external_changes() {
    for step in STEPS {
        for (name, change) in changes() {
            let mut sim = in_unknown_step(step);
            change(&mut sim);
            assert_left_alone(&mut sim, &format!("{step:?}, {name}"));
        }
    }
}

#[test]
fn an_unknown_step_ignores_a_deletion() {
    for step in STEPS {
        let mut sim = in_unknown_step(step);
        sim.intent.deleted = true;
        assert_left_alone(&mut sim, &format!("{step:?}"));
    }
}

/// Adoption precedes the steps, but a newer operator may have released the objects on purpose.
#[test]
fn an_unknown_step_adopts_no_objects() {
    for step in STEPS {
        let mut sim = in_unknown_step(step);
        sim.adoptable = vec![ObjectId::Front(Component::Storage)];
        assert_left_alone(&mut sim, &format!("{step:?}"));
    }
}

/// The name of the step is lost when this operator reads the status, so each status write would destroy it.
#[test]
fn explain_never_writes_a_status_with_an_unknown_step() {
    for step in STEPS {
        for (name, change) in changes() {
            let mut sim = in_unknown_step(step);
            change(&mut sim);
            for seconds in [0, 3_600] {
                sim.cluster.now += seconds;
                let obstacles = [
                    Facts { taken: vec!["Deployment x (it has no controller)".into()], ..sim.facts() },
                    Facts { refused: Some("patching Service x: 403".into()), ..sim.facts() },
                    sim.facts(),
                ];
                for facts in obstacles {
                    let made = explain(&sim.intent, sim.status.as_ref(), &facts, sim.now());
                    assert_eq!(made, None, "{step:?}, {name}");
                }
            }
        }
    }
}

/// Returns whether a change leaves the upgrade to `b` as the wanted end.
fn keeps_the_upgrade(name: &str) -> bool {
    ["no edit", "changed settings", "a deleted front Service", "a changed selector"].contains(&name)
}

#[test]
fn an_operator_that_knows_the_step_continues() {
    for step in STEPS.into_iter().filter(|step| ![Step::Stable, Step::RollingBack].contains(step)) {
        for (name, change) in changes().filter(|(name, _)| keeps_the_upgrade(name)) {
            let mut sim = in_step(step);
            sim.run();
            let known = sim.stored_status().clone();
            sim.status = Some(with_unknown_step(&known));
            change(&mut sim);
            sim.reset_counters();
            assert_left_alone_for(&mut sim, &[0, 1], &format!("{step:?}, {name}"));
            sim.status = Some(known);
            sim.run_until_idle();
            assert_settled_on(&mut sim, "b on green");
            assert_eq!(sim.history(), "a:Superseded b:Active", "{step:?}, {name}");
        }
    }
}

/// A decision on a status with an unknown step depends on nothing else in it.
#[test]
fn an_unknown_step_waits_even_with_an_inconsistent_status() {
    type Edit = fn(&mut MetadataServicesStatus);
    let edits: [Edit; 4] = [
        |status| status.release_history.clear(),
        |status| status.active_strategy = None,
        |status| status.rollout.as_mut().unwrap().target = None,
        |status| status.rollout.as_mut().unwrap().epoch = 0,
    ];
    for step in STEPS {
        for edit in edits {
            let sim = in_unknown_step(step);
            let mut status = sim.stored_status().clone();
            edit(&mut status);
            let made = plan(&sim.intent, Some(&status), &sim.facts(), sim.now());
            assert_eq!(made.effect, Effect::Wait, "{step:?}");
        }
    }
}
