//! Artificial histories: a history without a violation, and a history for each invariant with a violation to find.

use std::time::Duration;

use serde_json::{Value, json};

use super::history_state::{EPOCH, RELEASE_VERSION};
use super::*;
use crate::history::{Kind, Verb};

/// A story in the making: every event gets the next resourceVersion, a second after the one before.
#[derive(Default)]
pub struct Story {
    pub history: History,
    count: u32,
}

impl Story {
    pub fn tell(&mut self, kind: Kind, name: &str, verb: Verb, object: Value) -> &mut Self {
        self.count += 1;
        self.history.insert(Entry {
            resource_version: u64::from(self.count),
            kind,
            namespace: "n".into(),
            name: name.into(),
            verb,
            object,
            at: Duration::from_secs(u64::from(self.count)),
            late: Duration::ZERO,
            listed: false,
        });
        self
    }

    fn owner(&mut self, step: &str, active: &str, epoch: i64) -> &mut Self {
        let verb = if self.history.live(Kind::MetadataServices, "m").is_some() {
            Verb::Modified
        } else {
            Verb::Added
        };
        let moving = matches!(step, "Deploying" | "Switching");
        let records = match active {
            "blue" if moving => {
                json!([{"version": "v1", "status": "Active"}, {"version": "v2", "status": "Pending"}])
            }
            "blue" => json!([{"version": "v1", "status": "Active"}]),
            "green" => {
                json!([{"version": "v1", "status": "Superseded"}, {"version": "v2", "status": "Active"}])
            }
            _ => json!([{"version": "v1", "status": "Pending"}]),
        };
        let (version, pending) = match active {
            "green" => ("v2", ""),
            "blue" => ("v1", if moving { "v2" } else { "" }),
            _ => ("", "v1"),
        };
        let target = match (step, active) {
            ("Switching", "blue") => json!({"strategy": "green", "version": "v2"}),
            ("Switching", _) => json!({"strategy": "blue", "version": "v1"}),
            _ => Value::Null,
        };
        let object = json!({
            "metadata": {"uid": "u", "generation": 1},
            "spec": {"rollout": {"switchDwellSeconds": 1, "cleanupDelaySeconds": 2}},
            "status": {
                "observedGeneration": 1, "activeStrategy": active, "activeReleaseVersion": version,
                "pendingReleaseVersion": pending,
                "releaseHistory": records, "rollout": {"step": step, "epoch": epoch, "target": target},
            },
        });
        self.tell(Kind::MetadataServices, "m", verb, object)
    }

    fn front(&mut self, component: &str, color: &str, epoch: i64) -> &mut Self {
        let name = format!("m-{component}");
        let verb =
            if self.history.live(Kind::Service, &name).is_some() { Verb::Modified } else { Verb::Added };
        let mut object = part(component, "", "");
        object["metadata"]["labels"].as_object_mut().unwrap().remove("strategy");
        object["metadata"]["annotations"] = match color {
            "none" => json!({EPOCH: epoch.to_string()}),
            "blue" => json!({EPOCH: epoch.to_string(), RELEASE_VERSION: "v1"}),
            _ => json!({EPOCH: epoch.to_string(), RELEASE_VERSION: "v2"}),
        };
        object["spec"] = json!({
            "clusterIP": "10.0.0.1", "selector": {"app": "m", "component": component, "strategy": color},
        });
        self.tell(Kind::Service, &name, verb, object)
    }

    fn fronts(&mut self, color: &str, epoch: i64) -> &mut Self {
        self.front("storage", color, epoch).front("schema", color, epoch)
    }

    fn color(&mut self, color: &str, verb: Verb) -> &mut Self {
        for component in COMPONENTS {
            let version = if color == "blue" { "v1" } else { "v2" };
            let object = part(component, color, version);
            self.tell(Kind::ConfigMap, &format!("m-{component}-config-{color}"), verb, object.clone());
            let mut service = object.clone();
            service["spec"] = json!({"selector": selector(component, color)});
            self.tell(Kind::Service, &format!("m-{component}-{color}"), verb, service);
            self.tell(Kind::Deployment, &format!("m-{component}-{color}"), verb, object);
        }
        self
    }

