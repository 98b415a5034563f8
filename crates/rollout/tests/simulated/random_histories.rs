//! Random histories: after any user actions and any losses of the status, the resource reaches rest with its history
//! in order. The invariants are checked at every write.
//!
//! Covers `history.rs`, `requests.rs` and `recovery.rs`.

use proptest::prelude::*;

use api::names::Component;
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord, Step};
use rollout::facts::Cause;
use rollout::intent::Requests;
use rollout::{Effect, plan};
use simulator::Sim;

pub const TEMPLATES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// An action of a user, or a fault.
#[derive(Clone, Debug)]
pub enum UserAction {
    Edit(usize),
    /// A rollback to a release of the history, counted from its end. Beyond the start: to an unknown version.
    Rollback(usize),
    Retry,
    Restart,
    Pause(bool),
    FailStartup(usize),
    LoseStatus,
    /// A late create of a Deployment, Service or ConfigMap of a canceled attempt.
    LateCreate(Component, usize, usize),
    Advance(i64),
    WaitUntilIdle,
}

fn component() -> impl Strategy<Value = Component> {
    prop::sample::select(Component::ALL.to_vec())
}

pub fn action() -> impl Strategy<Value = UserAction> {
    prop_oneof![
        4 => (0..TEMPLATES.len()).prop_map(UserAction::Edit),
        2 => (0..6_usize).prop_map(UserAction::Rollback),
        1 => Just(UserAction::Retry),
        1 => Just(UserAction::Restart),
        1 => any::<bool>().prop_map(UserAction::Pause),
        1 => (1..TEMPLATES.len()).prop_map(UserAction::FailStartup),
        1 => Just(UserAction::LoseStatus),
        2 => (component(), 0..3_usize, 0..TEMPLATES.len())
            .prop_map(|(component, piece, which)| UserAction::LateCreate(component, piece, which)),
        3 => (0..200_i64).prop_map(UserAction::Advance),
        4 => Just(UserAction::WaitUntilIdle),
    ]
}

pub fn play(sim: &mut Sim, action: &UserAction) {
    match action {
        UserAction::Edit(which) => sim.edit(TEMPLATES[*which]),
        UserAction::Rollback(back) => {
            let history = sim.status.as_ref().map_or(&[][..], |status| &status.release_history);
            let version = history.iter().rev().nth(*back).map(|record| record.version.clone());
            sim.rollback_to(&version.unwrap_or_else(|| "never-was".into()));
        }
        UserAction::Retry => sim.retry("now"),
        UserAction::Restart => sim.restart("now"),
        UserAction::Pause(paused) => sim.pause(*paused),
        UserAction::FailStartup(which) => sim.fail_startup(TEMPLATES[*which], Cause::Crash),
        UserAction::LoseStatus => sim.lose_status(),
        UserAction::LateCreate(component, piece, which) => {
            sim.late_create(*component, *piece, TEMPLATES[*which]);
        }
        UserAction::Advance(seconds) => sim.advance(*seconds),
        UserAction::WaitUntilIdle => sim.run_until_idle(),
    }
}

fn played(limit: usize, actions: &[UserAction]) -> Sim {
    let mut sim = Sim::stable();
    sim.intent.policy.history_limit = limit;
    for action in actions {
        play(&mut sim, action);
    }
    sim.pause(false);
    sim.run_until_idle();
    sim
}

/// Returns history limits. Most of them are so short that histories are trimmed.
fn limit() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![2, 2, 3, 10])
}

/// Returns the versions that served and did not fail, in the order of the history. A lost status also loses whether a
/// failed release served (`docs/plan.md`, known corners).
fn served(status: &MetadataServicesStatus) -> Vec<String> {
    let good =
        |record: &&ReleaseRecord| record.activated_at.is_some() && record.status != RecordStatus::Failed;
    let records = status.release_history.iter().filter(good);
    records.map(|record| record.version.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_at_rest_in_order(limit in limit(), actions in prop::collection::vec(action(), 1..14)) {
        let mut sim = played(limit, &actions);
        prop_assert_eq!(sim.step(), Some(Step::Stable), "{}", sim.trace_text());
        prop_assert!(sim.intent.requests == Requests::default(), "requests are left: {}", sim.trace_text());
        let history = &sim.stored_status().release_history;
        let mut versions: Vec<_> = history.iter().map(|record| &record.version).collect();
        versions.sort();
        versions.dedup();
        prop_assert_eq!(versions.len(), history.len(), "{}", sim.trace_text());
        prop_assert!(history.len() <= limit, "{}", sim.trace_text());
        let active: Vec<_> = history.iter().rev().map(|record| record.status).collect();
        let at = active.iter().position(|status| *status == RecordStatus::Active);
        let blocked = active.first() == Some(&RecordStatus::Failed);
        prop_assert_eq!(at, Some(usize::from(blocked)), "{}", sim.trace_text());
        prop_assert_eq!(active.iter().filter(|status| **status == RecordStatus::Active).count(), 1);
        prop_assert!(!active.contains(&RecordStatus::Pending), "{}", sim.trace_text());
        let wanted = sim.stored_status().record_of_hash(&sim.intent.wanted.hash).map(|record| record.status);
        prop_assert!(matches!(wanted, Some(RecordStatus::Active | RecordStatus::Failed)), "{}", sim.trace_text());
        sim.assert_stays_idle();
    }

    /// The plan for the status at rest is to wait.
    #[test]
    fn a_status_at_rest_is_a_fixed_point(limit in limit(), actions in prop::collection::vec(action(), 1..8)) {
        let sim = played(limit, &actions);
        let planned = plan(&sim.intent, sim.status.as_ref(), &sim.facts(), sim.now());
        prop_assert_eq!(&planned.effect, &Effect::Wait);
        let text = serde_json::to_string(sim.stored_status()).unwrap();
        let read: MetadataServicesStatus = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, sim.stored_status(), "a status survives being written and read");
        prop_assert_eq!(plan(&sim.intent, Some(&read), &sim.facts(), sim.now()), planned);
    }

    /// After a loss at rest, the operator moves no traffic, creates and deletes nothing, and recovers all served
    /// releases in order.
    #[test]
    fn a_status_lost_at_rest_is_recovered(limit in limit(), actions in prop::collection::vec(action(), 1..14)) {
        let mut sim = played(limit, &actions);
        let (side, before) = (sim.active(), served(sim.stored_status()));
        sim.reset_counters();
        sim.lose_status();
        sim.run_until_idle();
        prop_assert_eq!(sim.active(), side, "{}", sim.trace_text());
        prop_assert_eq!((sim.wrote("Create"), sim.wrote("Delete"), sim.selector_changes), (0, 0, 0), "{}", sim.trace_text());
        // A release that was undone during its switch has a revision too (`docs/plan.md`, known corners).
        let after: Vec<_> = served(sim.stored_status()).into_iter().filter(|version| before.contains(version)).collect();
        prop_assert_eq!(after, before, "{}", sim.trace_text());
    }
}
