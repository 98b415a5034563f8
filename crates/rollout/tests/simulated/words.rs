//! What people read in each state: phase and conditions (design D10, D26; contract A1), and that nothing is written
//! when nothing changes.

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::EventReason;
use rollout::facts::Cause;
use simulator::{Boot, Sim};

/// `deploymentPhase phase Ready SpecApplied Progressing Reconciling Stalled`.
fn words(sim: &Sim) -> String {
    let said: Vec<_> = ["Ready", "SpecApplied", "Progressing", "Reconciling", "Stalled"]
        .into_iter()
        .map(|kind| sim.says(kind).replace("True/", "+").replace("False/", "-"))
        .collect();
    format!("{} {} {}", sim.known().deployment_phase.as_deref().unwrap(), sim.phase(), said.join(" "))
}

#[test]
fn an_upgrade_reads_like_this() {
    let expected = [
        (Step::Stable, "Stable Stable +Serving +Applied -Settled -Settled -None"),
        (Step::Deploying, "Deploying Deploying +Serving -InProgress +Deploying +Deploying -None"),
        (Step::Switching, "Switching Switching +Serving -InProgress +Switching +Switching -None"),
        (Step::Watching, "Cleanup Cleanup +Serving +Applied +Watching +Watching -None"),
        (Step::Prune, "Cleanup Cleanup +Serving +Applied +Prune +Prune -None"),
    ];
    for (step, words_then) in expected {
        assert_eq!(words(&in_step(step)), words_then, "{step:?}");
    }
}

#[test]
fn the_grace_period_is_named() {
    let mut sim = in_step(Step::Deploying);
    sim.advance(60);
    assert_eq!(sim.says("Progressing"), "True/GracePeriod");
    assert!(
        sim.condition("Progressing").message.contains("2026-09-21T14:"),
        "{:?}",
        sim.condition("Progressing")
    );
}

#[test]
fn an_automatic_rollback_reads_like_this() {
    for before_the_switch in [true, false] {
        let mut sim = Sim::stable();
        sim.edit("b");
        if before_the_switch {
            sim.breaks("b", Cause::Crash);
        } else {
            sim.until(Step::Watching);
            sim.restart_pod(Component::Storage, Color::Green, 0);
            sim.until(Step::RollingBack);
            assert_eq!(
                (sim.known().deployment_phase.as_deref(), sim.says("SpecApplied").as_str()),
                (Some("Switching"), "False/RolledBack")
            );
        }
        sim.settle();
        assert_eq!(words(&sim), "Stable Degraded +Serving -RolledBack -Settled -Settled +RolledBack");
        let message = &sim.condition("Stalled").message;
        assert!(
            message.contains("kubectl annotate metadataservices sample1 -n default e6data.io/retry=now"),
            "{message}"
        );
        assert!(message.starts_with("b failed and was rolled back: storage: "), "{message}");
        sim.stays_quiet();
    }
}

#[test]
fn a_failing_release_says_what_it_waits_for_before_it_fails() {
    let mut sim = Sim::stable();
    sim.boots("b", Component::Schema, Boot::Fails(Cause::Unschedulable));
    sim.edit("b");
    sim.advance(10);
    assert_eq!(sim.says("Progressing"), "True/Unschedulable");
    let mut sim = Sim::stable();
    sim.breaks("b", Cause::ImagePull);
    sim.edit("b");
    sim.advance(10);
    assert_eq!(sim.says("Progressing"), "True/ImagePullFailed");
    assert_eq!(sim.says("Stalled"), "False/None", "it may still get well");
}

#[test]
fn lost_readiness_at_rest_is_said_and_taken_back() {
    let mut sim = Sim::upgraded();
    sim.unready(Component::Schema, Color::Green, 0);
    sim.run();
    assert_eq!(words(&sim), "Stable Degraded -PartlyServing +Applied -Settled -Settled -None");
    assert_eq!(sim.known().schema.as_ref().unwrap().ready_replicas, 1);
    sim.all_unready(Component::Schema, Color::Green);
    sim.run();
    assert_eq!(words(&sim), "Stable Degraded -NotServing +Applied -Settled -Settled -None");
    let since = sim.condition("Ready").last_transition_time.clone();
    sim.cluster.now += 60;
    sim.recover(Component::Schema, Color::Green);
    sim.run();
    assert_settled_on(&mut sim, "b on green");
    assert!(sim.condition("Ready").last_transition_time > since);
}

#[test]
fn kubelets_changing_words_do_not_cause_writes() {
    let mut sim = Sim::upgraded();
    sim.unready(Component::Schema, Color::Green, 0);
    sim.suffer(Component::Schema, Color::Green, Some(Cause::Crash));
    sim.run();
    let before = sim.total();
    for cause in [Cause::NotReady, Cause::Crash, Cause::NotReady] {
        sim.suffer(Component::Schema, Color::Green, Some(cause));
        sim.run();
    }
    assert_eq!(sim.total(), before, "{}", sim.story());
}