    fn endpoints(&mut self, colors: &[&str]) -> &mut Self {
        for component in COMPONENTS {
            let endpoint = |color: &&str| {
                json!({
                    "conditions": {"ready": true}, "targetRef": {"name": format!("m-{component}-{color}-x-y")},
                })
            };
            let object = json!({
                "metadata": {"labels": {"kubernetes.io/service-name": format!("m-{component}")}},
                "endpoints": colors.iter().map(endpoint).collect::<Vec<_>>(),
            });
            self.tell(Kind::EndpointSlice, &format!("m-{component}-slice"), Verb::Modified, object);
        }
        self
    }

    /// Returns the history up to the first active release.
    fn served() -> Self {
        let mut story = Self::default();
        story.owner("Deploying", "", 1).fronts("none", 0).color("blue", Verb::Added);
        story.owner("Switching", "", 2).fronts("blue", 2).endpoints(&["blue"]).owner("Stable", "blue", 2);
        story
    }

    /// Returns the history up to the switch to a second release: it has traffic, and both colors exist.
    fn switched() -> Self {
        let mut story = Self::served();
        story.owner("Deploying", "blue", 3).color("green", Verb::Added).owner("Switching", "blue", 4);
        story.fronts("green", 4).endpoints(&["green"]).owner("Watching", "green", 4);
        story
    }

    fn found(&self) -> Vec<String> {
        check(&self.history, &Waived::default()).iter().map(ToString::to_string).collect()
    }

    fn finds(&self, rule: &str) {
        let found = self.found();
        assert!(found.iter().any(|text| text.starts_with(rule)), "{rule} in {found:#?}");
    }

    /// The last state of an object, changed.
    fn changed(&mut self, kind: Kind, name: &str, pointer: &str, value: Value) -> &mut Self {
        let mut object = self.history.live(kind, name).unwrap().object.clone();
        *object.pointer_mut(pointer).unwrap() = value;
        self.tell(kind, name, Verb::Modified, object)
    }
}

fn selector(component: &str, color: &str) -> Value {
    json!({"app": "m", "component": component, "strategy": color})
}

fn rest(story: &Story) -> Vec<String> {
    at_rest(&story.history, &Waived::default()).iter().map(ToString::to_string).collect()
}

pub fn part(component: &str, color: &str, version: &str) -> Value {
    json!({
        "metadata": {
            "uid": format!("{component}-{color}"),
            "generation": 1,
            "labels": {
                "app": "m", "component": component, "strategy": color, "app.kubernetes.io/managed-by": "e6-operator",
            },
            "annotations": {RELEASE_VERSION: version, EPOCH: "1"},
            "ownerReferences": [{"uid": "u", "controller": true}],
        },
        "data": {"tag": version},
        "spec": {
            "replicas": 1, "template": {"tag": version}, "selector": {"matchLabels": selector(component, color)},
        },
        "status": {
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        },
    })
}

#[test]
fn a_good_history_has_no_violation() {
    let mut story = Story::switched();
    story.owner("Prune", "green", 4).color("blue", Verb::Deleted).owner("Stable", "green", 4);
    assert_eq!(story.found(), Vec::<String>::new());
    assert_eq!(rest(&story), Vec::<String>::new());
}

#[test]
fn a_front_service_must_select_an_existing_deployment() {
    let mut story = Story::served();
    story.front("storage", "green", 3).finds("I1: m-storage selects green, which has no Deployment");
    let mut story = Story::served();
    let mut dying = part("schema", "blue", "v1");
    dying["metadata"]["deletionTimestamp"] = json!("now");
    story
        .tell(Kind::Deployment, "m-schema-blue", Verb::Modified, dying)
        .finds("I1: m-schema selects blue, whose");
    let mut story = Story::served();
    let mut other = part("schema", "blue", "v1");
    other["metadata"]["annotations"][RELEASE_VERSION] = json!("v9");
    story
        .tell(Kind::Deployment, "m-schema-blue", Verb::Modified, other)
        .finds("I1: m-schema says v1 on blue");
}

