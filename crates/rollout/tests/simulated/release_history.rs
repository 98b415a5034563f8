//! The history over many releases, and the timers at the limits of the policy.
//!
//! Covers `history.rs`, and the timers in `assessment.rs` and `context.rs`.

use super::assert_settled_on;
use api::names::{Color, Component};
use api::status::Step;
use rollout::facts::Cause;
use simulator::{Sim, Startup, hash};

#[test]
fn the_history_and_its_revisions_keep_to_the_limit() {
    for limit in [2, 3, 10] {
        let mut sim = Sim::stable();
        sim.intent.policy.history_limit = limit;
        for number in 0..14 {
            sim.edit(&format!("r{number}"));
            sim.run_until_idle();
        }
        assert_eq!(sim.stored_status().release_history.len(), limit);
        assert_eq!(sim.cluster.revisions.len(), limit, "one revision for each record");
        let last: Vec<_> =
            sim.stored_status().release_history.iter().rev().map(|record| record.version.clone()).collect();
        assert_eq!((last[0].as_str(), last[1].as_str()), ("r13", "r12"));
        sim.rollback_to("r12");
        sim.run_until_idle();
        assert!(sim.active().starts_with("r12 on "));
    }
}

/// Returns a resource with four releases and a history limit of two.
fn shortened() -> Sim {
    let mut sim = Sim::stable();
    for name in ["b", "c", "d"] {
        sim.edit(name);
        sim.run_until_idle();
    }
    sim.intent.policy.history_limit = 2;
    sim.intent.generation += 1;
    sim
}

#[test]
fn a_smaller_limit_takes_effect_at_rest() {
    let mut sim = shortened();
    sim.run_until_idle();
    assert_eq!(sim.history(), "c:Superseded d:Active");
    assert_eq!(sim.cluster.revisions.len(), 2);
    assert_settled_on(&mut sim, "d on green");
}

#[test]
fn failures_do_not_remove_the_rollback_target_from_the_history() {
    let mut sim = Sim::upgraded();
    sim.intent.policy.history_limit = 2;
    for name in ["x", "y", "z"] {
        sim.fail_startup(name, Cause::Crash);
        sim.edit(name);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "b on green");
        assert_eq!(sim.history(), format!("b:Active {name}:Failed"));
    }
}

#[test]
fn after_an_undo_the_history_ends_with_the_served_releases() {
    for limit in [2, 3, 10] {
        let mut sim = Sim::stable();
        sim.intent.policy.history_limit = limit;
        sim.edit("b");
        sim.until(Step::Watching);
        sim.advance(10);
        sim.edit("a");
        sim.run_until_idle();
        assert_eq!(sim.history(), "b:Superseded a:Active");
        sim.edit("c");
        sim.until(Step::Watching);
        assert!(sim.history().ends_with("a:Superseded c:Active"), "limit {limit}: {}", sim.history());
        sim.run_until_idle();
        assert_settled_on(&mut sim, "c on green");
        assert!(sim.history().ends_with("a:Superseded c:Active"), "limit {limit}: {}", sim.history());
    }
}

#[test]
fn an_unnamed_release_is_named_by_time_and_hash() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.intent.wanted.release_version = None;
    sim.run_until_idle();
    let version = sim.stored_status().active_release_version.clone().unwrap();
    assert!(version.starts_with("v20260921-") && version.ends_with("-b-hash"), "{version}");
}

#[test]
fn a_new_name_starts_no_release_and_a_used_name_is_ignored() {
    let mut sim = Sim::upgraded();
    sim.intent.wanted.release_version = Some("summer".into());
    sim.run_until_idle();
    assert_eq!(sim.write_count(), 0);
    sim.edit("c");
    sim.intent.wanted.release_version = Some("a".into());
    sim.run_until_idle();
    let version = sim.stored_status().active_release_version.clone().unwrap();
    assert!(version.ends_with("-c-hash"), "{version}");
    assert_eq!(sim.event_count(rollout::EventReason::ReleaseVersionIgnored), 1);
}

#[test]
fn deploying_a_known_template_reuses_its_record() {
    let mut sim = Sim::upgraded();
    sim.edit("a");
    sim.intent.wanted.release_version = Some("other".into());
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert_eq!(sim.history(), "b:Superseded a:Active");
}

// === Timers at the limits of the policy ===

