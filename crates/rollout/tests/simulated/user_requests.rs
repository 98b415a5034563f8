//! Requests by annotation: rollback, retry, restart (design D10, D11; invariants I24, I25).
//!
//! Covers `requests.rs`.

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step, Trigger};
use rollout::EventReason;
use rollout::facts::{Cause, ObjectId};
use simulator::{Sim, Startup, hash};

/// Returns a resource with `a` active on blue, `z` before it, and `b` failed before the switch.
fn rolled_back() -> Sim {
    let mut sim = Sim::stable();
    sim.edit("z");
    sim.run_until_idle();
    sim.edit("a");
    sim.run_until_idle();
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "z:Superseded a:Active b:Failed");
    sim.reset_counters();
    sim
}

/// Returns `releaseHistory[-2]`, as the documented command does.
fn before_last(sim: &Sim) -> String {
    let history = &sim.stored_status().release_history;
    history[history.len() - 2].version.clone()
}

#[test]
fn a_manual_rollback_deploys_a_pruned_release() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "b:Superseded a:Active");
    assert_eq!(
        (sim.intent.wanted.hash.as_str(), &sim.intent.requests.rollback_to),
        (hash("a").as_str(), &None)
    );
    assert!(sim.write_count() <= 24, "{:?}", sim.writes);
    assert_eq!((sim.wrote("PatchResource"), sim.record_of("a").trigger), (1, Trigger::Rollback));
    let last = sim.stored_status().last_rollback.clone().unwrap();
    assert_eq!((last.from.as_str(), last.to.as_str(), last.trigger.as_str()), ("b", "a", "Manual"));
    assert!(sim.event_total() <= 6, "I44: {:?}", sim.notes);
}

#[test]
fn the_documented_rollback_command_toggles() {
    let mut sim = Sim::upgraded();
    for expected in ["a on blue", "b on green", "a on blue"] {
        let to = before_last(&sim);
        sim.rollback_to(&to);
        sim.run_until_idle();
        assert_settled_on(&mut sim, expected);
        assert_eq!(sim.stored_status().release_history.len(), 2, "I25: no duplicate records");
        let numbers = sim.cluster.revisions.iter().max_by_key(|known| known.number).unwrap();
        assert_eq!(
            format!("{} on", numbers.version),
            expected[..4],
            "the newest revision is the active release"
        );
    }
}

#[test]
fn two_rollbacks_after_a_failure_reach_the_release_before() {
    let mut sim = rolled_back();
    let to = before_last(&sim);
    assert_eq!(to, "a");
    sim.rollback_to(&to);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!((sim.selector_changes, sim.wrote("Create"), sim.wrote("Delete")), (0, 0, 0), "zero switches");
    assert_eq!((sim.phase(), sim.condition_state("Stalled")), ("Stable", "False/None".into()));
    assert_eq!(sim.intent.wanted.hash, hash("a"));
    let to = before_last(&sim);
    assert_eq!(to, "z", "D12: {}", sim.history());
    sim.rollback_to(&to);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "z on green");
}

#[test]
fn two_rollbacks_while_deploying_reach_the_release_before() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.advance(60);
    let to = before_last(&sim);
    assert_eq!(to, "b");
    sim.rollback_to(&to);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.selector_changes, 0, "I23");
    let to = before_last(&sim);
    assert_eq!(to, "a", "D12: {}", sim.history());
    sim.rollback_to(&to);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_rollback_works_in_every_step() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.rollback_to("a");
        sim.run_until_idle();
        let color = if matches!(step, Step::Prune) { "a on blue" } else { &sim.active() };
        assert!(color.starts_with("a on "), "{step:?}: {}", sim.trace_text());
        assert_settled_on(&mut sim, color);
        assert_eq!(sim.intent.wanted.hash, hash("a"));
        assert_eq!(sim.wrote("PatchResource"), 1, "{step:?}: I24, once: {}", sim.trace_text());
        if matches!(step, Step::Switching | Step::Watching | Step::Prune) {
            let last = sim.stored_status().last_rollback.clone().expect("lastRollback");
            assert_eq!(
                (last.from.as_str(), last.to.as_str(), last.trigger.as_str()),
                ("b", "a", "Manual"),
                "{step:?}"
            );
        }
        assert!(
            sim.stored_status().rollout.as_ref().unwrap().request.is_none(),
            "{step:?}: the request is cleared"
        );
    }
}