#[test]
fn nothing_changes_while_the_front_services_differ() {
    let mut story = Story::served();
    story.owner("Deploying", "blue", 3).color("green", Verb::Added).owner("Switching", "blue", 4);
    story.front("storage", "green", 4);
    assert_eq!(story.found(), Vec::<String>::new());
    story.tell(Kind::ConfigMap, "m-extra", Verb::Added, part("storage", "green", "v2"));
    story.finds("I4: ConfigMap m-extra is created");
}

#[test]
fn a_create_may_land_between_two_epochs_and_a_delete_may_not() {
    let half_stamped = || {
        let mut story = Story::served();
        story.owner("Prune", "blue", 4).front("storage", "blue", 4);
        story.tell(Kind::ConfigMap, "m-extra", Verb::Added, part("storage", "green", "v2"));
        story
    };
    assert_eq!(half_stamped().found(), Vec::<String>::new());
    let mut story = half_stamped();
    story.tell(Kind::ConfigMap, "m-extra", Verb::Deleted, part("storage", "green", "v2"));
    story.finds("I4: ConfigMap m-extra is deleted");
}

#[test]
fn a_front_service_carries_the_decision_of_a_status() {
    let mut story = Story::served();
    story.owner("Deploying", "blue", 3).color("green", Verb::Added);
    let mut early = Story { history: story.history.clone(), count: story.count };
    early.fronts("green", 4).owner("Switching", "blue", 4).finds("I4: m-storage goes from");
    story.owner("Switching", "blue", 4);
    let mut other = Story { history: story.history.clone(), count: story.count };
    other.front("storage", "blue", 4).finds("I4: m-storage goes from");
    // An operator that lost its lease writes an older decision.
    story.front("storage", "blue", 3);
    assert_eq!(story.found(), Vec::<String>::new());
}

#[test]
fn a_front_service_switches_by_decisions_only_and_keeps_its_identity() {
    let mut story = Story::switched();
    story.front("storage", "blue", 4).finds("I5: m-storage goes from");
    let mut story = Story::switched();
    story.front("storage", "blue", 3).finds("I13: the epoch of m-storage falls");
    let mut story = Story::served();
    let mut moved = story.history.live(Kind::Service, "m-storage").unwrap().object.clone();
    moved["spec"]["clusterIP"] = json!("10.0.0.2");
    story.tell(Kind::Service, "m-storage", Verb::Modified, moved).finds("I8");
}

#[test]
fn colors_are_deleted_in_prune_and_after_proof() {
    let mut story = Story::switched();
    story
        .color("blue", Verb::Deleted)
        .finds("I9: ConfigMap m-storage-config-blue is deleted in \"Watching\"");
    let mut story = Story::switched();
    story
        .owner("Prune", "green", 4)
        .color("green", Verb::Deleted)
        .finds("I9: ConfigMap m-storage-config-green is deleted while the fronts say");
    let mut story = Story::switched();
    story
        .owner("Prune", "green", 5)
        .color("blue", Verb::Deleted)
        .finds("I9: ConfigMap m-storage-config-blue is");
    let mut story = Story::switched();
    story.endpoints(&["green", "blue"]).owner("Prune", "green", 4).color("blue", Verb::Deleted);
    story.finds("I9: m-storage-blue is deleted while storage has endpoints");
    let mut story = Story::served();
    story.owner("Deploying", "blue", 3).color("green", Verb::Added).owner("Switching", "blue", 4);
    story.endpoints(&["green"]).owner("Watching", "green", 4).owner("Prune", "green", 4).fronts("green", 4);
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Deleted, part("storage", "blue", "v1"));
    story.finds("I9: m-storage-blue is deleted 1.0 s after");
}

