//! External changes: deleted objects, changed labels, selectors and templates, occupied names.

mod unusual_objects;

use std::time::{Duration, Instant};

use api::names::revision;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, invariants, pace};

use crate::SUITE;
use crate::demo::{pods, selected};
use testbed::harness::{TestEnv, case, together};

#[test]
fn externally_deleted_objects_are_created_again() {
    let serving = [
        (Kind::Deployment, "a-storage-blue"),
        (Kind::Service, "a-schema-blue"),
        (Kind::ConfigMap, "a-storage-config-blue"),
        (Kind::Service, "a-storage"),
    ];
    let pending = [
        (Kind::Deployment, "a-schema-green"),
        (Kind::Service, "a-storage-green"),
        (Kind::ConfigMap, "a-schema-config-green"),
    ];
    let mut cases: Vec<_> =
        serving.map(|(kind, name)| case(name, move || deleted_serving(kind, name))).into();
    cases.extend(pending.map(|(kind, name)| case(name, move || deleted_pending(kind, name))));
    together(cases);
}

/// Waits until the object exists again with another UID.
async fn made_again(env: &TestEnv, kind: Kind, name: &str, uid: &str) {
    let again = |history: &History| {
        let live = history.live(kind, name)?;
        (live.text("/metadata/uid") != uid && live.get("/metadata/deletionTimestamp").is_none()).then_some(())
    };
    env.wait(&format!("{name} to be made again"), again).await;
}

async fn deleted_serving(kind: Kind, name: &'static str) {
    let mut env = SUITE.env("hand-serving").await;
    env.waived.objects = vec![name.to_owned()];
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    let before = env.history().await.live(kind, name).unwrap().object.clone();
    env.delete(kind, name).await;
    made_again(&env, kind, name, before["metadata"]["uid"].as_str().unwrap()).await;
    let entry = env.stable(&subject).await;
    assert_eq!((State(&entry).active(), State(&entry).color()), (version.as_str(), "blue"));
    let after = env.history().await.live(kind, name).unwrap().object.clone();
    for part in ["/spec/template", "/spec/selector", "/data", "/spec/ports"] {
        assert_eq!(after.pointer(part), before.pointer(part), "{part} is what it was");
    }
    env.finish().await;
}

/// Longer than the operator's reconcile after its own write.
const QUIET: Duration = Duration::from_secs(4);

/// Another client removes or changes a label by which the operator finds objects. The operator restores it, and
/// replaces no object.
#[tokio::test]
async fn a_removed_label_is_restored() {
    let mut env = SUITE.env("hand-label").await;
    let names = [
        (Kind::Deployment, "a-storage-blue"),
        (Kind::Service, "a-schema"),
        (Kind::ConfigMap, "a-schema-config-blue"),
    ];
    env.waived.objects = names.iter().map(|(_, name)| (*name).to_owned()).collect();
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    for (kind, name) in names {
        let uid = env.history().await.live(kind, name).unwrap().text("/metadata/uid").to_owned();
        for damage in
            [json!({"app.kubernetes.io/managed-by": null}), json!({"app": "other"}), json!({"app": null})]
        {
            // The change itself must trigger the reconcile, not an earlier write of the operator.
            tokio::time::sleep(QUIET).await;
            env.patch(kind, name, &json!({"metadata": {"labels": damage}})).await;
            let since = env.objects(kind).get(name).await.unwrap().metadata.resource_version.unwrap();
            let since: u64 = since.parse().unwrap();
            let healed = |history: &History| {
                let now = history.live(kind, name)?;
                let whole =
                    now.label("app") == Some("a") && now.label("app.kubernetes.io/managed-by").is_some();
                (whole && now.resource_version >= since).then(|| now.text("/metadata/uid").to_owned())
            };
            assert_eq!(env.wait(&format!("{damage} of {name} to be mended"), healed).await, uid);
        }
    }
    let entry = env.stable(&subject).await;
    assert_eq!((State(&entry).active(), State(&entry).records().len()), (version.as_str(), 1));
    env.finish().await;
}

async fn deleted_pending(kind: Kind, name: &'static str) {
    let mut env = SUITE.env("hand-pending").await;
    env.waived.objects = vec![name.to_owned()];
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2-slow", "2-slow").await.unwrap();
    let there = |history: &History| history.live(kind, name).map(|one| one.text("/metadata/uid").to_owned());
    let uid = env.wait(name, there).await;
    env.wait("the pending pods", |history| (pods(history, "a", "green").len() == 2).then_some(())).await;
    env.delete(kind, name).await;
    made_again(&env, kind, name, &uid).await;
    env.serves(&subject, "2-slow").await;
    env.finish().await;
}

