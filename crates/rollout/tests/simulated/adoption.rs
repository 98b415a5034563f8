//! The adoption of what an earlier operator left (design D27, D28).
//!
//! Covers `adoption.rs`.

use super::assert_settled_on;
use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord, Step, Trigger};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rollout::facts::{ObjectId, ReleaseRef, Route};
use rollout::{Action, EventReason};
use simulator::Sim;
use simulator::plan_input::PlanInput;

const BOTH: [Component; 2] = Component::ALL;

/// Returns the status that an earlier operator wrote: no hash, no state machine.
fn earlier_status(color: Color) -> MetadataServicesStatus {
    let started = jiff::Timestamp::from_second(simulator::START - 3600).unwrap();
    MetadataServicesStatus {
        phase: Some("Stable".into()),
        deployment_phase: Some("Stable".into()),
        active_strategy: Some(color),
        active_release_version: Some("v20260101-abc".into()),
        release_history: ["v20251201-abc", "v20260101-abc"]
            .map(|version| ReleaseRecord {
                version: version.into(),
                hash: String::new(),
                strategy: color,
                storage_tag: "a".into(),
                schema_tag: "a".into(),
                storage_image: String::new(),
                schema_image: String::new(),
                timestamp: Time(started),
                status: if version == "v20260101-abc" {
                    RecordStatus::Active
                } else {
                    RecordStatus::Superseded
                },
                trigger: Trigger::Spec,
                activated_at: None,
                ready_at: None,
                finished_at: None,
                reason: None,
                message: None,
            })
            .into(),
        ..MetadataServicesStatus::default()
    }
}

/// Returns a resource of an earlier operator, whose spec asks for `a`. `tag` runs on green with two Pods of each component,
/// which must serve after every write.
fn predecessor(tag: &str) -> Sim {
    let mut sim = Sim::new();
    sim.add_predecessor(tag, Color::Green);
    sim.add_predecessor_fronts(Some(Color::Green), Some(Color::Green));
    sim.status = Some(earlier_status(Color::Green));
    sim.must_serve = true;
    sim
}

fn pods(sim: &Sim, color: Color) -> Vec<String> {
    let of = |component| sim.cluster.cell(component, color).pods.iter().map(|pod| pod.name.clone());
    BOTH.into_iter().flat_map(of).collect()
}

#[test]
fn a_release_with_the_images_of_the_spec_is_adopted_whole() {
    for paused in [false, true] {
        let mut sim = predecessor("a");
        sim.pause(paused);
        let before = pods(&sim, Color::Green);
        sim.run_until_idle();
        assert_settled_on(&mut sim, "v20260101-abc on green");
        assert_eq!(pods(&sim, Color::Green), before, "no Pod is touched");
        assert!(sim.cluster.unstamped.is_empty());
        let status = sim.status.clone().unwrap();
        let versions: Vec<_> = status.release_history.iter().map(|record| record.version.as_str()).collect();
        assert_eq!(versions, ["v20251201-abc", "v20260101-abc"], "the history stays");
        let active = status.record("v20260101-abc").unwrap();
        assert_eq!((active.status, active.trigger), (RecordStatus::Active, Trigger::Adoption));
        assert_eq!((active.hash.as_str(), active.storage_tag.as_str()), ("a-hash", "a"));
        assert!(sim.cluster.revisions.iter().any(|known| known.version == "v20260101-abc"));
        assert_eq!((sim.wrote("Delete"), sim.wrote("Create")), (0, 0), "{}", sim.trace_text());
        let events: Vec<_> = sim.notes.iter().map(|note| note.reason).collect();
        assert_eq!(events, [EventReason::Adopted]);
        sim.assert_stays_idle();
    }
}