#[test]
fn grace_zero_switches_as_soon_as_all_is_ready() {
    let mut sim = Sim::stable();
    sim.intent.policy.grace = 0;
    sim.edit("b");
    let start = sim.cluster.now;
    sim.until(Step::Switching);
    assert_eq!(sim.cluster.now - start, 3);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn zero_dwell_and_a_delay_of_three_wait_three_seconds() {
    let mut sim = Sim::stable();
    (sim.intent.policy.dwell, sim.intent.policy.cleanup_delay) = (0, 3);
    sim.edit("b");
    sim.until(Step::Switching);
    let start = sim.cluster.now;
    sim.until(Step::Prune);
    assert_eq!(sim.cluster.now - start, 3);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn threshold_zero_fails_at_the_first_hard_signal() {
    let mut sim = Sim::stable();
    sim.intent.policy.failure_threshold = 0;
    sim.fail_startup("b", Cause::ImagePull);
    sim.edit("b");
    let start = sim.cluster.now;
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    assert!(sim.failed("b"));
    assert_eq!(sim.record_of("b").finished_at.as_ref().unwrap().0.as_second(), start);
}

#[test]
fn the_shortest_deploy_timeout_fails_only_a_slow_release() {
    for (startup, end) in [(4, "b on green"), (6, "a on blue")] {
        let mut sim = Sim::stable();
        (sim.intent.policy.deploy_timeout, sim.intent.policy.grace) = (5, 0);
        sim.set_startup("b", Component::Schema, Startup::Ready(startup));
        sim.edit("b");
        sim.run_until_idle();
        assert_settled_on(&mut sim, end);
    }
}

#[test]
fn the_grace_period_may_end_after_the_deploy_timeout() {
    let mut sim = Sim::stable();
    sim.intent.policy.deploy_timeout = 5;
    sim.edit("b");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
}

#[test]
fn a_clock_before_the_start_of_a_step_only_lengthens_the_wait() {
    for step in [Step::Deploying, Step::Switching, Step::Watching, Step::RollingBack, Step::Prune] {
        let mut sim = super::in_step(step);
        sim.run();
        sim.cluster.now -= 100;
        let made = sim.reconcile();
        assert!(
            made.requeue_after.is_none_or(|seconds| seconds <= 600),
            "{step:?}: {:?}",
            made.requeue_after
        );
        assert_eq!(sim.step(), Some(if step == Step::Prune { Step::Stable } else { step }), "{step:?}");
        sim.cluster.now += 100;
        sim.run_until_idle();
        let active = sim.active();
        assert_settled_on(&mut sim, &active);
    }
}

#[test]
fn fractions_of_a_second_never_end_a_wait_early() {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim.until(Step::Deploying);
    sim.run();
    let ready = sim.cluster.next_event().unwrap();
    sim.cluster.now = ready;
    sim.cluster.tick();
    let at = |milliseconds: i64| jiff::Timestamp::from_millisecond(ready * 1000 + milliseconds).unwrap();
    let ask = |sim: &Sim, milliseconds| {
        rollout::plan(&sim.intent, sim.status.as_ref(), &sim.facts(), at(milliseconds)).effect
    };
    let rollout::Effect::UpdateStatus(status) = ask(&sim, 900) else { panic!("the grace period begins") };
    let since = status.rollout.as_ref().unwrap().timers.ready_since.clone().unwrap();
    assert_eq!(since.0.as_millisecond(), at(1000).as_millisecond(), "persisted in whole seconds, rounded up");
    sim.status = Some(*status);
    assert_eq!(ask(&sim, 120_950), rollout::Effect::Wait);
    assert_ne!(ask(&sim, 121_000), rollout::Effect::Wait);
}

#[test]
fn a_switch_time_in_the_future_does_not_delay_the_rollout() {
    let mut sim = super::in_step(Step::Switching);
    sim.run();
    sim.cluster.fronts.storage.as_mut().unwrap().switched_at = Some(sim.cluster.now + 100_000);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "b on green");
    assert_eq!(sim.cluster.cell(Component::Storage, Color::Green).pods.len(), 2);
}

/// A single edit lowers the limit and starts a release. Its name is free only after the ControllerRevision of the trimmed
/// record is deleted.
#[test]
fn a_name_is_free_once_its_revision_is_deleted() {
    let mut sim = shortened();
    sim.reconcile();
    assert_eq!(sim.cluster.revisions.len(), 4);
    sim.edit("e");
    sim.intent.wanted.release_version = Some("a".into());
    sim.templates.insert(hash("e"), sim.intent.wanted.clone());
    sim.run_until_idle();
    let active = sim.stored_status().active_release_version.clone().unwrap();
    assert_ne!(active, "a", "the name belongs to the revision of another template: {}", sim.trace_text());
    let kept = sim.cluster.revisions.iter().find(|revision| revision.version == active).unwrap();
    assert_eq!(kept.hash, hash("e"));
}
