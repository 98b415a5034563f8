//! Changes of the spec during a rollout: another template, the previous template, pause, deletion (design D13;
//! invariants I21-I23, I28).
//!
//! Covers `steps.rs`, `context.rs`, `intent.rs` and `steps/start.rs`.

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step};
use rollout::facts::{Cause, Setting};
use rollout::{Action, Effect, EventReason, WriteClass, plan};
use simulator::{Sim, Startup};

#[test]
fn a_third_release_in_any_step_becomes_active() {
    for step in STEPS {
        for late in [false, true] {
            let mut sim = in_step(step);
            if late {
                sim.run();
            }
            sim.edit("c");
            sim.run_until_idle();
            let active = sim.active();
            assert!(active.starts_with("c on "), "{step:?}: {}", sim.trace_text());
            assert_settled_on(&mut sim, &active);
            assert_eq!(sim.stored_status().release_history.last().unwrap().version, "c");
        }
    }
}

#[test]
fn a_cancelled_release_never_serves() {
    let mut sim = in_step(Step::Deploying);
    sim.advance(60);
    sim.edit("c");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on green");
    assert_eq!(
        (sim.event_count(EventReason::Superseded), sim.selector_changes),
        (1, 2),
        "one switch: {}",
        sim.trace_text()
    );
    assert_eq!(sim.record_of("b").status, RecordStatus::Superseded);
    assert_eq!(sim.record_of("b").activated_at, None);
}

#[test]
fn a_third_release_waits_until_the_switch_is_finished() {
    for step in [Step::Switching, Step::Watching, Step::Prune] {
        let mut sim = in_step(step);
        sim.edit("c");
        sim.until(Step::Deploying);
        assert_eq!((sim.traffic().as_str(), sim.active().as_str()), ("b on green", "b on green"), "{step:?}");
        assert!(!sim.has_objects(Color::Blue), "a is gone before c is created");
    }
}

#[test]
fn reverting_the_spec_before_the_switch_aborts_without_a_switch() {
    for wait in [0, 2, 60, 122] {
        let mut sim = in_step(Step::Deploying);
        sim.advance(wait);
        assert_eq!(sim.step(), Some(Step::Deploying));
        sim.edit("a");
        sim.run_until_idle();
        assert_settled_on(&mut sim, "a on blue");
        assert_eq!(
            (sim.selector_changes, sim.event_count(EventReason::Aborted)),
            (0, 1),
            "I23: {}",
            sim.trace_text()
        );
        assert_eq!(sim.record_of("b").status, RecordStatus::Superseded);
        assert_eq!(sim.phase(), "Stable");
    }
}

#[test]
fn reverting_the_spec_after_the_switch_undoes_it_at_once() {
    for step in [Step::Switching, Step::Watching] {
        let mut sim = in_step(step);
        sim.run();
        let before = sim.cluster.now;
        sim.edit("a");
        sim.run();
        assert_eq!((sim.step(), sim.cluster.now), (Some(Step::RollingBack), before), "{step:?}");
        assert_eq!(sim.traffic(), "a on blue");
        sim.run_until_idle();
        assert_settled_on(&mut sim, "a on blue");
        assert_eq!(sim.record_of("b").status, RecordStatus::Superseded, "not Failed: it may be tried again");
        assert_eq!(sim.event_count(EventReason::Undone), 1);
        sim.edit("b");
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn an_undo_before_the_first_patch_never_moves_traffic() {
    let mut sim = in_step(Step::Switching);
    sim.edit("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.selector_changes, 0, "{}", sim.trace_text());
}

#[test]
fn reverting_to_an_unhealthy_color_waits_for_a_full_rollout() {
    let mut sim = in_step(Step::Watching);
    sim.make_all_unready(Component::Storage, Color::Blue);
    sim.edit("a");
    sim.run();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Watching), "b on green"));
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn reverting_the_spec_in_prune_starts_a_new_rollout() {
    let mut sim = in_step(Step::Prune);
    sim.edit("a");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "b:Superseded a:Active");
}

#[test]
fn the_order_of_edits_does_not_matter() {
    let orders = (0..27).map(|n| [n / 9, n / 3 % 3, n % 3].map(|at| ["a", "c", "d"][at]));
    for (step, order) in STEPS.into_iter().flat_map(|step| orders.clone().map(move |order| (step, order))) {
        let mut sim = in_step(step);
        for name in order.into_iter().chain(["c"]) {
            sim.edit(name);
            sim.reconcile();
        }
        sim.run_until_idle();
        let active = sim.active();
        assert!(active.starts_with("c on "), "{step:?}, {order:?}: {}", sim.trace_text());
        assert_settled_on(&mut sim, &active);
    }
}

#[test]
fn a_failed_template_stays_blocked_after_another_release() {
    let mut sim = Sim::stable();
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
    sim.edit("c");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on green");
    sim.reset_counters();
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on green");
    assert_eq!((sim.wrote("Create"), sim.condition_state("SpecApplied").as_str()), (0, "False/RolledBack"));
    assert_eq!(sim.phase(), "Degraded");
}

