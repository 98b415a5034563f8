//! Phase and conditions in each state (design D10, D26; contract A1). Nothing is written if nothing changes.
//!
//! Covers `conditions.rs` and `conditions/progress.rs`.

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::EventReason;
use rollout::facts::Cause;
use simulator::{Sim, Startup};

/// Returns `deploymentPhase phase Ready SpecApplied Progressing Reconciling Stalled`.
fn conditions(sim: &Sim) -> String {
    let said: Vec<_> = ["Ready", "SpecApplied", "Progressing", "Reconciling", "Stalled"]
        .into_iter()
        .map(|kind| sim.condition_state(kind).replace("True/", "+").replace("False/", "-"))
        .collect();
    format!("{} {} {}", sim.stored_status().deployment_phase.as_deref().unwrap(), sim.phase(), said.join(" "))
}

#[test]
fn conditions_of_an_upgrade() {
    let expected = [
        (Step::Stable, "Stable Stable +Serving +Applied -Settled -Settled -None"),
        (Step::Deploying, "Deploying Deploying +Serving -InProgress +Deploying +Deploying -None"),
        (Step::Switching, "Switching Switching +Serving -InProgress +Switching +Switching -None"),
        (Step::Watching, "Cleanup Cleanup +Serving +Applied +Watching +Watching -None"),
        (Step::Prune, "Cleanup Cleanup +Serving +Applied +Prune +Prune -None"),
    ];
    for (step, expected_text) in expected {
        assert_eq!(conditions(&in_step(step)), expected_text, "{step:?}");
    }
}

#[test]
fn progressing_names_the_grace_period() {
    let mut sim = in_step(Step::Deploying);
    sim.advance(60);
    assert_eq!(sim.condition_state("Progressing"), "True/GracePeriod");
    assert!(
        sim.condition("Progressing").message.contains("2026-09-21T14:"),
        "{:?}",
        sim.condition("Progressing")
    );
}

#[test]
fn conditions_of_an_automatic_rollback() {
    for before_the_switch in [true, false] {
        let mut sim = Sim::stable();
        sim.edit("b");
        if before_the_switch {
            sim.fail_startup("b", Cause::Crash);
        } else {
            sim.until(Step::Watching);
            sim.restart_pod(Component::Storage, Color::Green, 0);
            sim.until(Step::RollingBack);
            assert_eq!(
                (
                    sim.stored_status().deployment_phase.as_deref(),
                    sim.condition_state("SpecApplied").as_str()
                ),
                (Some("Switching"), "False/RolledBack")
            );
        }
        sim.run_until_idle();
        assert_eq!(conditions(&sim), "Stable Degraded +Serving -RolledBack -Settled -Settled +RolledBack");
        let message = &sim.condition("Stalled").message;
        assert!(
            message.contains("kubectl annotate metadataservices sample1 -n default e6data.io/retry=now"),
            "{message}"
        );
        assert!(message.starts_with("b failed and was rolled back: storage: "), "{message}");
        sim.assert_stays_idle();
    }
}

#[test]
fn progressing_names_the_problem_before_the_release_fails() {
    let mut sim = Sim::stable();
    sim.set_startup("b", Component::Schema, Startup::Fails(Cause::Unschedulable));
    sim.edit("b");
    sim.advance(10);
    assert_eq!(sim.condition_state("Progressing"), "True/Unschedulable");
    let mut sim = Sim::stable();
    sim.fail_startup("b", Cause::ImagePull);
    sim.edit("b");
    sim.advance(10);
    assert_eq!(sim.condition_state("Progressing"), "True/ImagePullFailed");
    assert_eq!(sim.condition_state("Stalled"), "False/None", "the release may still recover");
}

#[test]
fn ready_follows_the_readiness_at_rest() {
    let mut sim = Sim::upgraded();
    sim.make_unready(Component::Schema, Color::Green, 0);
    sim.run();
    assert_eq!(conditions(&sim), "Stable Degraded -PartlyServing +Applied -Settled -Settled -None");
    assert_eq!(sim.stored_status().schema.as_ref().unwrap().ready_replicas, 1);
    sim.make_all_unready(Component::Schema, Color::Green);
    sim.run();
    assert_eq!(conditions(&sim), "Stable Degraded -NotServing +Applied -Settled -Settled -None");
    let since = sim.condition("Ready").last_transition_time.clone();
    sim.cluster.now += 60;
    sim.recover(Component::Schema, Color::Green);
    sim.run();
    assert_settled_on(&mut sim, "b on green");
    assert!(sim.condition("Ready").last_transition_time > since);
}

#[test]
fn changing_pod_problems_cause_no_writes() {
    let mut sim = Sim::upgraded();
    sim.make_unready(Component::Schema, Color::Green, 0);
    sim.set_problem(Component::Schema, Color::Green, Some(Cause::Crash));
    sim.run();
    let before = sim.write_count();
    for cause in [Cause::NotReady, Cause::Crash, Cause::NotReady] {
        sim.set_problem(Component::Schema, Color::Green, Some(cause));
        sim.run();
    }
    assert_eq!(sim.write_count(), before, "{}", sim.trace_text());
}