#[test]
fn other_images_than_those_of_the_spec_are_adopted_and_replaced_by_a_rollout() {
    let mut sim = predecessor("0");
    sim.until(Step::Deploying);
    let adopted = sim.status.as_ref().unwrap().record("v20260101-abc").cloned().unwrap();
    assert_eq!((adopted.hash.as_str(), adopted.storage_tag.as_str()), ("", "0"));
    assert_eq!(sim.traffic(), "v20260101-abc on green");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    sim.rollback_to("v20260101-abc");
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
    let refused = sim.notes.iter().find(|note| note.reason == EventReason::RequestRefused).unwrap();
    assert!(refused.message.contains("it is gone; releases that served: a"), "{}", refused.message);
}

#[test]
fn other_images_than_those_of_the_spec_stay_while_the_resource_is_paused() {
    let mut sim = predecessor("0");
    sim.pause(true);
    sim.run_until_idle();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Stable), "v20260101-abc on green"));
    sim.assert_stays_idle();
    sim.pause(false);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

#[test]
fn a_bad_first_release_returns_to_the_adopted_one() {
    let mut sim = predecessor("0");
    sim.fail_startup("a", rollout::facts::Cause::Crash);
    sim.run_until_idle();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Stable), "v20260101-abc on green"));
    assert!(sim.failed("a"), "{}", sim.trace_text());
}

#[test]
fn an_invalid_spec_does_not_keep_the_release_from_being_adopted() {
    let mut sim = predecessor("a");
    sim.intent.violations = vec!["metadata.name: too long".into()];
    sim.run_until_idle();
    assert_eq!((sim.step(), sim.traffic().as_str()), (Some(Step::Stable), "v20260101-abc on green"));
    let stalled = sim.status.as_ref().unwrap().condition("Stalled").cloned().unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "Invalid"));
}

#[test]
fn the_serving_color_is_told_by_services_then_status_then_health() {
    type Setup = fn(&mut Sim);
    let cases: [(&str, Setup); 4] = [
        ("both Services", |sim| {
            sim.add_predecessor_fronts(Some(Color::Green), Some(Color::Green));
            sim.status = Some(earlier_status(Color::Blue));
        }),
        ("the status, since the Services differ", |sim| {
            sim.add_predecessor_fronts(Some(Color::Green), Some(Color::Blue));
            sim.status = Some(earlier_status(Color::Green));
        }),
        ("health, since the Services select no color", |sim| {
            sim.add_predecessor_fronts(None, None);
            sim.make_unready(Component::Schema, Color::Blue, 0);
        }),
        ("health, without Services", |sim| sim.make_unready(Component::Storage, Color::Blue, 0)),
    ];
    for (what, setup) in cases {
        let mut sim = Sim::new();
        sim.add_predecessor("a", Color::Blue);
        sim.add_predecessor("a", Color::Green);
        setup(&mut sim);
        let blue = pods(&sim, Color::Blue);
        sim.run_until_idle();
        assert_eq!(sim.traffic().rsplit(' ').next(), Some("green"), "{what}: {}", sim.trace_text());
        assert_eq!(pods(&sim, Color::Blue), blue, "{what}: the other color is left alone");
        let adopted = sim.notes.iter().find(|note| note.reason == EventReason::Adopted).unwrap();
        assert!(
            adopted.message.contains("Left alone: the storage Deployment of blue"),
            "{}",
            adopted.message
        );
        assert_eq!(sim.wrote("Delete"), 0, "{what}: {}", sim.trace_text());
    }
}

#[test]
fn two_colors_that_nothing_tells_apart_are_left_alone() {
    let mut sim = Sim::new();
    sim.add_predecessor("a", Color::Blue);
    sim.add_predecessor("a", Color::Green);
    let before = sim.cluster.cells.clone();
    assert_eq!(sim.run(), Some(30));
    let status = sim.status.clone().unwrap();
    let stalled = status.condition("Stalled").unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "CannotAdopt"));
    assert!(stalled.message.contains("both colors have Deployments"), "{}", stalled.message);
    assert_eq!(sim.cluster.cells, before);
    assert_eq!(sim.notes.iter().map(|note| note.reason).collect::<Vec<_>>(), [EventReason::CannotAdopt]);
    // A person deletes the color that nobody uses.
    for component in BOTH {
        sim.delete_externally(&ObjectId::Deployment(component, Color::Blue));
        sim.cluster.unstamped.remove(&ObjectId::Deployment(component, Color::Blue));
    }
    sim.run_until_idle();
    assert_eq!(sim.step(), Some(Step::Stable), "{}", sim.trace_text());
    assert!(sim.traffic().ends_with("on green"), "{}", sim.traffic());
}

