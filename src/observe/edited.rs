//! Objects are input. Another client may write any value into the objects of a resource: the operator does not panic, does
//! not write to foreign objects, and restores no release from a ControllerRevision that does not contain it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Resource;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ownership::{Ownership, ownership};
use super::resource::{ObservedResource, Snapshot};
use super::views::{Meta, RevisionView};
use super::{Settings, observe};
use crate::resources::deployment::InPlace;
use crate::resources::{Defaults, Release, config_map, controller_revision, deployment, service};
use api::MetadataServices;
use api::names::{self, Color, Component, Owner, PerComponent};
use api::template::ReleaseTemplate;
use rollout::facts::ObjectId;
use rollout::{Action, Effect, plan};
use simulator::arbitrary::{Edit, change, edit, json_of};

/// Values that occur in the objects of a resource.
const WORDS: [&str; 20] = [
    "a",
    "v1",
    "v2",
    "u1",
    "u2",
    "blue",
    "green",
    "none",
    "storage",
    "schema",
    "True",
    "False",
    "Failed",
    "e6-operator",
    "e6data.io/epoch",
    "e6data.io/release-version",
    "9223372036854775807",
    "-1",
    "",
    "2026-09-21T14:13:20Z",
];

fn owner() -> Owner {
    Owner { name: "a".into(), namespace: "n".into(), uid: "u1".into() }
}

fn defaults() -> Defaults {
    Defaults { image_repository: "registry.example/e6".into(), sleep_action: true }
}

fn template(tag: &str) -> ReleaseTemplate {
    let mut spec: Value = serde_json::from_str(include_str!("../../tests/data/full-spec.json")).unwrap();
    spec["storage"]["imageTag"] = json!(tag);
    ReleaseTemplate::from_value(&spec).unwrap()
}

fn record(version: &str) -> Value {
    let record =
        controller_revision::controller_revision(&owner(), &template(version), &defaults(), version, 1, None);
    serde_json::to_value(record).unwrap()
}

/// The objects of a resource with the active release `v1` on blue and `v2` on green, as the API server sends them.
fn objects() -> Vec<Value> {
    let owner = owner();
    let mut all = vec![record("v1"), record("v2")];
    for component in Component::ALL {
        let stamp = service::Stamp {
            color: Some(Color::Blue),
            version: Some("v1".into()),
            epoch: 2,
            switched_at: Some("2026-09-21T14:13:20Z".into()),
        };
        all.push(json!(service::front(&owner, component, &service_spec(), &stamp)));
        for (color, version) in [(Color::Blue, "v1"), (Color::Green, "v2")] {
            let template = template(version);
            let release = Release {
                owner: &owner,
                template: &template,
                color,
                version,
                hash: &template.hash(),
                epoch: 3,
                defaults: &defaults(),
            };
            let settings = InPlace::of(template.component(component));
            let mut deployment = json!(deployment::deployment(&release, component, &settings).unwrap());
            deployment["status"] = json!({"observedGeneration": 1, "replicas": 1, "readyReplicas": 1,
                "updatedReplicas": 1, "availableReplicas": 1, "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"}]});
            let pod = format!("{}-0", names::workload(&owner.name, component, color));
            all.push(pod_of(&pod, &deployment));
            all.push(slice(&pod, component));
            all.extend([deployment, json!(service::color(&release, component))]);
            all.push(json!(config_map::config_map(&release, component)));
        }
    }
    for object in &mut all {
        let place = object["metadata"].as_object_mut().unwrap();
        place.insert("resourceVersion".into(), json!("7"));
        place.insert("uid".into(), json!("u9"));
        place.insert("generation".into(), json!(1));
        place.insert("creationTimestamp".into(), json!("2026-09-21T14:13:20Z"));
    }
    all
}

fn service_spec() -> api::component::ServiceSpec {
    api::component::ServiceSpec::default()
}

fn pod_of(name: &str, deployment: &Value) -> Value {
    let template = &deployment["spec"]["template"]["metadata"];
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "n", "labels": template["labels"],
        "annotations": template["annotations"], "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": name, "uid": "u3", "controller": true}]},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-09-21T14:13:20Z"}],
        "containerStatuses": [{"name": "storage", "restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "m"}}}]}})
}

fn slice(pod: &str, component: Component) -> Value {
    json!({"kind": "EndpointSlice", "metadata": {"name": format!("s-{pod}"), "namespace": "n",
        "labels": {"app": "a", "kubernetes.io/service-name": names::front("a", component)}},
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod}}]})
}