#[tokio::test]
async fn a_changed_selector_is_restored_within_seconds() {
    let mut env = SUITE.env("hand-selector").await;
    env.waived.objects = vec!["a-storage".to_owned()];
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    let before = pods(&env.history().await, "a", "blue");
    let whole = json!({"app": "a", "component": "storage", "strategy": "blue"});
    for damage in [
        json!({"strategy": "green"}),
        json!({"strategy": "none"}),
        json!({"extra": "key"}),
        json!({"strategy": null}),
        json!({"app": "other"}),
    ] {
        let start = Instant::now();
        env.patch(Kind::Service, "a-storage", &json!({"spec": {"selector": damage}})).await;
        let damaged = |history: &History| {
            let mut states = history.of(Kind::Service, "a-storage").rev();
            let wrong = |selector: Option<&Value>| selector != Some(&whole);
            let mended = states.next().filter(|one| !wrong(one.get("/spec/selector")))?;
            let damaged = states.next().filter(|one| wrong(one.get("/spec/selector")))?;
            Some(mended.at.saturating_sub(damaged.at))
        };
        let took = env.wait(&format!("{damage} to be mended"), damaged).await;
        let limit = Duration::from_secs(5).mul_f64(pace::slower(pace::lateness(start)));
        assert!(took < limit, "{damage}: {took:?}");
        env.stable(&subject).await;
    }
    let history = env.history().await;
    assert_eq!(subject.state(&history).unwrap().active(), version);
    assert_eq!(pods(&history, "a", "blue"), before);
    env.finish().await;
}

/// An object of another client, with a name that the operator needs.
fn foreign(kind: Kind, name: &str) -> Value {
    let labels = json!({"app": "theirs"});
    let mut object = json!({"metadata": {"name": name, "labels": labels}});
    let spec = match kind {
        Kind::ConfigMap => json!({"data": {"theirs": "yes"}}),
        Kind::Service => json!({"spec": {"selector": labels, "ports": [{"port": 80}]}}),
        Kind::ControllerRevision => json!({"revision": 1, "data": {"theirs": "yes"}}),
        _ => json!({"spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "theirs"}]},
        }}}),
    };
    merge(&mut object, &spec);
    object
}

#[test]
fn an_object_in_the_way_is_named_and_never_touched() {
    let all = [
        (Kind::Service, "a-storage"),
        (Kind::Service, "a-schema"),
        (Kind::Service, "a-storage-blue"),
        (Kind::Service, "a-schema-green"),
        (Kind::ConfigMap, "a-storage-config-blue"),
        (Kind::ConfigMap, "a-schema-config-green"),
        (Kind::Deployment, "a-schema-blue"),
        (Kind::Deployment, "a-storage-green"),
    ];
    together(all.map(|(kind, name)| case(name, move || in_the_way(kind, name))).into());
}

async fn in_the_way(kind: Kind, name: &'static str) {
    let mut env = SUITE.env("taken").await;
    env.waived.objects = vec![name.to_owned()];
    env.create(kind, foreign(kind, name)).await;
    let before = env.history().await.live(kind, name).unwrap().object.clone();
    let subject = env.subject("a");
    subject.create(&quick("1", "1")).await.unwrap();
    let second = name.ends_with("green");
    if second {
        env.stable(&subject).await;
        subject.upgrade("2", "2").await.unwrap();
    }
    let told = |state: State<'_>| {
        state.condition("Stalled", "reason") == "NameTaken"
            && state.condition("Stalled", "message").contains(name)
    };
    env.until(&subject, "the condition to name it", told).await;
    env.event("a", "Warning", "NameTaken", name).await;
    env.linger(2).await;
    let history = env.history().await;
    for part in ["spec", "data", "metadata"] {
        let now = &history.live(kind, name).unwrap().object;
        let same = part == "metadata" || now[part] == before[part];
        assert!(
            same && now["metadata"]["labels"] == before["metadata"]["labels"],
            "{part} of {name} was changed"
        );
        assert!(now["metadata"].get("ownerReferences").is_none());
    }
    if second {
        assert_eq!(selected(&history, "a", "storage"), ["none", "blue"]);
        assert_eq!(subject.state(&history).unwrap().condition("Ready", "status"), "True");
    }
    env.delete(kind, name).await;
    env.serves(&subject, if second { "2" } else { "1" }).await;
    env.finish().await;
}