#[test]
fn repeated_reconciles_write_nothing() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.run();
        sim.reset_counters();
        for _ in 0..5 {
            sim.run();
        }
        assert_eq!(sim.write_count(), 0, "{step:?}: {}", sim.trace_text());
    }
}

#[test]
fn a_change_without_a_release_updates_only_observed_generation() {
    let mut sim = Sim::upgraded();
    sim.intent.generation += 1;
    sim.run_until_idle();
    assert_eq!((sim.write_count(), sim.wrote("UpdateStatus")), (1, 1));
    assert_eq!(sim.stored_status().observed_generation, Some(sim.intent.generation));
}

#[test]
fn an_old_image_is_reported_and_deployed() {
    let mut sim = Sim::stable();
    sim.intent.old_images = vec!["storage 1.0.437 is older than 1.0.450".into()];
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.condition_state("ImageCompatible"), "False/BelowMinimum");
    assert_eq!(sim.event_count(EventReason::ImageBelowMinimum), 1, "{:?}", sim.notes);
}

#[test]
fn counts_images_and_addresses_are_published() {
    let sim = Sim::upgraded();
    let (storage, endpoints) =
        (sim.stored_status().storage.clone().unwrap(), sim.stored_status().endpoints.clone().unwrap());
    assert_eq!((storage.replicas, storage.ready_replicas), (2, 2));
    assert_eq!((storage.image.as_str(), storage.service.as_str()), ("r/storage:b", "sample1-storage-green"));
    assert_eq!(endpoints.storage, "sample1-storage.default.svc:9005");
    assert_eq!(endpoints.schema, "sample1-schema.default.svc:9006");
}

#[test]
fn phase_started_at_changes_only_with_the_phase() {
    let mut sim = in_step(Step::Watching);
    let cleanup = sim.stored_status().phase_started_at.clone();
    assert_eq!(cleanup.as_ref().unwrap().0.as_second(), sim.cluster.now);
    sim.until(Step::Prune);
    assert_eq!(sim.stored_status().phase_started_at, cleanup, "Watching and Prune are both Cleanup");
}

/// No release is active, the first release was replaced, and a pause prevents the next one.
#[test]
fn a_first_release_reports_that_it_is_paused() {
    let mut sim = Sim::new();
    sim.fail_startup("a", Cause::ImagePull);
    sim.advance(60);
    sim.pause(true);
    sim.edit("b");
    sim.advance(600);
    assert_eq!(
        ["SpecApplied", "Progressing", "Reconciling"].map(|kind| sim.condition_state(kind)),
        ["False/Paused", "False/Paused", "False/Settled"]
    );
    sim.pause(false);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on blue");
}

#[test]
fn ready_names_the_component_that_is_not_ready() {
    let mut sim = Sim::upgraded();
    sim.make_all_unready(Component::Storage, Color::Green);
    sim.run();
    sim.make_all_unready(Component::Schema, Color::Green);
    sim.recover(Component::Storage, Color::Green);
    sim.run();
    assert!(sim.condition("Ready").message.contains("schema"), "{}", sim.condition("Ready").message);
}

/// The spec returns to a failed release, which is not the active one.
#[test]
fn a_release_cancelled_by_a_failed_template_names_the_reason() {
    let mut sim = Sim::stable();
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
    sim.edit("c");
    sim.advance(30);
    sim.edit("b");
    sim.run_until_idle();
    let said = sim.record_of("c").message.clone().unwrap();
    assert_eq!(said, "the spec went back to a release that failed");
}

#[test]
fn progressing_names_a_request_that_waits_for_the_pause() {
    let mut sim = Sim::stable();
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
    sim.pause(true);
    sim.retry("now");
    sim.run_until_idle();
    let said = "no rollout is in progress; e6data.io/retry waits until spec.rollout.paused is false";
    assert_eq!(sim.condition("Progressing").message, said);
    sim.pause(false);
    sim.run_until_idle();
    assert_eq!(sim.condition("Progressing").message, "no rollout is in progress");
}

/// Both colors are unhealthy and the spec returns to the previous release, which receives no traffic yet.
#[test]
fn spec_applied_is_false_while_the_release_has_no_traffic() {
    let mut sim = in_step(Step::Switching);
    sim.run();
    sim.make_all_unready(Component::Storage, Color::Blue);
    sim.cluster.slices_frozen = true;
    sim.edit("a");
    sim.run();
    assert_eq!(
        (sim.step(), sim.condition_state("SpecApplied").as_str()),
        (Some(Step::Switching), "False/InProgress")
    );
}

#[test]
fn progressing_names_objects_that_remain() {
    let mut sim = in_step(Step::Prune);
    sim.cluster.deletions_delayed = true;
    sim.advance(3_600);
    assert_eq!(sim.step(), Some(Step::Prune));
    let said = "deleting the objects of the inactive color; a ReplicaSet of sample1-storage-blue and \
                sample1-schema-blue outlives its Deployment. Remedy: delete it";
    assert_eq!(sim.condition("Progressing").message, said);
}