#[test]
fn steps_and_release_history_are_checked() {
    let mut story = Story::served();
    story.owner("Watching", "blue", 2).finds("I12: \"Stable\" to \"Watching\"");
    let mut story = Story::served();
    story.owner("Deploying", "blue", 1).finds("I13: the epoch falls from 2 to 1");
    let mut story = Story::switched();
    story.owner("Prune", "green", 4).owner("Stable", "blue", 4).finds("I16");
    let mut story = Story::served();
    let mut twice = story.history.live(Kind::MetadataServices, "m").unwrap().object.clone();
    twice["status"]["releaseHistory"] =
        json!([{"version": "v1", "status": "Active"}, {"version": "v1", "status": "Active"}]);
    story.tell(Kind::MetadataServices, "m", Verb::Modified, twice).finds("I14");
    story.finds("I15: 2 Active");
}

#[test]
fn objects_have_an_owner_and_do_not_change() {
    let mut story = Story::served();
    let mut orphan = part("storage", "green", "v2");
    orphan["metadata"]["ownerReferences"] = json!([]);
    story.tell(Kind::ConfigMap, "m-storage-config-green", Verb::Added, orphan).finds("I32");
    let mut story = Story::served();
    let mut edited = part("storage", "blue", "v1");
    edited["spec"]["template"]["tag"] = json!("v3");
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Modified, edited).finds("I11");
    let mut story = Story::switched();
    story.owner("Stable", "green", 4);
    let left = rest(&story);
    assert!(left.iter().any(|text| text == "I33: Deployment m-schema-blue is left over"), "{left:#?}");
}

#[test]
fn traffic_goes_to_what_was_complete_and_has_not_failed() {
    let mut story = Story::served();
    story.owner("Deploying", "blue", 3).color("green", Verb::Added).owner("Switching", "blue", 4);
    let mut young = Story::served();
    young.owner("Deploying", "blue", 3);
    for component in COMPONENTS {
        let mut object = part(component, "green", "v2");
        object["status"] = json!({});
        young.tell(Kind::Deployment, &format!("m-{component}-green"), Verb::Added, object);
    }
    young.owner("Switching", "blue", 4).fronts("green", 4).finds("I2: m-storage goes to");
    let failed = json!([{"version": "v2", "status": "Failed"}, {"version": "v1", "status": "Active"}]);
    story.changed(Kind::MetadataServices, "m", "/status/releaseHistory", failed);
    story.fronts("green", 4).finds("I3: m-storage goes to");
    let mut story = Story::switched();
    story.owner("Prune", "green", 4).fronts("blue", 5).finds("I10: m-storage goes from");
    let mut story = Story::switched();
    story.owner("RollingBack", "blue", 5).fronts("blue", 5).owner("Switching", "blue", 6).fronts("green", 6);
    story.finds("I5: m-storage changes its selector 3 times");
}

#[test]
fn an_externally_changed_front_service_is_restored_in_time() {
    let mut story = Story::served();
    story.front("storage", "green", 3);
    let waived = Waived { objects: vec!["m-storage".into()], ..Waived::default() };
    let mut late = Story { history: story.history.clone(), count: story.count };
    story.front("storage", "blue", 4);
    let found = check(&story.history, &waived);
    assert_eq!(found, [], "in a second");
    late.count += 6;
    late.front("storage", "blue", 4);
    let found: Vec<String> = check(&late.history, &waived).iter().map(ToString::to_string).collect();
    assert!(
        found[0].starts_with("I1: m-storage selected a color without a Deployment for 7.0 s"),
        "{found:#?}"
    );
}