#[test]
fn a_second_look_at_any_moment_writes_nothing_more() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.run();
        sim.forget();
        for _ in 0..5 {
            sim.run();
        }
        assert_eq!(sim.total(), 0, "{step:?}: {}", sim.story());
    }
}

#[test]
fn a_change_that_is_no_release_only_moves_the_observed_generation() {
    let mut sim = Sim::upgraded();
    sim.intent.generation += 1;
    sim.settle();
    assert_eq!((sim.total(), sim.wrote("Commit")), (1, 1));
    assert_eq!(sim.known().observed_generation, Some(sim.intent.generation));
}

#[test]
fn an_old_image_is_said_and_refused_nothing() {
    let mut sim = Sim::stable();
    sim.intent.old_images = vec!["storage 1.0.437 is older than 1.0.450".into()];
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.says("ImageCompatible"), "False/BelowMinimum");
    assert_eq!(sim.told(EventReason::ImageBelowMinimum), 1, "{:?}", sim.notes);
}

#[test]
fn the_serving_sides_counts_images_and_addresses_are_published() {
    let sim = Sim::upgraded();
    let (storage, endpoints) = (sim.known().storage.clone().unwrap(), sim.known().endpoints.clone().unwrap());
    assert_eq!((storage.replicas, storage.ready_replicas), (2, 2));
    assert_eq!((storage.image.as_str(), storage.service.as_str()), ("r/storage:b", "sample1-storage-green"));
    assert_eq!(endpoints.storage, "sample1-storage.default.svc:9005");
    assert_eq!(endpoints.schema, "sample1-schema.default.svc:9006");
}

#[test]
fn the_phase_starts_when_it_changes_and_not_with_every_step() {
    let mut sim = in_step(Step::Watching);
    let cleanup = sim.known().phase_started_at.clone();
    assert_eq!(cleanup.as_ref().unwrap().0.as_second(), sim.cluster.now);
    sim.until(Step::Prune);
    assert_eq!(sim.known().phase_started_at, cleanup, "Watching and Prune are both Cleanup");
}

/// Nothing serves, the first release was replaced, and nothing may start.
#[test]
fn a_first_release_that_waits_for_the_end_of_a_pause_says_so() {
    let mut sim = Sim::new();
    sim.breaks("a", Cause::ImagePull);
    sim.advance(60);
    sim.pause(true);
    sim.edit("b");
    sim.advance(600);
    assert_eq!(
        ["SpecApplied", "Progressing", "Reconciling"].map(|kind| sim.says(kind)),
        ["False/Paused", "False/Paused", "False/Settled"]
    );
    sim.pause(false);
    sim.settle();
    assert_settled_on(&mut sim, "b on blue");
}

#[test]
fn readiness_names_the_component_that_is_not_ready_now() {
    let mut sim = Sim::upgraded();
    sim.all_unready(Component::Storage, Color::Green);
    sim.run();
    sim.all_unready(Component::Schema, Color::Green);
    sim.recover(Component::Storage, Color::Green);
    sim.run();
    assert!(sim.condition("Ready").message.contains("schema"), "{}", sim.condition("Ready").message);
}

/// The spec goes back to a release that failed: that is not what serves.
#[test]
fn a_release_given_up_for_a_failed_one_says_so() {
    let mut sim = Sim::stable();
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
    sim.edit("c");
    sim.advance(30);
    sim.edit("b");
    sim.settle();
    let said = sim.record_of("c").message.clone().unwrap();
    assert_eq!(said, "the spec went back to a release that failed");
}

#[test]
fn a_request_that_waits_for_the_end_of_a_pause_is_said_to() {
    let mut sim = Sim::stable();
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
    sim.pause(true);
    sim.retry("now");
    sim.settle();
    let said = "no rollout is in progress; e6data.io/retry waits until spec.rollout.paused is false";
    assert_eq!(sim.condition("Progressing").message, said);
    sim.pause(false);
    sim.settle();
    assert_eq!(sim.condition("Progressing").message, "no rollout is in progress");
}

/// Both sides are sick, and the spec went back: it is not said to serve.
#[test]
fn a_spec_whose_release_has_no_traffic_is_not_said_to_serve() {
    let mut sim = in_step(Step::Switching);
    sim.run();
    sim.all_unready(Component::Storage, Color::Blue);
    sim.cluster.slices_held = true;
    sim.edit("a");
    sim.run();
    assert_eq!((sim.step(), sim.says("SpecApplied").as_str()), (Some(Step::Switching), "False/InProgress"));
}

#[test]
fn what_does_not_go_is_named() {
    let mut sim = in_step(Step::Prune);
    sim.cluster.deletes_held = true;
    sim.advance(3_600);
    assert_eq!(sim.step(), Some(Step::Prune));
    let said = "deleting the objects of the inactive color; a ReplicaSet of sample1-storage-blue and \
                sample1-schema-blue outlives its Deployment. Remedy: delete it";
    assert_eq!(sim.condition("Progressing").message, said);
}