/// Decodes the objects of a kind and drops unreadable ones, whose list the client would refuse.
fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(objects: &[Value]) -> Vec<Arc<K>> {
    let of_kind = objects.iter().filter(|object| object["kind"] == json!(K::kind(&())));
    of_kind.filter_map(|object| serde_json::from_value(object.clone()).ok()).map(Arc::new).collect()
}

fn snapshot(objects: &[Value]) -> Snapshot {
    Snapshot {
        deployments: read(objects),
        services: read(objects),
        config_maps: read(objects),
        replica_sets: vec![],
        pods: read(objects),
        slices: read(objects),
        revisions: read(objects),
        accounts: vec![],
        budgets: vec![],
        predecessor: None,
    }
}

/// Returns whether the operator made or may adopt an object.
fn is_known<T: Meta>(object: &T) -> bool {
    matches!(ownership(object, &owner()), Ownership::Ours | Ownership::Adoptable)
}

/// Removes foreign objects, and objects without a stamp except front Services. Foreign Pods stay, since the facts report them.
fn without_foreign(snapshot: &Snapshot) -> Snapshot {
    fn ours<T: Meta>(objects: &[Arc<T>]) -> Vec<Arc<T>> {
        let is_front =
            |object: &T| Component::ALL.iter().any(|of| object.object_name() == names::front("a", *of));
        let keep = |object: &&Arc<T>| {
            is_known(object.as_ref())
                || (is_front(object) && ownership(object.as_ref(), &owner()) == Ownership::Unstamped)
        };
        objects.iter().filter(keep).cloned().collect()
    }
    Snapshot {
        deployments: ours(&snapshot.deployments),
        services: ours(&snapshot.services),
        config_maps: ours(&snapshot.config_maps),
        revisions: ours(&snapshot.revisions),
        ..snapshot.clone()
    }
}

/// Returns whether the object that an action changes exists and is not foreign.
fn is_ours(snapshot: &Snapshot, action: &Action) -> bool {
    fn has<T: Meta>(objects: &[Arc<T>], name: &str) -> bool {
        let found = objects.iter().find(|object| object.object_name() == name);
        found.is_some_and(|object| is_known(object.as_ref()))
    }
    let (Action::Delete(id) | Action::Adopt(id) | Action::RaiseEpoch(id, _)) = action else { return true };
    match id {
        ObjectId::Front(component) => has(&snapshot.services, &names::front("a", *component)),
        ObjectId::Deployment(component, color) => {
            has(&snapshot.deployments, &names::workload("a", *component, *color))
        }
        ObjectId::Service(component, color) => {
            has(&snapshot.services, &names::workload("a", *component, *color))
        }
        ObjectId::ConfigMap(component, color) => {
            has(&snapshot.config_maps, &names::config("a", *component, *color))
        }
        ObjectId::Revision(version) => has(&snapshot.revisions, &names::revision("a", version)),
        ObjectId::Extra(_) => false,
    }
}