/// Names of optional objects, and of objects that the operator needs only at the end of the grace period.
#[test]
fn a_revision_account_or_budget_in_the_way_is_named_and_never_touched() {
    let account = json!({"serviceAccount": {"create": true}});
    let budget = json!({"storage": {"podDisruptionBudget": {"enabled": true}}});
    let record = json!({"releaseVersion": "one"});
    let kinds = [
        ("ServiceAccount", "v1", "a".to_owned(), account),
        ("PodDisruptionBudget", "policy/v1", "a-storage".to_owned(), budget),
        ("ControllerRevision", "apps/v1", revision("a", "one"), record),
    ];
    let cases = kinds.into_iter().flat_map(|(kind, version, name, change)| {
        // Once without labels, and once with the operator's labels under another controller.
        [false, true].map(|disguised| {
            let (name, change) = (name.clone(), change.clone());
            case(kind, move || beside_in_the_way(kind, version, name, change, disguised))
        })
    });
    together(cases.collect());
}

async fn beside_in_the_way(kind: &str, version: &str, name: String, change: Value, disguised: bool) {
    let mut env = SUITE.env("beside").await;
    env.waived.objects = vec![name.clone()];
    env.waived.records = true;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(env.client.clone(), &env.namespace, &resource);
    let mut theirs = beside(kind, &name);
    if disguised {
        merge(&mut theirs, &disguise(&env).await);
    }
    let theirs: DynamicObject = serde_json::from_value(theirs).unwrap();
    let before = api.create(&PostParams::default(), &theirs).await.unwrap();
    let subject = env.subject("a");
    let mut spec = quick("1", "1");
    merge(&mut spec, &change);
    subject.create(&spec).await.unwrap();
    let told = |state: State<'_>| {
        state.condition("Stalled", "reason") == "NameTaken"
            && state.condition("Stalled", "message").contains(&format!("{kind} {name}"))
    };
    env.until(&subject, "the condition to name it", told).await;
    env.event("a", "Warning", "NameTaken", &name).await;
    env.linger(2).await;
    let now = api.get(&name).await.unwrap();
    assert_eq!(now.metadata.owner_references, before.metadata.owner_references);
    assert_eq!(now.metadata.annotations, before.metadata.annotations);
    for part in ["spec", "data", "revision"] {
        assert_eq!(now.data.get(part), before.data.get(part), "{part} of {name}");
    }
    api.delete(&name, &DeleteParams::background()).await.unwrap();
    env.serves(&subject, "1").await;
    env.finish().await;
}

fn beside(kind: &str, name: &str) -> Value {
    let mut object = json!({"metadata": {"name": name, "labels": {"app": "theirs"}}});
    match kind {
        "PodDisruptionBudget" => {
            object["spec"] = json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "theirs"}}});
        }
        "ControllerRevision" => merge(&mut object, &json!({"revision": 7, "data": {"theirs": "yes"}})),
        _ => {}
    }
    object
}

/// The operator's labels on an object with another controller.
async fn disguise(env: &TestEnv) -> Value {
    let controller = json!({"metadata": {"name": "their-controller"}});
    env.create(Kind::ConfigMap, controller).await;
    let uid = env.objects(Kind::ConfigMap).get("their-controller").await.unwrap().metadata.uid;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "their-controller", "uid": uid, "controller": true});
    let labels = json!({"app": "a", "component": "storage", "app.kubernetes.io/managed-by": "e6-operator"});
    json!({"metadata": {"labels": labels, "ownerReferences": [owner]}})
}

#[tokio::test]
async fn two_resources_in_a_namespace_are_apart() {
    let env = SUITE.env("two").await;
    let (one, _) = env.deploy("a", &quick("1", "1")).await;
    // The name of one resource starts with the name of the other and a component.
    let (two, _) = env.deploy("a-storage", &quick("5", "5")).await;
    let before = pods(&env.history().await, "a-storage", "blue");
    one.upgrade("2", "2").await.unwrap();
    env.serves(&one, "2").await;
    let history = env.history().await;
    assert_eq!(pods(&history, "a-storage", "blue"), before);
    one.delete().await.unwrap();
    let gone = |history: &History| pods(history, "a", "green").is_empty().then_some(());
    env.wait("the first resource's pods to go", gone).await;
    env.linger(2).await;
    let entry = env.stable(&two).await;
    assert_eq!(State(&entry).condition("Ready", "status"), "True");
    assert_eq!(pods(&env.history().await, "a-storage", "blue"), before);
    env.finish().await;
}