#[test]
fn services_that_send_traffic_elsewhere_are_left_alone() {
    let mut sim = predecessor("a");
    for component in BOTH {
        sim.cluster.unstamped.remove(&ObjectId::Deployment(component, Color::Green));
        sim.cluster.cell_mut(component, Color::Green).deployment = None;
    }
    sim.externally_changed = true;
    assert_eq!(sim.run(), Some(30));
    let status = sim.status.clone().unwrap();
    assert_eq!(status.condition("Stalled").unwrap().reason, "CannotAdopt");
    assert_eq!(sim.wrote("Route") + sim.wrote("AdoptFront"), 0, "{}", sim.trace_text());
}

#[test]
fn missing_pieces_are_added_and_services_without_traffic_are_taken_over() {
    let mut sim = predecessor("a");
    sim.must_serve = false;
    sim.externally_changed = true;
    sim.cluster.unstamped.remove(&ObjectId::Deployment(Component::Schema, Color::Green));
    sim.cluster.unstamped.remove(&ObjectId::Front(Component::Schema));
    *sim.cluster.cell_mut(Component::Schema, Color::Green) = simulator::cluster_state::Cell::default();
    sim.cluster.unstamped.remove(&ObjectId::Service(Component::Schema, Color::Green));
    sim.cluster.unstamped.remove(&ObjectId::ConfigMap(Component::Schema, Color::Green));
    *sim.cluster.fronts.get_mut(Component::Schema) = None;
    sim.cluster.tick();
    sim.run_until_idle();
    // One Deployment runs the tag of the spec, and the other is missing: the template is unknown, so a rollout follows.
    assert_settled_on(&mut sim, "a on blue");
    // Only the front Services are left.
    let mut sim = Sim::new();
    sim.externally_changed = true;
    sim.add_predecessor_fronts(Some(Color::Green), None);
    sim.run_until_idle();
    assert_settled_on(&mut sim, "a on blue");
}

/// The status is lost again after releases of this operator, while objects of an earlier one are still there: no epoch
/// decreases, and the traffic stays.
#[test]
fn a_later_loss_of_the_status_lowers_no_epoch() {
    let mut sim = predecessor("a");
    sim.add_predecessor("0", Color::Blue);
    sim.run_until_idle();
    for _ in 0..3 {
        let epochs = |sim: &Sim| BOTH.map(|of| sim.cluster.fronts.get(of).as_ref().unwrap().epoch);
        let before = epochs(&sim);
        sim.lose_status();
        sim.run_until_idle();
        assert_eq!(sim.traffic(), "v20260101-abc on green", "{}", sim.trace_text());
        let after = epochs(&sim);
        assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{before:?} {after:?}");
    }
}

/// A downgrade and an upgrade: a release of this operator is still on blue, complete and recorded, and the earlier operator
/// has moved the traffic to its own on green.
#[test]
fn traffic_does_not_return_to_an_older_release_of_this_operator() {
    let mut sim = Sim::stable();
    sim.add_predecessor("9", Color::Green);
    sim.pause(true);
    for component in BOTH {
        let front = sim.cluster.fronts.get_mut(component).as_mut().unwrap();
        front.selects = Some(Color::Green);
    }
    sim.cluster.tick();
    sim.lose_status();
    sim.status = Some(earlier_status(Color::Green));
    sim.externally_changed = true;
    sim.run_until_idle();
    assert_eq!(sim.traffic(), "v20260101-abc on green", "{}", sim.trace_text());
    assert_eq!(sim.selector_changes, 0, "{}", sim.trace_text());
}

