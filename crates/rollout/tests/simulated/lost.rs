//! Statuses that get lost, each case as the history that showed what was wrong; most of them the model's.

use super::{assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::facts::Cause;
use simulator::Sim;

/// `b` has failed after the switch and is marked; one front Service is back on `a`, the other not yet.
fn half_rolled_back() -> Sim {
    let mut sim = in_step(Step::RollingBack);
    assert!(sim.stop_before(2), "the mark, and one patch");
    assert_eq!(sim.traffic(), "torn", "{}", sim.story());
    sim
}

#[test]
fn a_failed_release_stays_failed_when_the_status_is_lost_half_way_back() {
    let mut sim = half_rolled_back();
    sim.forget();
    sim.lose_status();
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"), "{}", sim.story());
    assert_eq!(sim.wrote("Create"), 0, "b is not tried again: {}", sim.story());
}

#[test]
fn fronts_that_differ_never_go_to_the_failed_release() {
    // The side that is gone back to is not complete just now; the other one is, and has failed.
    let mut sim = half_rolled_back();
    sim.unready(Component::Schema, Color::Blue, 0);
    sim.lose_status();
    sim.run();
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::RollingBack), "a on blue"),
        "{}",
        sim.story()
    );
    sim.recover(Component::Schema, Color::Blue);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"));
}

/// Another operator gives `b` up, and is about to mark it, when the status is lost; the rebuilt one goes on to `b`.
#[test]
fn a_mark_that_lands_after_the_rebuild_is_believed() {
    for step in [Step::Switching, Step::Watching] {
        let mut sim = in_step(step);
        let record = sim.cluster.revisions.iter_mut().find(|known| known.version == "b");
        record.expect("b is recorded before the switch").failed = Some("it restarted".into());
        sim.settle();
        assert_settled_on(&mut sim, "a on blue");
        assert!(sim.failed("b"), "{step:?}: {}", sim.story());
    }
}

#[test]
fn a_patch_of_another_operator_that_lands_after_the_loss_costs_no_request() {
    // Switching is decided and a patch on its way when the status is lost. The rebuild reads fronts that agree; then
    // the patch lands.
    let mut sim = in_step(Step::Switching);
    sim.lose_status();
    sim.pass();
    sim.drift(Component::Storage, Some(Color::Green));
    sim.cluster.slices_held = true;
    sim.advance(120);
    assert_eq!(sim.traffic(), "a on blue", "the patch is taken back: {}", sim.story());
    assert_eq!(sim.wrote("Delete"), 0, "traffic may still be on its way to green: {}", sim.story());
    sim.cluster.slices_held = false;
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

/// Traffic went back to `a` while it was warm, and on to `c` before anything came to rest.
#[test]
fn a_history_with_an_undo_on_the_way_comes_back_in_its_order() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Watching);
    sim.rollback_to("a");
    sim.advance(0);
    sim.edit("c");
    sim.settle();
    let before = sim.history();
    assert_eq!(before, "b:Superseded a:Superseded c:Active");
    sim.forget();
    sim.lose_status();
    sim.settle();
    assert_eq!(sim.history(), before, "{}", sim.story());
}

/// Releases that came back are younger than those that were made after them.
#[test]
fn a_history_with_rollbacks_comes_back_in_its_order() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.settle();
    for back in ["a", "c"] {
        sim.rollback_to(back);
        sim.settle();
    }
    assert_eq!(sim.history(), "b:Superseded a:Superseded c:Active");
    sim.forget();
    sim.lose_status();
    sim.settle();
    assert_eq!(sim.history(), "b:Superseded a:Superseded c:Active", "{}", sim.story());
}

/// The history is full, and the release that serves is the oldest in it that is good.
#[test]
fn what_serves_is_kept_when_a_full_history_is_rebuilt() {
    for limit in [2, 10] {
        let mut sim = Sim::upgraded();
        sim.intent.policy.history_limit = limit;
        for failed in 1..limit {
            let name = format!("x{failed}");
            sim.breaks(&name, Cause::Crash);
            sim.edit(&name);
            sim.settle();
        }
        sim.edit("d");
        sim.until(Step::Switching);
        sim.lose_status();
        sim.pass();
        assert_eq!(sim.active(), "b on green", "a release that never was switched to: {}", sim.story());
        sim.settle();
        assert_settled_on(&mut sim, "d on blue");
        sim.rollback_to("b");
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn a_restart_before_the_switch_is_not_held_against_what_a_rebuild_goes_back_to() {
    // A pod of `a` has restarted at some time. Traffic is on its way back from `b` when the status is lost.
    let mut sim = Sim::stable();
    sim.restart_pod(Component::Storage, Color::Blue, 0);
    sim.settle();
    sim.edit("b");
    sim.until(Step::Watching);
    sim.edit("a");
    sim.until(Step::RollingBack);
    assert!(sim.stop_before(1), "{}", sim.story());
    assert_eq!(sim.traffic(), "torn", "{}", sim.story());
    sim.forget();
    sim.lose_status();
    sim.settle();
    assert!(!sim.failed("a"), "{}", sim.story());
    assert_settled_on(&mut sim, "a on blue");
}

/// The old side was on its way out when the status was lost, and the new one breaks: deletes that were decided before may
/// still land. The old side is written to first, so that they are refused, and gone back to after that.
#[test]
fn what_was_on_its_way_out_is_stamped_before_it_is_gone_back_to() {
    let mut sim = in_step(Step::Prune);
    sim.lose_status();
    sim.unready(Component::Storage, Color::Green, 0);
    sim.forget();
    // Crashed half way: what is stamped stays so, the rest follows.
    sim.stop_before(2);
    assert_eq!((sim.wrote("Stamp"), sim.wrote("Commit")), (2, 0), "{}", sim.story());
    sim.pass();
    assert_eq!(sim.wrote("Stamp"), 6, "{}", sim.story());
    // Annotations raise the generation of a Deployment: its controller has not seen them yet.
    for component in Component::ALL {
        let cell = sim.cluster.cell_mut(component, Color::Blue);
        cell.deployment.as_mut().expect("it is warm").observed = false;
    }
    sim.pass();
    assert_eq!(sim.step(), Some(Step::RollingBack), "{}", sim.story());
    sim.run();
    assert_eq!((sim.traffic().as_str(), sim.wrote("Stamp")), ("a on blue", 6), "{}", sim.story());
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

/// Objects that were created after the last decision to delete need no stamp.
#[test]
fn what_was_on_its_way_in_is_gone_on_with_unstamped() {
    let mut sim = in_step(Step::Switching);
    sim.lose_status();
    sim.unready(Component::Storage, Color::Blue, 0);
    sim.forget();
    sim.pass();
    assert_eq!((sim.wrote("Stamp"), sim.wrote("Commit")), (0, 1), "{}", sim.story());
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

/// A patch that was decided before the loss lands on one front Service and carries a later number than the rebuilt status:
/// the status takes a number above it, so that no stamp goes down.
#[test]
fn a_later_number_on_one_front_service_is_outnumbered() {
    let mut sim = in_step(Step::RollingBack);
    let epoch = sim.cluster.fronts.storage.as_ref().unwrap().epoch + 5;
    sim.drift(Component::Storage, Some(Color::Green));
    sim.cluster.fronts.storage.as_mut().unwrap().epoch = epoch;
    sim.run();
    let outnumbered = sim.status.as_ref().and_then(|status| Some(status.rollout.as_ref()?.epoch));
    assert_eq!(outnumbered, Some(epoch + 1), "{}", sim.story());
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}
