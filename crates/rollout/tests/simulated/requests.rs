//! Requests by annotation: rollback, retry, restart (design D10, D11; invariants I24, I25).

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step, Trigger};
use rollout::EventReason;
use rollout::facts::{Cause, ObjectId};
use simulator::{Boot, Sim, hash};

/// `b` failed before the switch; `a` serves on blue, as the second release after `z`.
fn rolled_back() -> Sim {
    let mut sim = Sim::stable();
    sim.edit("z");
    sim.settle();
    sim.edit("a");
    sim.settle();
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "z:Superseded a:Active b:Failed");
    sim.forget();
    sim
}

/// The guide's `releaseHistory[-2]`.
fn before_last(sim: &Sim) -> String {
    let history = &sim.known().release_history;
    history[history.len() - 2].version.clone()
}

#[test]
fn a_manual_rollback_brings_a_pruned_release_back() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("a");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "b:Superseded a:Active");
    assert_eq!(
        (sim.intent.wanted.hash.as_str(), &sim.intent.requests.rollback_to),
        (hash("a").as_str(), &None)
    );
    assert!(sim.total() <= 24, "{:?}", sim.writes);
    assert_eq!((sim.wrote("Amend"), sim.record_of("a").trigger), (1, Trigger::Rollback));
    let last = sim.known().last_rollback.clone().unwrap();
    assert_eq!((last.from.as_str(), last.to.as_str(), last.trigger.as_str()), ("b", "a", "Manual"));
    assert!(sim.events() <= 6, "I44: {:?}", sim.notes);
}

#[test]
fn the_guides_command_toggles() {
    let mut sim = Sim::upgraded();
    for expected in ["a on blue", "b on green", "a on blue"] {
        let to = before_last(&sim);
        sim.rollback_to(&to);
        sim.settle();
        assert_settled_on(&mut sim, expected);
        assert_eq!(sim.known().release_history.len(), 2, "I25: no duplicate records");
        let numbers = sim.cluster.revisions.iter().max_by_key(|known| known.number).unwrap();
        assert_eq!(format!("{} on", numbers.version), expected[..4], "the newest revision is what serves");
    }
}

#[test]
fn a_rollback_after_a_failure_clears_the_block_and_asked_again_brings_the_one_before() {
    let mut sim = rolled_back();
    let to = before_last(&sim);
    assert_eq!(to, "a");
    sim.rollback_to(&to);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!((sim.moved, sim.wrote("Create"), sim.wrote("Delete")), (0, 0, 0), "zero switches");
    assert_eq!((sim.phase(), sim.says("Stalled")), ("Stable", "False/None".into()));
    assert_eq!(sim.intent.wanted.hash, hash("a"));
    let to = before_last(&sim);
    assert_eq!(to, "z", "D12: {}", sim.history());
    sim.rollback_to(&to);
    sim.settle();
    assert_settled_on(&mut sim, "z on green");
}

#[test]
fn a_rollback_while_deploying_aborts_and_asked_again_brings_the_one_before() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.advance(60);
    let to = before_last(&sim);
    assert_eq!(to, "b");
    sim.rollback_to(&to);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.moved, 0, "I23");
    let to = before_last(&sim);
    assert_eq!(to, "a", "D12: {}", sim.history());
    sim.rollback_to(&to);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_rollback_works_in_every_step() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.rollback_to("a");
        sim.settle();
        let color = if matches!(step, Step::Prune) { "a on blue" } else { &sim.active() };
        assert!(color.starts_with("a on "), "{step:?}: {}", sim.story());
        assert_settled_on(&mut sim, color);
        assert_eq!(sim.intent.wanted.hash, hash("a"));
        assert_eq!(sim.wrote("Amend"), 1, "{step:?}: I24, once: {}", sim.story());
        if matches!(step, Step::Switching | Step::Watching | Step::Prune) {
            let last = sim.known().last_rollback.clone().expect("lastRollback");
            assert_eq!(
                (last.from.as_str(), last.to.as_str(), last.trigger.as_str()),
                ("b", "a", "Manual"),
                "{step:?}"
            );
        }
        assert!(
            sim.known().rollout.as_ref().unwrap().request.is_none(),
            "{step:?}: the request is forgotten"
        );
    }
}

