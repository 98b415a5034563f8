//! The status is input: whatever another hand writes into it, no request is lost by it and the resource comes to rest.

use proptest::prelude::*;
use serde_json::json;

use super::random::{Deed, TEMPLATES, deed, play};
use api::status::{MetadataServicesStatus, RecordStatus, Step};
use rollout::{EventReason, plan};
use simulator::arbitrary::{change, edit, status};
use simulator::{Sim, hash};

/// What a status of the simulator speaks of.
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

/// Deeds after which the pods of every release come up: what is lost then is the status's fault.
fn harmless() -> impl Strategy<Value = Vec<Deed>> {
    let deed = deed().prop_filter("breaks", |deed| !matches!(deed, Deed::Breaks(_)));
    prop::collection::vec(deed, 1..8)
}

/// From here on another hand's status stands in the resource.
fn survives(mut sim: Sim, status: MetadataServicesStatus) -> Result<(), TestCaseError> {
    let unknown = status.rollout.as_ref().is_some_and(|rollout| rollout.step == Step::Unknown);
    let before = serde_json::to_string_pretty(&status).unwrap();
    sim.serves = true;
    sim.forget();
    sim.edit_status(status);
    sim.settle();
    if unknown && sim.step() == Some(Step::Unknown) {
        // Of a newer version: nothing is touched until an operator that knows it runs again.
        prop_assert_eq!(sim.total(), 0, "{}", before);
        return Ok(());
    }
    prop_assert_eq!(sim.step(), Some(Step::Stable), "{}\n{}", before, sim.story());
    prop_assert!(sim.traffic() == sim.active(), "{}\n{}", before, sim.story());
    // Whatever was in it, the next release gets through.
    sim.pause(false);
    sim.settle();
    let (next, name) = ("f", sim.active());
    sim.edit(next);
    sim.settle();
    prop_assert!(
        sim.active().starts_with("f on"),
        "{} after {}\n{}\n{}",
        sim.active(),
        name,
        before,
        sim.story()
    );
    sim.stays_quiet();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A status in which some places are changed.
    #[test]
    fn a_status_edited_by_hand_costs_no_request(
        deeds in harmless(), edits in prop::collection::vec(edit(&WORDS), 1..4),
    ) {
        let mut sim = Sim::stable();
        for deed in &deeds {
            play(&mut sim, deed);
        }
        let status = &sim.status;
        prop_assume!(status.is_some());
        let mut text = serde_json::to_value(status).unwrap();
        for edit in &edits {
            // Conditions only show; the rest decides.
            change(&mut text, edit, |path| !path.starts_with("/conditions/"));
        }
        let read = serde_json::from_value(text);
        prop_assume!(read.is_ok());
        survives(sim, read.unwrap())?;
    }

    /// A status of an earlier moment, as a backup has it that stores statuses.
    #[test]
    fn an_old_status_costs_no_request(before in harmless(), after in harmless()) {
        let mut sim = Sim::stable();
        for deed in &before {
            play(&mut sim, deed);
        }
        let old = sim.status.clone();
        for deed in &after {
            play(&mut sim, deed);
        }
        prop_assume!(old.is_some());
        survives(sim, old.unwrap())?;
    }

    /// A status out of the blue, most times with a step that there is.
    #[test]
    fn any_status_costs_no_request(
        deeds in harmless(), value in status(&WORDS),
        step in prop::option::weighted(0.8, prop::sample::select(STEPS.to_vec())), epoch in 0..12_i64,
    ) {
        let mut sim = Sim::stable();
        for deed in &deeds {
            play(&mut sim, deed);
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
        prop_assert_eq!(plan(&sim.intent, Some(&read), &sim.facts(), sim.now()), planned, "a plan is a function");
        survives(sim, read)?;
    }

    /// Whatever the annotation says, it is answered once: by that very release, or by why not.
    #[test]
    fn a_rollback_to_any_text_is_to_the_release_of_that_name_or_refused(
        text in "[abc]|[ \t\n]?[abA][ \t\n.]?|[ab][-a-z]{0,9}|\\PC{0,300}",
    ) {
        let mut sim = Sim::upgraded();
        sim.rollback_to(&text);
        sim.settle();
        prop_assert_eq!(&sim.intent.requests.rollback_to, &None);
        let (active, refused) = match text.as_str() {
            "a" => ("a on blue", 0),
            "b" => ("b on green", 0),
            _ => ("b on green", 1),
        };
        prop_assert_eq!((sim.active(), sim.told(EventReason::RequestRefused)), (active.into(), refused), "{:?}", text);
        prop_assert_eq!(&sim.intent.wanted.hash, &hash(&active[..1]));
        sim.stays_quiet();
    }
}

#[test]
fn the_words_name_templates() {
    assert!(WORDS[..3].iter().all(|word| TEMPLATES.contains(word)));
}

/// In the middle of a restart the release on its way is the one that serves. Its record says that it serves.
#[test]
fn a_serving_release_that_is_said_to_be_on_its_way_only_is_known_from_its_objects() {
    let mut sim = Sim::stable();
    sim.restart("now");
    sim.advance(0);
    assert_eq!(sim.step(), Some(Step::Deploying));
    let mut status = sim.status.clone().unwrap();
    status.release_history[0].status = RecordStatus::Pending;
    sim.edit_status(status);
    sim.settle();
    assert_eq!((sim.active().as_str(), sim.history().as_str()), ("a on blue", "a:Active"), "{}", sim.story());
    sim.stays_quiet();
}

/// A release after another, whose status is lost and whose record was edited.
fn with_a_broken_record(version: &str) -> Sim {
    let mut sim = Sim::upgraded();
    let mut records = sim.cluster.revisions.iter_mut();
    let record = records.find(|record| record.version == version).unwrap();
    (record.hash, record.flaw) = (String::new(), Some("it was edited".into()));
    sim.lose_status();
    sim.settle();
    sim.forget();
    sim
}

/// Of two records without a hash one must not pass for the other, nor either for a template that is there.
#[test]
fn a_broken_record_is_no_rollback_target_after_a_loss_either() {
    let mut sim = with_a_broken_record("a");
    sim.rollback_to("a");
    sim.settle();
    assert_eq!(
        (sim.active().as_str(), sim.told(EventReason::RequestRefused)),
        ("b on green", 1),
        "{}",
        sim.story()
    );
    assert!(sim.notes[0].message.contains("cannot be used: it was edited"), "{:?}", sim.notes);
    sim.stays_quiet();
}

/// What serves is known from its Deployments: it is not deployed once more.
#[test]
fn a_serving_release_with_a_broken_record_stays_after_a_loss() {
    let mut sim = with_a_broken_record("b");
    assert_eq!((sim.active().as_str(), sim.says("SpecApplied").as_str()), ("b on green", "True/Applied"));
    sim.stays_quiet();
}