#[test]
fn a_refused_rollback_changes_only_the_annotation() {
    for (value, word) in
        [("", "empty"), ("nope", "no release of this name"), ("b", "never served"), ("a\nb", "no release")]
    {
        let mut sim = rolled_back();
        let spec = sim.intent.wanted.clone();
        sim.rollback_to(value);
        sim.run_until_idle();
        assert_eq!(sim.intent.wanted, spec);
        assert_eq!(sim.intent.requests.rollback_to, None);
        assert_eq!((sim.event_count(EventReason::RequestRefused), sim.selector_changes), (1, 0), "{value:?}");
        assert!(sim.notes[0].message.contains(word), "{:?}", sim.notes);
        assert_eq!(sim.condition_state("Progressing"), "False/RequestRefused");
        assert!(sim.condition("Progressing").message.contains(word));
        assert_eq!(
            (sim.wrote("PatchResource"), sim.wrote("UpdateStatus"), sim.write_count()),
            (1, 1, 2),
            "{}",
            sim.trace_text()
        );
        assert_settled_on(&mut sim, "a on blue");
        // The operator answers the same annotation again.
        sim.rollback_to(value);
        sim.run_until_idle();
        assert_eq!(sim.intent.requests.rollback_to, None);
    }
}

#[test]
fn a_rollback_to_a_now_invalid_template_is_refused() {
    let mut sim = Sim::upgraded();
    sim.restore_refused = Some("spec.storage.imageTag: too long".into());
    sim.rollback_to("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!((sim.event_count(EventReason::RequestRefused), sim.selector_changes), (1, 0));
    assert!(sim.condition("Progressing").message.contains("too long"));
}

#[test]
fn a_release_whose_revision_was_deleted_is_refused() {
    let mut sim = Sim::upgraded();
    sim.delete_externally(&ObjectId::Revision("a".into()));
    sim.rollback_to("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(
        (sim.event_count(EventReason::RequestRefused), sim.intent.requests.rollback_to.clone()),
        (1, None)
    );
}

#[test]
fn a_refusal_is_cleared_by_the_next_success() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("nope");
    sim.run_until_idle();
    sim.rollback_to("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.condition_state("Progressing"), "False/Settled");
}

#[test]
fn a_rollback_unblocks_a_release_that_served_before() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.until(Step::Watching);
    sim.restart_pod(Component::Storage, Color::Blue, 0);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert!(sim.failed("c"));
    sim.rollback_to("c");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on blue");
    assert_eq!(sim.record_of("c").status, RecordStatus::Active);
    assert!(sim.cluster.revisions.iter().all(|known| known.failed.is_none()), "{:?}", sim.cluster.revisions);
}

