//! Losses of the status, each with the history that showed an error. The model found most of them.
//!
//! Covers `recovery.rs`.

use super::{assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::Step;
use rollout::facts::Cause;
use simulator::Sim;

/// Returns a rollback of `b` in which `b` is marked Failed and one front Service selects `a` again.
fn half_rolled_back() -> Sim {
    let mut sim = in_step(Step::RollingBack);
    assert!(sim.stop_before(2), "the mark, and one patch");
    assert_eq!(sim.traffic(), "split", "{}", sim.trace_text());
    sim
}

#[test]
fn a_failed_release_stays_failed_after_a_loss_in_its_rollback() {
    let mut sim = half_rolled_back();
    sim.reset_counters();
    sim.lose_status();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"), "{}", sim.trace_text());
    assert_eq!(sim.wrote("Create"), 0, "b does not start again: {}", sim.trace_text());
}

#[test]
fn split_front_services_never_select_the_failed_release() {
    // The color of `a` is not complete at the moment. The color of `b` is, but `b` failed.
    let mut sim = half_rolled_back();
    sim.make_unready(Component::Schema, Color::Blue, 0);
    sim.lose_status();
    sim.run();
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::RollingBack), "a on blue"),
        "{}",
        sim.trace_text()
    );
    sim.recover(Component::Schema, Color::Blue);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"));
}

/// Another operator cancels `b` and is about to mark it Failed. The status is lost, and the recovered one continues
/// to `b`.
#[test]
fn a_late_failed_mark_counts_after_recovery() {
    for step in [Step::Switching, Step::Watching] {
        let mut sim = in_step(step);
        let record = sim.cluster.revisions.iter_mut().find(|known| known.version == "b");
        record.expect("b is recorded before the switch").failed = Some("it restarted".into());
        sim.run_until_idle();
        assert_settled_on(&mut sim, "a on blue");
        assert!(sim.failed("b"), "{step:?}: {}", sim.trace_text());
    }
}

#[test]
fn a_late_patch_after_a_status_loss_costs_no_request() {
    // The status is lost after the decision to switch, with a patch still in flight. The recovery reads equal front
    // Services, and then the patch arrives.
    let mut sim = in_step(Step::Switching);
    sim.lose_status();
    sim.reconcile();
    sim.change_selector(Component::Storage, Some(Color::Green));
    sim.cluster.slices_frozen = true;
    sim.advance(120);
    assert_eq!(sim.traffic(), "a on blue", "the patch is reverted: {}", sim.trace_text());
    assert_eq!(sim.wrote("Delete"), 0, "Pods of green may still receive traffic: {}", sim.trace_text());
    sim.cluster.slices_frozen = false;
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// Traffic returned to `a` in Watching, and `c` was released before the resource was at rest.
#[test]
fn a_history_with_an_undo_is_recovered_in_order() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Watching);
    sim.rollback_to("a");
    sim.advance(0);
    sim.edit("c");
    sim.run_until_idle();
    let before = sim.history();
    assert_eq!(before, "b:Superseded a:Superseded c:Active");
    sim.reset_counters();
    sim.lose_status();
    sim.run_until_idle();
    assert_eq!(sim.history(), before, "{}", sim.trace_text());
}

/// A rollback makes an older release the newest in the history.
#[test]
fn a_history_with_rollbacks_is_recovered_in_order() {
    let mut sim = Sim::upgraded();
    sim.edit("c");
    sim.run_until_idle();
    for back in ["a", "c"] {
        sim.rollback_to(back);
        sim.run_until_idle();
    }
    assert_eq!(sim.history(), "b:Superseded a:Superseded c:Active");
    sim.reset_counters();
    sim.lose_status();
    sim.run_until_idle();
    assert_eq!(sim.history(), "b:Superseded a:Superseded c:Active", "{}", sim.trace_text());
}