#[tokio::test]
async fn one_name_in_two_namespaces_is_two_resources() {
    let far = SUITE.idle_env("far", &[]).await;
    let mut env = SUITE.idle_env("near", &[]).await;
    env.set_flag(&format!("--watch-namespace={},{}", env.namespace, far.namespace));
    env.start();
    let (here, _) = env.deploy("a", &quick("1", "1")).await;
    let (there, _) = far.deploy("a", &quick("7", "7")).await;
    let before = pods(&far.history().await, "a", "blue");
    here.upgrade("2", "2").await.unwrap();
    env.serves(&here, "2").await;
    here.delete().await.unwrap();
    env.wait("it to go", |history| pods(history, "a", "green").is_empty().then_some(())).await;
    let history = far.history().await;
    assert_eq!(there.state(&history).unwrap().summary(), ["7 Active"]);
    assert_eq!(pods(&history, "a", "blue"), before);
    far.finish().await;
    env.finish().await;
}

#[tokio::test]
async fn an_edited_template_is_reported_and_repaired_by_a_restart() {
    let mut env = SUITE.env("drift").await;
    env.waived.objects = vec!["a-storage-blue".to_owned()];
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "storage", "image": "other/image:9"}]}}}});
    let params = kube::api::PatchParams { field_manager: Some("kubectl-set".into()), ..Default::default() };
    env.objects(Kind::Deployment)
        .patch("a-storage-blue", &params, &kube::api::Patch::Strategic(&image))
        .await
        .unwrap();
    let drifted = |state: State<'_>| state.condition("Drifted", "status") == "True";
    let entry = env.until(&subject, "Drifted", drifted).await;
    let message = State(&entry).condition("Drifted", "message").to_owned();
    assert!(message.contains("kubectl-set") && message.contains("a-storage-blue"), "{message}");
    assert!(message.contains("e6data.io/restart"), "{message}");
    env.event("a", "Warning", "Drifted", "kubectl-set").await;
    env.linger(3).await;
    let history = env.history().await;
    let deployment = history.live(Kind::Deployment, "a-storage-blue").unwrap();
    assert_eq!(
        deployment.text("/spec/template/spec/containers/0/image"),
        "other/image:9",
        "it is not fought"
    );
    subject.annotate("e6data.io/restart", "now").await.unwrap();
    let healed = |state: State<'_>| {
        state.is_stable() && state.color() == "green" && state.condition("Drifted", "status") == "False"
    };
    let entry = env.until(&subject, "to be healed", healed).await;
    assert_eq!(State(&entry).active(), version);
    let history = env.history().await;
    let deployment = history.live(Kind::Deployment, "a-storage-green").unwrap();
    assert_eq!(deployment.text("/spec/template/spec/containers/0/image"), "docker.io/e6data/storage:1");
    env.finish().await;
}

/// The invariant checks report an external change that [`testbed::invariants::Waived`] does not list.
#[tokio::test]
async fn the_invariant_checks_report_external_changes() {
    let mut env = SUITE.env("watcher").await;
    env.deploy("a", &quick("1", "1")).await;
    let sound = env.history().await;
    assert_eq!(invariants::check(&sound, &env.waived), []);
    env.kill().await;
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}});
    env.patch(Kind::Deployment, "a-schema-blue", &template).await;
    env.patch(Kind::Service, "a-schema", &json!({"spec": {"selector": {"strategy": "green"}}})).await;
    let back = json!({"metadata": {"annotations": {"e6data.io/epoch": "0"}}});
    env.patch(Kind::Service, "a-schema", &back).await;
    env.delete(Kind::Deployment, "a-storage-blue").await;
    env.patch(Kind::Service, "a-schema-blue", &json!({"spec": {"selector": {"app": null}}})).await;
    env.delete(Kind::Service, "a-storage").await;
    let subject = env.subject("a");
    let record = json!({"version": "x", "hash": "", "strategy": "blue", "storageTag": "", "schemaTag": "",
        "timestamp": "2026-01-01T00:00:00Z", "status": "Active"});
    let status =
        json!({"status": {"rollout": {"step": "Watching", "epoch": 0}, "releaseHistory": [record, record]}});
    let params = kube::api::PatchParams::default();
    env.objects(Kind::MetadataServices)
        .patch_status(&subject.name, &params, &kube::api::Patch::Merge(&status))
        .await
        .unwrap();
    let broken = invariants::check(&env.history().await, &env.waived);
    for kind in ["I1", "I4", "I5", "I7", "I8", "I9", "I11", "I12", "I13", "I14", "I15", "I17"] {
        assert!(broken.iter().any(|one| one.invariant == kind), "{kind} is not reported: {broken:#?}");
    }
}
