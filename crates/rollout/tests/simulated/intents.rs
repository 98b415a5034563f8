//! A new intent in mid-rollout: other templates, back again, pause, deletion (design D13; invariants I21-I23, I28).

use super::{STEPS, assert_settled_on, in_step};
use api::names::{Color, Component};
use api::status::{RecordStatus, Step};
use rollout::facts::{Cause, Setting};
use rollout::{Action, Effect, EventReason, WriteClass, plan};
use simulator::{Boot, Sim};

#[test]
fn a_third_version_in_any_step_ends_active_alone() {
    for step in STEPS {
        for late in [false, true] {
            let mut sim = in_step(step);
            if late {
                sim.run();
            }
            sim.edit("c");
            sim.settle();
            let active = sim.active();
            assert!(active.starts_with("c on "), "{step:?}: {}", sim.story());
            assert_settled_on(&mut sim, &active);
            assert_eq!(sim.known().release_history.last().unwrap().version, "c");
        }
    }
}

#[test]
fn an_abandoned_release_never_serves() {
    let mut sim = in_step(Step::Deploying);
    sim.advance(60);
    sim.edit("c");
    sim.settle();
    assert_settled_on(&mut sim, "c on green");
    assert_eq!((sim.told(EventReason::Superseded), sim.moved), (1, 2), "one switch: {}", sim.story());
    assert_eq!(sim.record_of("b").status, RecordStatus::Superseded);
    assert_eq!(sim.record_of("b").activated_at, None);
}

#[test]
fn a_third_version_waits_until_the_switch_under_way_is_finished() {
    for step in [Step::Switching, Step::Watching, Step::Prune] {
        let mut sim = in_step(step);
        sim.edit("c");
        sim.until(Step::Deploying);
        assert_eq!((sim.traffic().as_str(), sim.active().as_str()), ("b on green", "b on green"), "{step:?}");
        assert!(!sim.has_objects(Color::Blue), "a is gone before c is created");
    }
}

#[test]
fn back_to_the_serving_template_before_the_switch_is_an_abort_without_a_switch() {
    for wait in [0, 2, 60, 122] {
        let mut sim = in_step(Step::Deploying);
        sim.advance(wait);
        assert_eq!(sim.step(), Some(Step::Deploying));
        sim.edit("a");
        sim.settle();
        assert_settled_on(&mut sim, "a on blue");
        assert_eq!((sim.moved, sim.told(EventReason::Aborted)), (0, 1), "I23: {}", sim.story());
        assert_eq!(sim.record_of("b").status, RecordStatus::Superseded);
        assert_eq!(sim.phase(), "Stable");
    }
}

#[test]
fn back_to_the_warm_template_after_the_switch_is_an_undo_at_once() {
    for step in [Step::Switching, Step::Watching] {
        let mut sim = in_step(step);
        sim.run();
        let before = sim.cluster.now;
        sim.edit("a");
        sim.run();
        assert_eq!((sim.step(), sim.cluster.now), (Some(Step::RollingBack), before), "{step:?}");
        assert_eq!(sim.traffic(), "a on blue");
        sim.settle();
        assert_settled_on(&mut sim, "a on blue");
        assert_eq!(sim.record_of("b").status, RecordStatus::Superseded, "not Failed: it may be tried again");
        assert_eq!(sim.told(EventReason::Undone), 1);
        sim.edit("b");
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn an_undo_between_the_decision_and_the_first_patch_never_moves_traffic() {
    let mut sim = in_step(Step::Switching);
    sim.edit("a");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.moved, 0, "{}", sim.story());
}

#[test]
fn back_to_a_warm_side_that_is_down_waits_for_the_normal_cycle() {
    let mut sim = in_step(Step::Watching);
    sim.all_unready(Component::Storage, Color::Blue);
    sim.edit("a");
    sim.run();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Watching), "b on green"));
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn back_to_the_old_template_in_prune_is_a_release_of_its_own() {
    let mut sim = in_step(Step::Prune);
    sim.edit("a");
    sim.settle();
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
            sim.pass();
        }
        sim.settle();
        let active = sim.active();
        assert!(active.starts_with("c on "), "{step:?}, {order:?}: {}", sim.story());
        assert_settled_on(&mut sim, &active);
    }
}

#[test]
fn a_failed_template_stays_blocked_when_it_comes_back() {
    let mut sim = Sim::stable();
    sim.breaks("b", Cause::Crash);
    sim.edit("b");
    sim.settle();
    sim.edit("c");
    sim.settle();
    assert_settled_on(&mut sim, "c on green");
    sim.forget();
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "c on green");
    assert_eq!((sim.wrote("Create"), sim.says("SpecApplied").as_str()), (0, "False/RolledBack"));
    assert_eq!(sim.phase(), "Degraded");
}