/// The history is full, and the active release is the oldest good one in it.
#[test]
fn recovery_of_a_full_history_keeps_the_active_release() {
    for limit in [2, 10] {
        let mut sim = Sim::upgraded();
        sim.intent.policy.history_limit = limit;
        for failed in 1..limit {
            let name = format!("x{failed}");
            sim.fail_startup(&name, Cause::Crash);
            sim.edit(&name);
            sim.run_until_idle();
        }
        sim.edit("d");
        sim.until(Step::Switching);
        sim.lose_status();
        sim.reconcile();
        assert_eq!(sim.active(), "b on green", "a release that never was switched to: {}", sim.trace_text());
        sim.run_until_idle();
        assert_settled_on(&mut sim, "d on blue");
        sim.rollback_to("b");
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn recovery_ignores_pod_restarts_before_the_switch() {
    // A Pod of `a` restarted once. The status is lost while traffic returns from `b` to `a`.
    let mut sim = Sim::stable();
    sim.restart_pod(Component::Storage, Color::Blue, 0);
    sim.run_until_idle();
    sim.edit("b");
    sim.until(Step::Watching);
    sim.edit("a");
    sim.until(Step::RollingBack);
    assert!(sim.stop_before(1), "{}", sim.trace_text());
    assert_eq!(sim.traffic(), "split", "{}", sim.trace_text());
    sim.reset_counters();
    sim.lose_status();
    sim.run_until_idle();
    assert!(!sim.failed("a"), "{}", sim.trace_text());
    assert_settled_on(&mut sim, "a on blue");
}

/// The status is lost in Prune and the new color becomes unhealthy, so earlier deletes may still arrive. The operator
/// raises the epochs of the old color first, and then returns traffic to it.
#[test]
fn recovery_raises_epochs_before_it_returns_traffic() {
    let mut sim = in_step(Step::Prune);
    sim.lose_status();
    sim.make_unready(Component::Storage, Color::Green, 0);
    sim.reset_counters();
    // After a crash, the raised epochs remain and the others follow.
    sim.stop_before(2);
    assert_eq!((sim.wrote("RaiseEpoch"), sim.wrote("UpdateStatus")), (2, 0), "{}", sim.trace_text());
    sim.reconcile();
    assert_eq!(sim.wrote("RaiseEpoch"), 6, "{}", sim.trace_text());
    // An annotation raises the generation of a Deployment, which its controller has not observed yet.
    for component in Component::ALL {
        let cell = sim.cluster.cell_mut(component, Color::Blue);
        cell.deployment.as_mut().expect("the previous color has Deployments").observed = false;
    }
    sim.reconcile();
    assert_eq!(sim.step(), Some(Step::RollingBack), "{}", sim.trace_text());
    sim.run();
    assert_eq!((sim.traffic().as_str(), sim.wrote("RaiseEpoch")), ("a on blue", 6), "{}", sim.trace_text());
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// Objects that are newer than the last decision to delete need no higher epoch.
#[test]
fn recovery_raises_no_epochs_of_the_pending_color() {
    let mut sim = in_step(Step::Switching);
    sim.lose_status();
    sim.make_unready(Component::Storage, Color::Blue, 0);
    sim.reset_counters();
    sim.reconcile();
    assert_eq!((sim.wrote("RaiseEpoch"), sim.wrote("UpdateStatus")), (0, 1), "{}", sim.trace_text());
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

/// A patch from before the loss arrives on one front Service, with a later epoch than the recovered status. The
/// status takes an epoch above it, so that no epoch falls.
#[test]
fn a_later_epoch_on_a_front_service_is_exceeded() {
    let mut sim = in_step(Step::RollingBack);
    let epoch = sim.cluster.fronts.storage.as_ref().unwrap().epoch + 5;
    sim.change_selector(Component::Storage, Some(Color::Green));
    sim.cluster.fronts.storage.as_mut().unwrap().epoch = epoch;
    sim.run();
    let raised_above = sim.status.as_ref().and_then(|status| Some(status.rollout.as_ref()?.epoch));
    assert_eq!(raised_above, Some(epoch + 1), "{}", sim.trace_text());
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}
