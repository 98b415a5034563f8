//! Random histories: whatever users do in whatever order, and wherever the status gets lost, the resource comes to rest,
//! and its history is in order. The laws of `sim::laws` hold at every write in between.

use proptest::prelude::*;

use api::names::Component;
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord, Step};
use rollout::facts::Cause;
use rollout::intent::Requests;
use rollout::{Effect, plan};
use simulator::Sim;

pub const TEMPLATES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What a user, or misfortune, does next.
#[derive(Clone, Debug)]
pub enum Deed {
    Edit(usize),
    /// A rollback to a release of the history, counted from its end; beyond it, to a version that never was.
    Rollback(usize),
    Retry,
    Restart,
    Pause(bool),
    Breaks(usize),
    LoseStatus,
    /// The create of a Deployment, Service or ConfigMap of an attempt at a template that was given up lands late.
    LateCreate(Component, usize, usize),
    Advance(i64),
    Settle,
}

fn component() -> impl Strategy<Value = Component> {
    prop::sample::select(Component::ALL.to_vec())
}

pub fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..TEMPLATES.len()).prop_map(Deed::Edit),
        2 => (0..6_usize).prop_map(Deed::Rollback),
        1 => Just(Deed::Retry),
        1 => Just(Deed::Restart),
        1 => any::<bool>().prop_map(Deed::Pause),
        1 => (1..TEMPLATES.len()).prop_map(Deed::Breaks),
        1 => Just(Deed::LoseStatus),
        2 => (component(), 0..3_usize, 0..TEMPLATES.len())
            .prop_map(|(component, piece, which)| Deed::LateCreate(component, piece, which)),
        3 => (0..200_i64).prop_map(Deed::Advance),
        4 => Just(Deed::Settle),
    ]
}

pub fn play(sim: &mut Sim, deed: &Deed) {
    match deed {
        Deed::Edit(which) => sim.edit(TEMPLATES[*which]),
        Deed::Rollback(back) => {
            let history = sim.status.as_ref().map_or(&[][..], |status| &status.release_history);
            let version = history.iter().rev().nth(*back).map(|record| record.version.clone());
            sim.rollback_to(&version.unwrap_or_else(|| "never-was".into()));
        }
        Deed::Retry => sim.retry("now"),
        Deed::Restart => sim.restart("now"),
        Deed::Pause(paused) => sim.pause(*paused),
        Deed::Breaks(which) => sim.breaks(TEMPLATES[*which], Cause::Crash),
        Deed::LoseStatus => sim.lose_status(),
        Deed::LateCreate(component, piece, which) => sim.late_create(*component, *piece, TEMPLATES[*which]),
        Deed::Advance(seconds) => sim.advance(*seconds),
        Deed::Settle => sim.settle(),
    }
}

fn played(limit: usize, deeds: &[Deed]) -> Sim {
    let mut sim = Sim::stable();
    sim.intent.policy.history_limit = limit;
    for deed in deeds {
        play(&mut sim, deed);
    }
    sim.pause(false);
    sim.settle();
    sim
}

/// Most histories forget something.
fn limit() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![2, 2, 3, 10])
}

/// Versions that served and have not failed since, in the order of the history. Whether a failed one had served before
/// does not outlive the status (`docs/plan.md`, known corners).
fn served(status: &MetadataServicesStatus) -> Vec<String> {
    let good =
        |record: &&ReleaseRecord| record.activated_at.is_some() && record.status != RecordStatus::Failed;
    let records = status.release_history.iter().filter(good);
    records.map(|record| record.version.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_comes_to_rest_with_a_history_in_order(limit in limit(), deeds in prop::collection::vec(deed(), 1..14)) {
        let mut sim = played(limit, &deeds);
        prop_assert_eq!(sim.step(), Some(Step::Stable), "{}", sim.story());
        prop_assert!(sim.intent.requests == Requests::default(), "requests are left: {}", sim.story());
        let history = &sim.known().release_history;
        let mut versions: Vec<_> = history.iter().map(|record| &record.version).collect();
        versions.sort();
        versions.dedup();
        prop_assert_eq!(versions.len(), history.len(), "{}", sim.story());
        prop_assert!(history.len() <= limit, "{}", sim.story());
        let active: Vec<_> = history.iter().rev().map(|record| record.status).collect();
        let at = active.iter().position(|status| *status == RecordStatus::Active);
        let blocked = active.first() == Some(&RecordStatus::Failed);
        prop_assert_eq!(at, Some(usize::from(blocked)), "{}", sim.story());
        prop_assert_eq!(active.iter().filter(|status| **status == RecordStatus::Active).count(), 1);
        prop_assert!(!active.contains(&RecordStatus::Pending), "{}", sim.story());
        let wanted = sim.known().record_of_hash(&sim.intent.wanted.hash).map(|record| record.status);
        prop_assert!(matches!(wanted, Some(RecordStatus::Active | RecordStatus::Failed)), "{}", sim.story());
        sim.stays_quiet();
    }

    /// What is planned on the result of a plan that waits is to wait: a settled resource is a fixed point.
    #[test]
    fn a_settled_status_is_a_fixed_point(limit in limit(), deeds in prop::collection::vec(deed(), 1..8)) {
        let sim = played(limit, &deeds);
        let planned = plan(&sim.intent, sim.status.as_ref(), &sim.facts(), sim.now());
        prop_assert_eq!(&planned.effect, &Effect::Wait);
        let text = serde_json::to_string(sim.known()).unwrap();
        let read: MetadataServicesStatus = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, sim.known(), "a status survives being written and read");
        prop_assert_eq!(plan(&sim.intent, Some(&read), &sim.facts(), sim.now()), planned);
    }

    /// A lost status moves no traffic, makes and deletes nothing, and what served comes back: all of it, in its order.
    #[test]
    fn a_settled_status_that_is_lost_comes_back(limit in limit(), deeds in prop::collection::vec(deed(), 1..14)) {
        let mut sim = played(limit, &deeds);
        let (side, before) = (sim.active(), served(sim.known()));
        sim.forget();
        sim.lose_status();
        sim.settle();
        prop_assert_eq!(sim.active(), side, "{}", sim.story());
        prop_assert_eq!((sim.wrote("Create"), sim.wrote("Delete"), sim.moved), (0, 0, 0), "{}", sim.story());
        // A release that was undone while it was switched to has a record too (docs/plan.md, known corners).
        let after: Vec<_> = served(sim.known()).into_iter().filter(|version| before.contains(version)).collect();
        prop_assert_eq!(after, before, "{}", sim.story());
    }
}