#[test]
fn paused_starts_nothing_and_unpaused_starts_it() {
    let mut sim = Sim::stable();
    sim.pause(true);
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!((sim.says("SpecApplied").as_str(), sim.history().as_str()), ("False/Paused", "a:Active"));
    assert_eq!((sim.phase(), sim.known().deployment_phase.as_deref()), ("Degraded", Some("Stable")));
    assert_eq!(sim.total(), sim.wrote("Commit"));
    sim.pause(false);
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn paused_before_the_first_release_waits_and_says_so() {
    let mut sim = Sim::new();
    sim.pause(true);
    sim.settle();
    sim.stays_quiet();
    assert_eq!((sim.total(), sim.phase()), (1, "Pending"), "{}", sim.story());
    assert_eq!(
        (sim.says("SpecApplied"), sim.says("Stalled")),
        ("False/Paused".into(), "False/Paused".into())
    );
    sim.pause(false);
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_rollout_under_way_finishes_while_paused() {
    for step in [Step::Deploying, Step::Switching, Step::Watching, Step::Prune] {
        let mut sim = in_step(step);
        sim.pause(true);
        sim.settle();
        assert_settled_on(&mut sim, "b on green");
    }
}

#[test]
fn paused_and_edited_in_mid_rollout_starts_nothing_new() {
    for step in [Step::Deploying, Step::Switching, Step::Watching, Step::RollingBack, Step::Prune] {
        let mut sim = in_step(step);
        sim.pause(true);
        sim.edit("c");
        sim.settle();
        assert!(sim.known().record("c").is_none(), "{step:?}: {}", sim.story());
        let active = sim.active();
        assert_settled_on(&mut sim, &active);
        assert_eq!(sim.says("SpecApplied"), "False/Paused", "{step:?}");
    }
}

#[test]
fn nothing_is_done_once_the_resource_is_being_deleted() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.edit("c");
        sim.intent.deleted = true;
        sim.rollback_to("a");
        let made = sim.pass();
        assert_eq!((made.effect, made.requeue_after), (Effect::Wait, None), "{step:?}");
        sim.forget();
        sim.settle();
        assert_eq!(sim.total(), 0);
    }
    let mut sim = Sim::new();
    sim.intent.deleted = true;
    assert_eq!(sim.pass().effect, Effect::Wait);
}

#[test]
fn an_invalid_spec_touches_nothing_and_says_so() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.edit("c");
        sim.intent.violations = vec!["spec.storage.imageTag: bad".into()];
        sim.advance(30);
        assert_eq!(sim.says("SpecApplied"), "False/Invalid", "{step:?}: {}", sim.story());
        assert!(sim.traffic() != "torn" && sim.known().record("c").is_none());
        sim.intent.violations.clear();
        sim.settle();
        let active = sim.active();
        assert!(active.starts_with("c on "), "{}", sim.story());
        assert_settled_on(&mut sim, &active);
    }
}

#[test]
fn an_invalid_first_spec_is_pending() {
    let mut sim = Sim::new();
    sim.intent.violations = vec!["spec.storage.imageTag: bad".into()];
    sim.settle();
    sim.stays_quiet();
    assert_eq!((sim.total(), sim.phase(), sim.says("Stalled").as_str()), (1, "Pending", "True/Invalid"));
    assert_eq!(sim.told(EventReason::SpecInvalid), 1);
    sim.intent.violations.clear();
    sim.settle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn an_outdated_crd_starts_nothing_and_harms_nothing() {
    let mut sim = Sim::upgraded();
    sim.intent.crd_outdated = Some("kubectl apply -f crd.yaml".into());
    sim.edit("c");
    sim.settle();
    assert_eq!(
        (sim.says("SpecApplied").as_str(), sim.traffic().as_str()),
        ("False/CRDOutdated", "b on green")
    );
    assert!(sim.condition("SpecApplied").message.contains("kubectl apply -f crd.yaml"));
    assert_eq!(sim.total(), sim.wrote("Commit"));
    sim.intent.crd_outdated = None;
    sim.settle();
    assert_settled_on(&mut sim, "c on blue");
}

#[test]
fn the_account_comes_before_the_pods_that_need_it() {
    let mut sim = in_step(Step::Deploying);
    sim.stale = vec![Setting::ACCOUNT];
    let next = |sim: &Sim| plan(&sim.intent, sim.status.as_ref(), &sim.facts(), sim.now());
    assert_eq!(next(&sim).effect, Effect::Write(vec![vec![Action::ApplyServiceAccount]]), "{}", sim.story());
    assert_eq!(next(&sim).write_class(), WriteClass::ServiceAccount);
    sim.deferred.settings = true;
    assert_eq!(next(&sim).write_class(), WriteClass::Rollout, "one that is not taken holds no release up");
    sim.deferred.settings = false;
    sim.settle();
    assert_eq!((sim.active(), sim.wrote("Account"), sim.wrote("Settle")), ("b on green".into(), 1, 0));
}

#[test]
fn in_place_settings_are_applied_in_every_step_but_not_to_a_color_that_goes() {
    for step in STEPS {
        let mut sim = in_step(step);
        sim.run();
        let serving = if sim.traffic() == "a on blue" { Color::Blue } else { Color::Green };
        sim.forget();
        sim.stale = vec![Setting::Scale(Component::Storage, serving), Setting::Front(Component::Schema)];
        sim.run();
        assert_eq!((sim.stale.len(), sim.wrote("Settle")), (0, 2), "{step:?}: {}", sim.story());
    }
    let mut sim = in_step(Step::RollingBack);
    sim.run();
    sim.stale = vec![Setting::Scale(Component::Storage, Color::Green)];
    sim.run();
    assert_eq!(sim.wrote("Settle"), 0, "the color that goes is left alone");
}

#[test]
fn a_slow_start_within_the_timeout_is_no_failure() {
    let mut sim = Sim::stable();
    sim.boots("b", Component::Schema, Boot::Ready(599));
    sim.edit("b");
    sim.settle();
    assert_settled_on(&mut sim, "b on green");
}