/// The same, but the traffic is still on the release of this operator: recovery goes on with it.
#[test]
fn a_release_of_this_operator_with_traffic_is_recovered() {
    let mut sim = Sim::stable();
    sim.add_predecessor("9", Color::Green);
    sim.pause(true);
    let green = sim.cluster.cells.green.clone();
    sim.lose_status();
    sim.run_until_idle();
    assert_eq!(
        (sim.step(), sim.traffic().as_str()),
        (Some(Step::Stable), "a on blue"),
        "{}",
        sim.trace_text()
    );
    assert_eq!(sim.cluster.cells.green, green, "what is left over is not touched");
}

/// Both front Services select a color without a Deployment of the earlier operator, and its Pods have traffic: it is not
/// moved to the other color, although that is complete.
#[test]
fn traffic_to_pods_of_an_unknown_maker_is_not_moved() {
    let mut sim = Sim::new();
    sim.add_predecessor("a", Color::Green);
    sim.add_predecessor("a", Color::Blue);
    sim.add_predecessor_fronts(Some(Color::Blue), Some(Color::Blue));
    for component in BOTH {
        sim.cluster.unstamped.remove(&ObjectId::Deployment(component, Color::Blue));
        sim.cluster.cell_mut(component, Color::Blue).deployment = None;
    }
    sim.externally_changed = true;
    sim.cluster.tick();
    assert_eq!(sim.run(), Some(30), "{}", sim.trace_text());
    let status = sim.status.clone().unwrap();
    assert_eq!(status.condition("Stalled").unwrap().reason, "CannotAdopt");
    assert_eq!(sim.wrote("AdoptFront"), 0, "{}", sim.trace_text());
}

/// The operator is killed before each write of the adoption, in both orders of concurrent writes. With the next edit of the
/// spec, the next release starts from what was adopted.
#[test]
fn a_crash_before_any_write_of_the_adoption_changes_nothing() {
    for tag in ["a", "0"] {
        for reversed in [false, true] {
            for crash in 0..30 {
                let mut sim = predecessor(tag);
                sim.reversed = reversed;
                sim.crash_after = Some(crash);
                sim.crash_again_after = Some(1);
                sim.run_until_idle();
                let expected = if tag == "a" { "v20260101-abc on green" } else { "a on blue" };
                assert_settled_on(&mut sim, expected);
                sim.edit("b");
                sim.run_until_idle();
                assert_settled_on(&mut sim, if tag == "a" { "b on blue" } else { "b on green" });
            }
        }
    }
}

/// The checks of the simulator notice the writes that I46 forbids.
#[test]
fn writes_that_an_adoption_must_not_make_are_noticed() {
    let judge = |sim: &Sim, action: &Action| {
        let (facts, now) = (sim.facts(), sim.now());
        let (intent, status) = (&sim.intent, sim.status.as_ref());
        let input =
            PlanInput { intent, status, facts: &facts, now, externally_changed: false, status_edited: false };
        simulator::predecessor::adopted(&input, action).err().unwrap_or_default()
    };
    let mut sim = predecessor("a");
    let tag = ReleaseRef::default();
    let of_blue = Action::AdoptUnstamped(ObjectId::Deployment(Component::Storage, Color::Blue), tag.clone());
    assert!(judge(&sim, &of_blue).contains("of an object with a stamp"));
    let service = Action::AdoptUnstamped(ObjectId::Service(Component::Storage, Color::Blue), tag);
    assert!(judge(&sim, &service).contains("of a stamped object"));
    let to = |color| Route { color, version: "v".into(), epoch: 1 };
    assert!(
        judge(&sim, &Action::AdoptFront(Component::Storage, to(None)))
            .contains("without a Service or a color")
    );
    let to_blue = Action::AdoptFront(Component::Storage, to(Some(Color::Blue)));
    assert!(judge(&sim, &to_blue).contains("storage loses its traffic"));
    sim.cluster.unstamped.clear();
    assert!(judge(&sim, &of_blue).contains("without an earlier operator"));
}