#[test]
fn objects_of_a_deleted_resource_do_not_count_for_the_next() {
    let mut story = Story::served();
    let owner = story.history.live(Kind::MetadataServices, "m").unwrap().object.clone();
    let front = story.history.live(Kind::Service, "m-storage").unwrap().object.clone();
    story.tell(Kind::MetadataServices, "m", Verb::Deleted, owner.clone()).color("blue", Verb::Deleted);
    // The garbage collector takes its time.
    story.count += 9;
    story.tell(Kind::Service, "m-storage", Verb::Deleted, front.clone());
    let (mut owner, mut front) = (owner, front);
    owner["metadata"]["uid"] = json!("u2");
    owner["status"] = json!({});
    front["metadata"]["uid"] = json!("new");
    front["metadata"]["ownerReferences"][0]["uid"] = json!("u2");
    front["spec"]["selector"]["strategy"] = json!("none");
    story.tell(Kind::MetadataServices, "m", Verb::Added, owner);
    story.tell(Kind::Service, "m-storage", Verb::Added, front);
    let found = story.found();
    assert!(!found.iter().any(|text| text.starts_with("I1:")), "{found:#?}");
}

#[test]
fn the_status_is_checked() {
    let mut story = Story::served();
    let pending = json!([{"version": "v2", "status": "Pending"}, {"version": "v1", "status": "Active"}]);
    story.changed(Kind::MetadataServices, "m", "/status/releaseHistory", pending.clone());
    story.finds("I18: [\"v2\"] Pending in Stable");
    let mut story = Story::switched();
    let failed = json!([{"version": "v1", "status": "Active"}, {"version": "v2", "status": "Failed"}]);
    story.changed(Kind::MetadataServices, "m", "/status/releaseHistory", failed);
    story.changed(Kind::MetadataServices, "m", "/status/releaseHistory", pending);
    story.finds("I18: [\"v2\"] failed, and is Pending again unasked");
    let mut story = Story::served();
    story.changed(Kind::MetadataServices, "m", "/status/releaseHistory", json!([]));
    story.finds("I17: dropped [\"v1\"]");
    let mut story = Story::served();
    story.changed(Kind::MetadataServices, "m", "/status/observedGeneration", json!(2)).finds("I19");
    let mut story = Story::served();
    story
        .changed(Kind::MetadataServices, "m", "/status/activeStrategy", json!("x".repeat(17_000)))
        .finds("I20");
}

#[test]
fn a_failure_is_marked_at_the_end_of_prune() {
    let of = |outcome: Value| {
        let mut story = Story::served();
        let mut record = part("", "", "v2");
        record["metadata"]["annotations"]["e6data.io/outcome"] = outcome;
        story
            .tell(Kind::ControllerRevision, "m-2", Verb::Added, record)
            .owner("Prune", "blue", 3)
            .fronts("blue", 3);
        let failed = json!([{"version": "v2", "status": "Failed"}, {"version": "v1", "status": "Active"}]);
        story.changed(Kind::MetadataServices, "m", "/status/releaseHistory", failed.clone());
        let mut rest = story.history.live(Kind::MetadataServices, "m").unwrap().object.clone();
        rest["status"]["rollout"]["step"] = json!("Stable");
        story.tell(Kind::MetadataServices, "m", Verb::Modified, rest);
        story
    };
    assert_eq!(of(json!("Failed")).found(), Vec::<String>::new());
    of(Value::Null).finds("I18: [\"v2\"] failed, and the records do not say so");
}

/// A delayed write may arrive after the deletion within its delay, and no later.
#[test]
fn a_write_is_late_within_its_delay_only() {
    let mut story = Story::served();
    let mut owner = story.history.live(Kind::MetadataServices, "m").unwrap().object.clone();
    owner["metadata"]["deletionTimestamp"] = json!("now");
    story.tell(Kind::MetadataServices, "m", Verb::Modified, owner);
    let mut gone = Story { history: story.history.clone(), count: story.count };
    gone.tell(Kind::MetadataServices, "m", Verb::Deleted, json!({"metadata": {"uid": "u"}}));
    for mut story in [story, gone] {
        story.count += 3;
        story.tell(Kind::ConfigMap, "m-late", Verb::Added, part("storage", "green", "v2"));
        for (seconds, fine) in [(0, false), (3, false), (5, true)] {
            let waived = Waived { late_writes: Duration::from_secs(seconds), ..Waived::default() };
            let found = check(&story.history, &waived);
            assert_eq!(found.is_empty(), fine, "{seconds} s: {found:?}");
        }
    }
}

