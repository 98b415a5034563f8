//! The status is input: no status that another client writes costs a request, and the resource always reaches rest.
//!
//! Covers `recovery/validity.rs` and `recovery.rs`.

use proptest::prelude::*;
use serde_json::json;

use super::random_histories::{TEMPLATES, UserAction, action, play};
use api::status::{MetadataServicesStatus, RecordStatus, Step};
use rollout::{EventReason, plan};
use simulator::arbitrary::{change, edit, status};
use simulator::{Sim, hash};

/// Texts that occur in a status of the simulator.
const WORDS: [&str; 24] = [
    "a",
    "b",
    "c",
    "a-hash",
    "b-hash",
    "c-hash",
    "blue",
    "green",
    "Stable",
    "Deploying",
    "Switching",
    "Watching",
    "RollingBack",
    "Prune",
    "Pending",
    "Active",
    "Superseded",
    "Failed",
    "Rollback",
    "Retry",
    "True",
    "False",
    "",
    "2026-09-21T14:13:20Z",
];

const STEPS: [&str; 6] = ["Stable", "Deploying", "Switching", "Watching", "RollingBack", "Prune"];

/// Returns user actions without failing releases, so that only the status can cause a loss.
fn harmless() -> impl Strategy<Value = Vec<UserAction>> {
    let action = action().prop_filter("breaks", |action| !matches!(action, UserAction::FailStartup(_)));
    prop::collection::vec(action, 1..8)
}

/// Replaces the status and fails if the operator loses traffic, does not rest, or cannot deploy the next release.
fn survives(mut sim: Sim, status: MetadataServicesStatus) -> Result<(), TestCaseError> {
    let unknown = status.rollout.as_ref().is_some_and(|rollout| rollout.step == Step::Unknown);
    let before = serde_json::to_string_pretty(&status).unwrap();
    sim.must_serve = true;
    sim.reset_counters();
    sim.replace_status(status);
    sim.run_until_idle();
    if unknown && sim.step() == Some(Step::Unknown) {
        // A newer operator wrote the step: this one leaves everything alone.
        prop_assert_eq!(sim.write_count(), 0, "{}", before);
        return Ok(());
    }
    prop_assert_eq!(sim.step(), Some(Step::Stable), "{}\n{}", before, sim.trace_text());
    prop_assert!(sim.traffic() == sim.active(), "{}\n{}", before, sim.trace_text());
    // The next release succeeds after any status.
    sim.pause(false);
    sim.run_until_idle();
    let (next, name) = ("f", sim.active());
    sim.edit(next);
    sim.run_until_idle();
    prop_assert!(
        sim.active().starts_with("f on"),
        "{} after {}\n{}\n{}",
        sim.active(),
        name,
        before,
        sim.trace_text()
    );
    sim.assert_stays_idle();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A status with some changed places.
    #[test]
    fn an_edited_status_costs_no_request(
        actions in harmless(), edits in prop::collection::vec(edit(&WORDS), 1..4),
    ) {
        let mut sim = Sim::stable();
        for action in &actions {
            play(&mut sim, action);
        }
        let status = &sim.status;
        prop_assume!(status.is_some());
        let mut text = serde_json::to_value(status).unwrap();
        for edit in &edits {
            // Conditions do not influence decisions.
            change(&mut text, edit, |path| !path.starts_with("/conditions/"));
        }
        let read = serde_json::from_value(text);
        prop_assume!(read.is_ok());
        survives(sim, read.unwrap())?;
    }

    /// A status of an earlier time, as a backup with statuses restores it.
    #[test]
    fn an_old_status_costs_no_request(before in harmless(), after in harmless()) {
        let mut sim = Sim::stable();
        for action in &before {
            play(&mut sim, action);
        }
        let old = sim.status.clone();
        for action in &after {
            play(&mut sim, action);
        }
        prop_assume!(old.is_some());
        survives(sim, old.unwrap())?;
    }

    /// An arbitrary status, mostly with a known step.
    #[test]
    fn any_status_costs_no_request(
        actions in harmless(), value in status(&WORDS),
        step in prop::option::weighted(0.8, prop::sample::select(STEPS.to_vec())), epoch in 0..12_i64,
    ) {
        let mut sim = Sim::stable();
        for action in &actions {
            play(&mut sim, action);
        }
        let mut value = value;
        if let Some(step) = step {
            if !value["rollout"].is_object() {
                value["rollout"] = json!({"epoch": epoch, "since": "2026-09-21T14:13:20Z"});
            }
            value["rollout"]["step"] = json!(step);
        }
        let read: MetadataServicesStatus = serde_json::from_value(value).unwrap();
        let planned = plan(&sim.intent, Some(&read), &sim.facts(), sim.now());
        prop_assert_eq!(plan(&sim.intent, Some(&read), &sim.facts(), sim.now()), planned, "two plans of one input differ");
        survives(sim, read)?;
    }

    /// The operator answers an annotation once: with that release, or with the reason of the refusal.
    #[test]
    fn a_rollback_to_any_text_finds_that_release_or_is_refused(
        text in "[abc]|[ \t\n]?[abA][ \t\n.]?|[ab][-a-z]{0,9}|\\PC{0,300}",
    ) {
        let mut sim = Sim::upgraded();
        sim.rollback_to(&text);
        sim.run_until_idle();
        prop_assert_eq!(&sim.intent.requests.rollback_to, &None);
        let (active, refused) = match text.as_str() {
            "a" => ("a on blue", 0),
            "b" => ("b on green", 0),
            _ => ("b on green", 1),
        };
        prop_assert_eq!((sim.active(), sim.event_count(EventReason::RequestRefused)), (active.into(), refused), "{:?}", text);
        prop_assert_eq!(&sim.intent.wanted.hash, &hash(&active[..1]));
        sim.assert_stays_idle();
    }
}