fn resource(annotations: &Value, status: &Value) -> Option<MetadataServices> {
    let spec: Value = serde_json::from_str(include_str!("../../tests/data/full-spec.json")).unwrap();
    let metadata =
        json!({"name": "a", "namespace": "n", "uid": "u1", "generation": 1, "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).ok()
}

/// A status that matches [`objects`]: the release `v2` is pending.
fn status() -> Value {
    let record = |version: &str, status: &str, strategy: &str| {
        json!({"version": version, "hash": template(version).hash().as_str(), "strategy": strategy, "storageTag": version,
            "schemaTag": "1", "timestamp": "2026-09-21T14:13:20Z", "status": status,
            "activatedAt": "2026-09-21T14:13:20Z"})
    };
    json!({"activeStrategy": "blue", "activeReleaseVersion": "v1",
        "releaseHistory": [record("v1", "Active", "blue"), record("v2", "Pending", "green")],
        "rollout": {"step": "Deploying", "epoch": 3, "since": "2026-09-21T14:13:20Z",
            "target": {"strategy": "green", "version": "v2"}}})
}

fn edits() -> impl Strategy<Value = Vec<(Index, (Index, Edit))>> {
    prop::collection::vec((any::<Index>(), edit(&WORDS)), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any content of objects, annotations and status, foreign objects change no decision and receive no write.
    #[test]
    fn edited_objects_are_survived_and_those_of_others_count_for_nothing(
        edits in edits(), of_status in prop::collection::vec(edit(&WORDS), 0..2),
        annotations in prop::collection::btree_map(
            prop::sample::select(vec![names::ROLLBACK_TO, names::RETRY, names::RESTART]), "v[12]|\\PC{0,12}", 0..3),
    ) {
        let mut all = objects();
        for (which, edit) in &edits {
            let which = which.index(all.len());
            change(&mut all[which], edit, |path| path != "/kind");
        }
        let mut status = status();
        for edit in &of_status {
            change(&mut status, edit, |_| true);
        }
        let resource = resource(&json!(annotations), &status);
        prop_assume!(resource.is_some());
        let resource = resource.unwrap();
        let snapshot = snapshot(&all);
        let settings = Settings { defaults: defaults(), minimum: PerComponent::default() };
        let observe = |snapshot| observe(&ObservedResource::new(&resource, snapshot), vec![], None, &settings);
        let (intent, seen) = observe(&snapshot);
        prop_assert_eq!(&observe(&without_foreign(&snapshot)).1, &seen);
        let now = "2026-09-21T14:20:00Z".parse().unwrap();
        if let Effect::Write(groups) = plan(&intent, resource.status.as_ref(), &seen, now).effect {
            for action in groups.iter().flatten() {
                prop_assert!(is_ours(&snapshot, action), "{action:?}");
            }
        }
    }

    /// An edited ControllerRevision still contains its release or names its defect; it never counts as another release.
    #[test]
    fn an_edited_record_is_itself_or_none(edits in prop::collection::vec(edit(&WORDS), 1..4)) {
        let mut object = record("v1");
        for edit in &edits {
            change(&mut object, edit, |path| path != "/metadata/name");
        }
        let view = serde_json::from_value::<RevisionView>(object.clone());
        prop_assume!(view.is_ok());
        let view = view.unwrap();
        prop_assert!(view.version.as_deref().is_none_or(|version| version == "v1"), "{:?}", view.version);
        prop_assert_eq!(view.flaw.is_some(), view.template.is_none());
        prop_assert_eq!(view.flaw.is_some(), view.hash.is_empty());
        if let Some(read) = view.template {
            prop_assert_eq!(view.version.as_deref(), Some("v1"));
            prop_assert_eq!(&*read, &template("v1"), "{}", object);
            prop_assert_eq!(view.hash, template("v1").hash().to_string());
        }
    }

    #[test]
    fn any_data_is_no_record(data in json_of(&WORDS)) {
        let mut object = record("v1");
        object["data"] = data;
        let object: ControllerRevision = serde_json::from_value(object).unwrap();
        prop_assert!(controller_revision::read(&object).is_err());
    }
}

/// A copy of a ControllerRevision under another name still names its release.
#[test]
fn a_copied_record_is_refused_with_a_message() {
    let mut object = record("v1");
    object["data"] = record("v2")["data"].clone();
    let view: RevisionView = serde_json::from_value(object).unwrap();
    assert_eq!(view.version.as_deref(), Some("v1"));
    assert_eq!(view.flaw.as_deref(), Some("it is a copy of the ControllerRevision of v2"));
    let mut object = record("v1");
    object["data"]["template"]["storage"]["imageTag"] = json!("evil");
    let view: RevisionView = serde_json::from_value(object).unwrap();
    assert!(view.flaw.is_some_and(|flaw| flaw.contains("was edited")) && view.template.is_none());
}

/// The name of a ControllerRevision identifies its release, also if an annotation names another one.
#[test]
fn a_record_with_another_annotation_stays_the_record_that_its_name_says() {
    let mut object = record("v1");
    object["metadata"]["annotations"][names::RELEASE_VERSION] = json!("v2");
    let view: RevisionView = serde_json::from_value(object).unwrap();
    assert_eq!((view.version.as_deref(), view.flaw), (Some("v1"), None));
}