#[test]
fn a_pause_delays_the_release_until_it_ends() {
    let mut sim = Sim::stable();
    sim.pause(true);
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(
        (sim.condition_state("SpecApplied").as_str(), sim.history().as_str()),
        ("False/Paused", "a:Active")
    );
    assert_eq!((sim.phase(), sim.stored_status().deployment_phase.as_deref()), ("Degraded", Some("Stable")));
    assert_eq!(sim.write_count(), sim.wrote("UpdateStatus"));
    sim.pause(false);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_pause_before_the_first_release_is_reported() {
    let mut sim = Sim::new();
    sim.pause(true);
    sim.run_until_idle();
    sim.assert_stays_idle();
    assert_eq!((sim.write_count(), sim.phase()), (1, "Pending"), "{}", sim.trace_text());
    assert_eq!(
        (sim.condition_state("SpecApplied"), sim.condition_state("Stalled")),
        ("False/Paused".into(), "False/Paused".into())
    );
    sim.pause(false);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_running_rollout_finishes_while_paused() {
    for step in [Step::Deploying, Step::Switching, Step::Watching, Step::Prune] {
        let mut sim = in_step(step);
        sim.pause(true);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn an_edit_while_paused_starts_no_release() {
    for step in [Step::Deploying, Step::Switching, Step::Watching, Step::RollingBack, Step::Prune] {
        let mut sim = in_step(step);
        sim.pause(true);
        sim.edit("c");
        sim.run_until_idle();
        assert!(sim.stored_status().record("c").is_none(), "{step:?}: {}", sim.trace_text());
        let active = sim.active();
        assert_settled_on(&mut sim, &active);
        assert_eq!(sim.condition_state("SpecApplied"), "False/Paused", "{step:?}");
    }
}

#[test]
fn a_terminating_resource_is_left_alone() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.edit("c");
        sim.intent.deleted = true;
        sim.rollback_to("a");
        let made = sim.reconcile();
        assert_eq!((made.effect, made.requeue_after), (Effect::Wait, None), "{step:?}");
        sim.reset_counters();
        sim.run_until_idle();
        assert_eq!(sim.write_count(), 0);
    }
    let mut sim = Sim::new();
    sim.intent.deleted = true;
    assert_eq!(sim.reconcile().effect, Effect::Wait);
}

#[test]
fn an_invalid_spec_changes_nothing_and_is_reported() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.edit("c");
        sim.intent.violations = vec!["spec.storage.imageTag: bad".into()];
        sim.advance(30);
        assert_eq!(sim.condition_state("SpecApplied"), "False/Invalid", "{step:?}: {}", sim.trace_text());
        assert!(sim.traffic() != "split" && sim.stored_status().record("c").is_none());
        sim.intent.violations.clear();
        sim.run_until_idle();
        let active = sim.active();
        assert!(active.starts_with("c on "), "{}", sim.trace_text());
        assert_settled_on(&mut sim, &active);
    }
}

#[test]
fn an_invalid_first_spec_is_pending() {
    let mut sim = Sim::new();
    sim.intent.violations = vec!["spec.storage.imageTag: bad".into()];
    sim.run_until_idle();
    sim.assert_stays_idle();
    assert_eq!(
        (sim.write_count(), sim.phase(), sim.condition_state("Stalled").as_str()),
        (1, "Pending", "True/Invalid")
    );
    assert_eq!(sim.event_count(EventReason::SpecInvalid), 1);
    sim.intent.violations.clear();
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn an_outdated_crd_starts_no_release() {
    let mut sim = Sim::upgraded();
    sim.intent.crd_outdated = Some("kubectl apply -f crd.yaml".into());
    sim.edit("c");
    sim.run_until_idle();
    assert_eq!(
        (sim.condition_state("SpecApplied").as_str(), sim.traffic().as_str()),
        ("False/CRDOutdated", "b on green")
    );
    assert!(sim.condition("SpecApplied").message.contains("kubectl apply -f crd.yaml"));
    assert_eq!(sim.write_count(), sim.wrote("UpdateStatus"));
    sim.intent.crd_outdated = None;
    sim.run_until_idle();
    assert_settled_on(&mut sim, "c on blue");
}

#[test]
fn the_service_account_is_applied_before_its_pods() {
    let mut sim = in_step(Step::Deploying);
    sim.stale = vec![Setting::ACCOUNT];
    let next = |sim: &Sim| plan(&sim.intent, sim.status.as_ref(), &sim.facts(), sim.now());
    assert_eq!(
        next(&sim).effect,
        Effect::Write(vec![vec![Action::ApplyServiceAccount]]),
        "{}",
        sim.trace_text()
    );
    assert_eq!(next(&sim).write_class(), WriteClass::ServiceAccount);
    sim.deferred.settings = true;
    assert_eq!(
        next(&sim).write_class(),
        WriteClass::Rollout,
        "a rejected ServiceAccount does not block the release"
    );
    sim.deferred.settings = false;
    sim.run_until_idle();
    assert_eq!(
        (sim.active(), sim.wrote("ApplyServiceAccount"), sim.wrote("ApplySetting")),
        ("b on green".into(), 1, 0)
    );
}

#[test]
fn in_place_settings_apply_except_to_a_pruned_color() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.run();
        let serving = if sim.traffic() == "a on blue" { Color::Blue } else { Color::Green };
        sim.reset_counters();
        sim.stale = vec![Setting::Scale(Component::Storage, serving), Setting::Front(Component::Schema)];
        sim.run();
        assert_eq!((sim.stale.len(), sim.wrote("ApplySetting")), (0, 2), "{step:?}: {}", sim.trace_text());
    }
    let mut sim = in_step(Step::RollingBack);
    sim.run();
    sim.stale = vec![Setting::Scale(Component::Storage, Color::Green)];
    sim.run();
    assert_eq!(sim.wrote("ApplySetting"), 0, "the color to be pruned is left alone");
}

#[test]
fn a_slow_start_within_the_timeout_does_not_fail() {
    let mut sim = Sim::stable();
    sim.set_startup("b", Component::Schema, Startup::Ready(599));
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn an_invalid_active_template_is_not_restored() {
    let mut sim = Sim::stable();
    sim.intent.policy.revert_spec = true;
    sim.restore_refused = Some("spec.storage.imageTag: too long".into());
    sim.fail_startup("b", Cause::Crash);
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"));
    sim.assert_stays_idle();
}