#[test]
fn words_contain_the_template_names() {
    assert!(WORDS[..3].iter().all(|word| TEMPLATES.contains(word)));
}

/// The pending release of a restart is also the active one, but its record says Pending only.
#[test]
fn an_active_release_recorded_as_pending_is_recovered() {
    let mut sim = Sim::stable();
    sim.restart("now");
    sim.advance(0);
    assert_eq!(sim.step(), Some(Step::Deploying));
    let mut status = sim.status.clone().unwrap();
    status.release_history[0].status = RecordStatus::Pending;
    sim.replace_status(status);
    sim.run_until_idle();
    assert_eq!(
        (sim.active().as_str(), sim.history().as_str()),
        ("a on blue", "a:Active"),
        "{}",
        sim.trace_text()
    );
    sim.assert_stays_idle();
}

/// Returns an upgrade whose status was lost and whose ControllerRevision of one release was edited.
fn with_broken_revision(version: &str) -> Sim {
    let mut sim = Sim::upgraded();
    let mut records = sim.cluster.revisions.iter_mut();
    let record = records.find(|record| record.version == version).unwrap();
    (record.hash, record.flaw) = (String::new(), Some("it was edited".into()));
    sim.lose_status();
    sim.run_until_idle();
    sim.reset_counters();
    sim
}

/// Two revisions without a hash must not be confused, neither with each other nor with the template in the spec.
#[test]
fn a_broken_revision_is_no_rollback_target_after_a_loss() {
    let mut sim = with_broken_revision("a");
    sim.rollback_to("a");
    sim.run_until_idle();
    assert_eq!(
        (sim.active().as_str(), sim.event_count(EventReason::RequestRefused)),
        ("b on green", 1),
        "{}",
        sim.trace_text()
    );
    assert!(sim.notes[0].message.contains("cannot be used: it was edited"), "{:?}", sim.notes);
    sim.assert_stays_idle();
}

/// The Deployments identify the active release, so the operator does not deploy it again.
#[test]
fn an_active_release_with_a_broken_revision_survives_a_loss() {
    let mut sim = with_broken_revision("b");
    assert_eq!(
        (sim.active().as_str(), sim.condition_state("SpecApplied").as_str()),
        ("b on green", "True/Applied")
    );
    sim.assert_stays_idle();
}