#[test]
fn a_request_that_cannot_be_met_changes_only_the_annotation() {
    for (value, word) in
        [("", "empty"), ("nope", "no release of this name"), ("b", "never served"), ("a\nb", "no release")]
    {
        let mut sim = rolled_back();
        let spec = sim.intent.wanted.clone();
        sim.rollback_to(value);
        sim.settle();
        assert_eq!(sim.intent.wanted, spec);
        assert_eq!(sim.intent.requests.rollback_to, None);
        assert_eq!((sim.told(EventReason::RequestRefused), sim.moved), (1, 0), "{value:?}");
        assert!(sim.notes[0].message.contains(word), "{:?}", sim.notes);
        assert_eq!(sim.says("Progressing"), "False/RequestRefused");
        assert!(sim.condition("Progressing").message.contains(word));
        assert_eq!((sim.wrote("Amend"), sim.wrote("Commit"), sim.total()), (1, 1, 2), "{}", sim.story());
        assert_settled_on(&mut sim, "a on blue");
        // The same mistake again is answered again.
        sim.rollback_to(value);
        sim.settle();
        assert_eq!(sim.intent.requests.rollback_to, None);
    }
}

#[test]
fn a_template_that_todays_validation_rejects_is_refused() {
    let mut sim = Sim::upgraded();
    sim.restore_refused = Some("spec.storage.imageTag: too long".into());
    sim.rollback_to("a");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!((sim.told(EventReason::RequestRefused), sim.moved), (1, 0));
    assert!(sim.condition("Progressing").message.contains("too long"));
}

#[test]
fn a_release_whose_revision_was_deleted_is_refused() {
    let mut sim = Sim::upgraded();
    sim.remove(&ObjectId::Revision("a".into()));
    sim.rollback_to("a");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!((sim.told(EventReason::RequestRefused), sim.intent.requests.rollback_to.clone()), (1, None));
}

#[test]
fn a_refusal_is_forgotten_by_the_next_success() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("nope");
    sim.settle();
    sim.rollback_to("a");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.says("Progressing"), "False/Settled");
}

#[test]
fn a_rollback_lifts_the_block_of_a_release_that_was_good_once() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.until(Step::Watching);
    sim.restart_pod(Component::Storage, Color::Blue, 0);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert!(sim.failed("c"));
    sim.rollback_to("c");
    sim.settle();
    assert_settled_on(&mut sim, "c on blue");
    assert_eq!(sim.record_of("c").status, RecordStatus::Active);
    assert!(sim.cluster.revisions.iter().all(|known| known.failed.is_none()), "{:?}", sim.cluster.revisions);
}