#[test]
fn a_rollback_runs_while_paused() {
    let mut sim = Sim::upgraded();
    sim.pause(true);
    sim.rollback_to("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    let mut sim = in_step(Step::Prune);
    sim.pause(true);
    sim.rollback_to("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_retry_deploys_a_failed_release_once() {
    for good in [true, false] {
        let mut sim = rolled_back();
        if good {
            sim.set_startup("b", Component::Storage, Startup::Ready(3));
        }
        sim.retry("now");
        sim.run_until_idle();
        assert_eq!(sim.intent.requests.retry, None);
        assert_settled_on(&mut sim, if good { "b on green" } else { "a on blue" });
        assert_eq!(sim.record_of("b").trigger, Trigger::Retry);
        assert_eq!(sim.failed("b"), !good);
        assert_eq!(sim.event_count(EventReason::ReleaseStarted), 1, "tried once");
    }
}

#[test]
fn the_same_retry_can_be_repeated() {
    let mut sim = rolled_back();
    sim.retry("now");
    sim.run_until_idle();
    sim.reset_counters();
    sim.set_startup("b", Component::Storage, Startup::Ready(3));
    sim.retry("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_retry_without_a_failed_release_is_refused() {
    let mut sim = Sim::upgraded();
    sim.retry("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(
        (sim.event_count(EventReason::RequestRefused), sim.write_count()),
        (1, 2),
        "{}",
        sim.trace_text()
    );
}

#[test]
fn a_retry_during_the_failure_is_kept() {
    let mut sim = Sim::stable();
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.advance(60);
    sim.set_startup("b", Component::Storage, Startup::Ready(3));
    sim.retry("1");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.intent.requests.retry, None);
}

#[test]
fn a_restart_deploys_the_active_release_again() {
    let mut sim = Sim::upgraded();
    sim.restart("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on blue");
    assert_eq!(sim.history(), "a:Superseded b:Active");
    assert_eq!((sim.record_of("b").trigger, sim.intent.requests.restart.clone()), (Trigger::Restart, None));
    sim.restart("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_restart_works_while_the_spec_is_blocked() {
    let mut sim = rolled_back();
    sim.restart("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on green");
    assert_eq!((sim.phase(), sim.condition_state("SpecApplied").as_str()), ("Degraded", "False/RolledBack"));
}

/// Lets the requested release start, and an object of an earlier epoch appear on its color.
fn found_dirty(mut sim: Sim, color: Color) -> Sim {
    sim.until(Step::Deploying);
    sim.run();
    sim.cluster.cell_mut(Component::Schema, color).service.as_mut().unwrap().epoch = 1;
    sim.until(Step::Prune);
    sim
}

#[test]
fn a_restart_is_remembered_while_its_color_is_pruned() {
    for paused in [false, true] {
        let mut sim = rolled_back();
        sim.restart("now");
        let mut sim = found_dirty(sim, Color::Green);
        assert_eq!(sim.stored_status().pending_release_version.as_deref(), Some("a"));
        sim.pause(paused);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "a on green");
        assert_eq!(sim.record_of("a").trigger, Trigger::Restart);
    }
    // A newer release replaces all Pods anyway.
    let mut sim = rolled_back();
    sim.restart("now");
    let mut sim = found_dirty(sim, Color::Green);
    sim.edit("c");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on green");
    // The operator drops a restart that it cannot deploy.
    let mut sim = rolled_back();
    sim.restart("now");
    let mut sim = found_dirty(sim, Color::Green);
    sim.cluster.revisions.retain(|known| known.version != "a");
    sim.run_until_idle();
    assert_eq!(
        (sim.step(), sim.active().as_str()),
        (Some(Step::Stable), "a on blue"),
        "{}",
        sim.trace_text()
    );
    assert_eq!(sim.stored_status().pending_release_version, None);
}

#[test]
fn a_rollback_and_a_retry_keep_their_trigger_through_prune() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("a");
    let mut sim = found_dirty(sim, Color::Blue);
    sim.pause(true);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.record_of("a").trigger, Trigger::Rollback);
    let last = sim.stored_status().last_rollback.clone().unwrap();
    assert_eq!((last.to.as_str(), last.trigger.as_str()), ("a", "Manual"));
    let mut sim = rolled_back();
    sim.set_startup("b", Component::Storage, Startup::Ready(3));
    sim.retry("1");
    let mut sim = found_dirty(sim, Color::Green);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.record_of("b").trigger, Trigger::Retry);
}