#[test]
fn objects_are_checked() {
    let mut story = Story::served();
    story.changed(Kind::Deployment, "m-storage-blue", "/spec/replicas", json!(0)).finds("I6: replicas of");
    story.changed(Kind::Deployment, "m-schema-blue", "/metadata/labels/strategy", json!(null));
    story.finds("I7: Deployment");
    story.changed(Kind::Service, "m-schema-blue", "/spec/selector", json!({"app": "m"})).finds("I7: Service");
    let front = story.history.live(Kind::Service, "m-storage").unwrap().object.clone();
    story.tell(Kind::Service, "m-storage", Verb::Deleted, front).finds("I8: the front m-storage is deleted");
    let mut story = Story::served();
    let mut owner = story.history.live(Kind::MetadataServices, "m").unwrap().object.clone();
    owner["metadata"]["deletionTimestamp"] = json!("now");
    story.tell(Kind::MetadataServices, "m", Verb::Modified, owner).color("green", Verb::Added);
    story.finds("I28: ConfigMap m-storage-config-green");
    let mut story = Story::served();
    let mut theirs = part("storage", "green", "v2");
    theirs["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("helm");
    theirs["metadata"]["ownerReferences"] = json!([]);
    story.tell(Kind::ConfigMap, "m-storage-config-green", Verb::Added, theirs);
    story.tell(Kind::ConfigMap, "m-storage-config-green", Verb::Modified, part("storage", "green", "v2"));
    story.finds("I32: ConfigMap m-storage-config-green is taken");
}

#[test]
fn accounts_and_budgets_are_as_asked_for() {
    let (mut story, budget) = (Story::served(), Kind::PodDisruptionBudget);
    let missing = |what| format!("I33: {what} is missing");
    let enabled = json!({"podDisruptionBudget": {"enabled": true}});
    let spec = json!({"serviceAccount": {"create": true}, "storage": enabled});
    story.changed(Kind::MetadataServices, "m", "/spec", spec);
    assert_eq!(rest(&story), ["ServiceAccount m", "PodDisruptionBudget m-storage"].map(missing));
    let mut object = part("storage", "blue", "v1");
    object["metadata"]["labels"].as_object_mut().unwrap().remove("strategy");
    story.tell(Kind::ServiceAccount, "m", Verb::Added, object.clone());
    story.tell(budget, "m-storage", Verb::Added, object.clone());
    assert_eq!((rest(&story), story.found()), (vec![], vec![]));
    story.tell(budget, "m-schema", Verb::Added, object.clone());
    story.tell(Kind::ServiceAccount, "old", Verb::Added, object);
    story.changed(budget, "m-storage", "/spec/selector/matchLabels/strategy", json!("green"));
    let wrong = ["I33: ServiceAccount old is left over", "I33: PodDisruptionBudget m-schema is left over"];
    assert_eq!(rest(&story), [wrong[0], wrong[1], "I33: m-storage does not select what serves"]);
    let mut record = story.history.live(budget, "m-schema").unwrap().object.clone();
    record["data"] = json!({"template": {"serviceAccount": {"create": true, "name": "old"}}});
    story.tell(Kind::ControllerRevision, "m-x", Verb::Added, record);
    assert_eq!(rest(&story)[0], wrong[1], "a rollback would need the account");
    story.changed(budget, "m-storage", "/spec/selector/matchLabels", json!({"app": "m"}));
    story.finds("I7: PodDisruptionBudget");
}

/// A test of this file violates each invariant, so that no check is without effect.
#[test]
fn every_invariant_is_violated_by_a_test() {
    let tests = include_str!("tests.rs");
    let broken = |name: &str| ["\"", ":"].iter().any(|end| tests.contains(&format!("finds(\"{name}{end}")));
    let missing: Vec<_> = INVARIANTS.iter().filter(|one| !broken(one.name)).collect();
    assert!(missing.is_empty(), "no test violates {missing:?}");
}