#[test]
fn a_rollback_is_honoured_while_paused() {
    let mut sim = Sim::upgraded();
    sim.pause(true);
    sim.rollback_to("a");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    let mut sim = in_step(Step::Prune);
    sim.pause(true);
    sim.rollback_to("a");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_retry_tries_a_failed_release_once_more() {
    for good in [true, false] {
        let mut sim = rolled_back();
        if good {
            sim.boots("b", Component::Storage, Boot::Ready(3));
        }
        sim.retry("now");
        sim.settle();
        assert_eq!(sim.intent.requests.retry, None);
        assert_settled_on(&mut sim, if good { "b on green" } else { "a on blue" });
        assert_eq!(sim.record_of("b").trigger, Trigger::Retry);
        assert_eq!(sim.failed("b"), !good);
        assert_eq!(sim.told(EventReason::ReleaseStarted), 1, "tried once");
    }
}

#[test]
fn the_same_retry_can_be_asked_for_again() {
    let mut sim = rolled_back();
    sim.retry("now");
    sim.settle();
    sim.forget();
    sim.boots("b", Component::Storage, Boot::Ready(3));
    sim.retry("now");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_retry_with_nothing_to_retry_is_refused() {
    let mut sim = Sim::upgraded();
    sim.retry("now");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!((sim.told(EventReason::RequestRefused), sim.total()), (1, 2), "{}", sim.story());
}

#[test]
fn a_retry_given_while_the_release_still_fails_is_kept() {
    let mut sim = Sim::stable();
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.advance(60);
    sim.boots("b", Component::Storage, Boot::Ready(3));
    sim.retry("1");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.intent.requests.retry, None);
}

#[test]
fn a_restart_deploys_the_serving_release_anew() {
    let mut sim = Sim::upgraded();
    sim.restart("now");
    sim.settle();
    assert_settled_on(&mut sim, "b on blue");
    assert_eq!(sim.history(), "a:Superseded b:Active");
    assert_eq!((sim.record_of("b").trigger, sim.intent.requests.restart.clone()), (Trigger::Restart, None));
    sim.restart("now");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_restart_works_while_the_spec_is_blocked() {
    let mut sim = rolled_back();
    sim.restart("now");
    sim.settle();
    assert_settled_on(&mut sim, "a on green");
    assert_eq!((sim.phase(), sim.says("SpecApplied").as_str()), ("Degraded", "False/RolledBack"));
}

/// What is asked for begins, and something of an earlier decision, a create that was late, turns up on its color.
fn found_dirty(mut sim: Sim, color: Color) -> Sim {
    sim.until(Step::Deploying);
    sim.run();
    sim.cluster.cell_mut(Component::Schema, color).service.as_mut().unwrap().epoch = 1;
    sim.until(Step::Prune);
    sim
}

#[test]
fn a_restart_is_not_forgotten_while_its_color_is_cleared() {
    for paused in [false, true] {
        let mut sim = rolled_back();
        sim.restart("now");
        let mut sim = found_dirty(sim, Color::Green);
        assert_eq!(sim.known().pending_release_version.as_deref(), Some("a"));
        sim.pause(paused);
        sim.settle();
        assert_settled_on(&mut sim, "a on green");
        assert_eq!(sim.record_of("a").trigger, Trigger::Restart);
    }
    // A newer release replaces every pod anyway.
    let mut sim = rolled_back();
    sim.restart("now");
    let mut sim = found_dirty(sim, Color::Green);
    sim.edit("c");
    sim.settle();
    assert_settled_on(&mut sim, "c on green");
    // What cannot be deployed any more is not waited for.
    let mut sim = rolled_back();
    sim.restart("now");
    let mut sim = found_dirty(sim, Color::Green);
    sim.cluster.revisions.retain(|known| known.version != "a");
    sim.settle();
    assert_eq!((sim.step(), sim.active().as_str()), (Some(Step::Stable), "a on blue"), "{}", sim.story());
    assert_eq!(sim.known().pending_release_version, None);
}

#[test]
fn a_rollback_and_a_retry_are_what_they_were_when_their_color_is_clear() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("a");
    let mut sim = found_dirty(sim, Color::Blue);
    sim.pause(true);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.record_of("a").trigger, Trigger::Rollback);
    let last = sim.known().last_rollback.clone().unwrap();
    assert_eq!((last.to.as_str(), last.trigger.as_str()), ("a", "Manual"));
    let mut sim = rolled_back();
    sim.boots("b", Component::Storage, Boot::Ready(3));
    sim.retry("1");
    let mut sim = found_dirty(sim, Color::Green);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.record_of("b").trigger, Trigger::Retry);
}

#[test]
fn a_failing_restart_ends_on_the_old_pods_and_blocks_nothing() {
    for after_the_switch in [false, true] {
        let mut sim = Sim::upgraded();
        if after_the_switch {
            sim.restart("now");
            sim.until(Step::Watching);
            sim.restart_pod(Component::Storage, Color::Blue, 0);
        } else {
            sim.breaks("b", Cause::ImagePull);
            sim.restart("now");
        }
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
        assert_eq!(sim.record_of("b").status, RecordStatus::Active);
        assert_eq!((sim.phase(), sim.says("SpecApplied").as_str()), ("Stable", "True/Applied"));
        assert_eq!(sim.told(EventReason::ReleaseStarted), 1, "not tried again");
    }
}