#[test]
fn a_failing_restart_keeps_the_old_pods_and_blocks_nothing() {
    for after_the_switch in [false, true] {
        let mut sim = Sim::upgraded();
        if after_the_switch {
            sim.restart("now");
            sim.until(Step::Watching);
            sim.restart_pod(Component::Storage, Color::Blue, 0);
        } else {
            sim.fail_startup("b", Cause::ImagePull);
            sim.restart("now");
        }
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
        assert_eq!(sim.record_of("b").status, RecordStatus::Active);
        assert_eq!((sim.phase(), sim.condition_state("SpecApplied").as_str()), ("Stable", "True/Applied"));
        assert_eq!(sim.event_count(EventReason::ReleaseStarted), 1, "not tried again");
    }
}

#[test]
fn a_new_spec_supersedes_a_restart() {
    let mut sim = Sim::upgraded();
    sim.restart("now");
    sim.advance(60);
    sim.edit("c");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on blue");
    assert_eq!(sim.history(), "a:Superseded b:Superseded c:Active");
}

#[test]
fn revert_spec_restores_the_active_template() {
    let mut sim = Sim::stable();
    sim.intent.policy.revert_spec = true;
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!((sim.intent.wanted.hash.clone(), sim.wrote("PatchResource")), (hash("a"), 1));
    assert_eq!((sim.phase(), sim.condition_state("SpecApplied").as_str()), ("Stable", "True/Applied"));
}

/// A request that was refused may succeed later with the same value, for example `now`.
#[test]
fn a_refused_retry_can_be_repeated() {
    let mut sim = Sim::upgraded();
    sim.retry("now");
    sim.run_until_idle();
    assert_eq!(sim.event_count(EventReason::RequestRefused), 1);
    sim.fail_startup("c", Cause::Crash);
    sim.edit("c");
    sim.run_until_idle();
    assert!(sim.failed("c"));
    sim.set_startup("c", Component::Storage, Startup::Ready(3));
    sim.retry("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on blue");
}

#[test]
fn a_refused_restart_can_be_repeated() {
    let mut sim = Sim::stable();
    sim.fail_startup("x", Cause::Crash);
    sim.edit("x");
    sim.run_until_idle();
    sim.delete_externally(&ObjectId::Revision("a".into()));
    sim.restart("now");
    sim.run_until_idle();
    assert_eq!(sim.event_count(EventReason::RequestRefused), 1, "{}", sim.trace_text());
    sim.edit("a");
    sim.run_until_idle();
    sim.restart("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on green");
}

#[test]
fn a_refusal_is_cleared_when_a_release_starts() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("nope");
    sim.run_until_idle();
    assert_eq!(sim.condition_state("Progressing"), "False/RequestRefused");
    sim.edit("c");
    sim.run_until_idle();
    assert_eq!(
        sim.condition_state("Progressing"),
        "False/Settled",
        "{}",
        sim.condition("Progressing").message
    );
}

#[test]
fn a_rollback_precedes_a_retry_even_while_paused() {
    let mut sim = Sim::upgraded();
    sim.pause(true);
    sim.rollback_to("a");
    sim.retry("now");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

/// An annotation may have 256 KiB, a status must stay small (I20).
#[test]
fn a_long_annotation_is_truncated() {
    let mut sim = Sim::upgraded();
    sim.rollback_to(&"x".repeat(20_000));
    sim.run_until_idle();
    assert_eq!(sim.event_count(EventReason::RequestRefused), 1);
    assert!(sim.condition("Progressing").message.len() < 1_000);
}

/// A policy or a webhook rejects the patch of the resource. The rollout continues.
#[test]
fn a_rejected_resource_patch_does_not_block_the_rollout() {
    let mut sim = in_step(Step::Watching);
    sim.run();
    sim.rollback_to("b");
    sim.reconcile();
    sim.deferred.requests = true;
    sim.make_all_unready(Component::Storage, Color::Green);
    sim.cluster.now += 1;
    sim.run();
    sim.advance(600);
    assert_eq!((sim.traffic().as_str(), sim.failed("b")), ("a on blue", true), "{}", sim.trace_text());
}