#[test]
fn a_restart_gives_way_to_a_new_spec() {
    let mut sim = Sim::upgraded();
    sim.restart("now");
    sim.advance(60);
    sim.edit("c");
    sim.settle();
    assert_settled_on(&mut sim, "c on blue");
    assert_eq!(sim.history(), "a:Superseded b:Superseded c:Active");
}

#[test]
fn revert_spec_writes_the_serving_template_back() {
    let mut sim = Sim::stable();
    sim.intent.policy.revert_spec = true;
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!((sim.intent.wanted.hash.clone(), sim.wrote("Amend")), (hash("a"), 1));
    assert_eq!((sim.phase(), sim.says("SpecApplied").as_str()), ("Stable", "True/Applied"));
}

/// What had no meaning once has one later, under the same value: every message says `now`.
#[test]
fn a_request_that_was_refused_can_be_made_again() {
    let mut sim = Sim::upgraded();
    sim.retry("now");
    sim.settle();
    assert_eq!(sim.told(EventReason::RequestRefused), 1);
    sim.breaks("c", Cause::Crash);
    sim.edit("c");
    sim.settle();
    assert!(sim.failed("c"));
    sim.boots("c", Component::Storage, Boot::Ready(3));
    sim.retry("now");
    sim.settle();
    assert_settled_on(&mut sim, "c on blue");
}

#[test]
fn a_restart_that_was_refused_can_be_made_again() {
    let mut sim = Sim::stable();
    sim.breaks("x", Cause::Crash);
    sim.edit("x");
    sim.settle();
    sim.remove(&ObjectId::Revision("a".into()));
    sim.restart("now");
    sim.settle();
    assert_eq!(sim.told(EventReason::RequestRefused), 1, "{}", sim.story());
    sim.edit("a");
    sim.settle();
    sim.restart("now");
    sim.settle();
    assert_settled_on(&mut sim, "a on green");
}

#[test]
fn a_refusal_is_forgotten_when_a_release_begins() {
    let mut sim = Sim::upgraded();
    sim.rollback_to("nope");
    sim.settle();
    assert_eq!(sim.says("Progressing"), "False/RequestRefused");
    sim.edit("c");
    sim.settle();
    assert_eq!(sim.says("Progressing"), "False/Settled", "{}", sim.condition("Progressing").message);
}

#[test]
fn a_rollback_goes_before_a_retry_also_while_paused() {
    let mut sim = Sim::upgraded();
    sim.pause(true);
    sim.rollback_to("a");
    sim.retry("now");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

/// An annotation holds up to 256 KiB; a status has to stay small (I20 is a law of the simulator).
#[test]
fn a_long_value_is_cut() {
    let mut sim = Sim::upgraded();
    sim.rollback_to(&"x".repeat(20_000));
    sim.settle();
    assert_eq!(sim.told(EventReason::RequestRefused), 1);
    assert!(sim.condition("Progressing").message.len() < 1_000);
}

/// A policy or a webhook does not take the change of the resource: what is under way goes on.
#[test]
fn a_request_that_the_api_server_does_not_take_holds_nothing_up() {
    let mut sim = in_step(Step::Watching);
    sim.run();
    sim.rollback_to("b");
    sim.pass();
    sim.deferred.requests = true;
    sim.all_unready(Component::Storage, Color::Green);
    sim.cluster.now += 1;
    sim.run();
    sim.advance(600);
    assert_eq!((sim.traffic().as_str(), sim.failed("b")), ("a on blue", true), "{}", sim.story());
}

#[test]
fn a_spec_that_cannot_be_put_back_is_left() {
    let mut sim = Sim::stable();
    sim.intent.policy.revert_spec = true;
    sim.restore_refused = Some("spec.storage.imageTag: too long".into());
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"));
    sim.stays_quiet();
}
