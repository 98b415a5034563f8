//! Another hand: objects deleted, selectors changed, names taken, templates edited.

use std::time::Duration;

use api::names::revision;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, watcher};

use crate::bed::{Bed, case, together};
use crate::demo::{pods, selected};

#[test]
fn what_another_hand_deletes_is_made_again() {
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

/// The object is there again, and is another one.
async fn made_again(bed: &Bed, kind: Kind, name: &str, uid: &str) {
    let again = |history: &History| {
        let live = history.live(kind, name)?;
        (live.text("/metadata/uid") != uid && live.get("/metadata/deletionTimestamp").is_none()).then_some(())
    };
    bed.wait(&format!("{name} to be made again"), again).await;
}

async fn deleted_serving(kind: Kind, name: &'static str) {
    let mut bed = Bed::new("hand-serving").await;
    bed.waived.objects = vec![name.to_owned()];
    let (subject, version) = bed.deploy("a", &quick("1", "1")).await;
    let before = bed.history().await.live(kind, name).unwrap().object.clone();
    bed.delete(kind, name).await;
    made_again(&bed, kind, name, before["metadata"]["uid"].as_str().unwrap()).await;
    let entry = bed.stable(&subject).await;
    assert_eq!((State(&entry).active(), State(&entry).color()), (version.as_str(), "blue"));
    let after = bed.history().await.live(kind, name).unwrap().object.clone();
    for part in ["/spec/template", "/spec/selector", "/data", "/spec/ports"] {
        assert_eq!(after.pointer(part), before.pointer(part), "{part} is what it was");
    }
    bed.finish().await;
}

/// Longer than the operator looks again after a write of its own.
const QUIET: Duration = Duration::from_secs(4);

/// A label by which objects are found is taken away or changed: it is put back, and nothing is made anew.
#[tokio::test]
async fn a_label_that_another_hand_removes_is_put_back() {
    let mut bed = Bed::new("hand-label").await;
    let names = [
        (Kind::Deployment, "a-storage-blue"),
        (Kind::Service, "a-schema"),
        (Kind::ConfigMap, "a-schema-config-blue"),
    ];
    bed.waived.objects = names.iter().map(|(_, name)| (*name).to_owned()).collect();
    let (subject, version) = bed.deploy("a", &quick("1", "1")).await;
    for (kind, name) in names {
        let uid = bed.history().await.live(kind, name).unwrap().text("/metadata/uid").to_owned();
        for damage in
            [json!({"app.kubernetes.io/managed-by": null}), json!({"app": "other"}), json!({"app": null})]
        {
            // It is the change that has to be noticed, not a look that an own write has ordered.
            tokio::time::sleep(QUIET).await;
            bed.patch(kind, name, &json!({"metadata": {"labels": damage}})).await;
            let since = bed.objects(kind).get(name).await.unwrap().metadata.resource_version.unwrap();
            let since: u64 = since.parse().unwrap();
            let healed = |history: &History| {
                let now = history.live(kind, name)?;
                let whole =
                    now.label("app") == Some("a") && now.label("app.kubernetes.io/managed-by").is_some();
                (whole && now.resource_version >= since).then(|| now.text("/metadata/uid").to_owned())
            };
            assert_eq!(bed.wait(&format!("{damage} of {name} to be mended"), healed).await, uid);
        }
    }
    let entry = bed.stable(&subject).await;
    assert_eq!((State(&entry).active(), State(&entry).records().len()), (version.as_str(), 1));
    bed.finish().await;
}

async fn deleted_pending(kind: Kind, name: &'static str) {
    let mut bed = Bed::new("hand-pending").await;
    bed.waived.objects = vec![name.to_owned()];
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2-slow", "2-slow").await.unwrap();
    let there = |history: &History| history.live(kind, name).map(|one| one.text("/metadata/uid").to_owned());
    let uid = bed.wait(name, there).await;
    bed.wait("the pending pods", |history| (pods(history, "a", "green").len() == 2).then_some(())).await;
    bed.delete(kind, name).await;
    made_again(&bed, kind, name, &uid).await;
    bed.serves(&subject, "2-slow").await;
    bed.finish().await;
}

#[tokio::test]
async fn a_changed_selector_is_mended_within_seconds() {
    let mut bed = Bed::new("hand-selector").await;
    bed.waived.objects = vec!["a-storage".to_owned()];
    let (subject, version) = bed.deploy("a", &quick("1", "1")).await;
    let before = pods(&bed.history().await, "a", "blue");
    let whole = json!({"app": "a", "component": "storage", "strategy": "blue"});
    for damage in [
        json!({"strategy": "green"}),
        json!({"strategy": "none"}),
        json!({"extra": "key"}),
        json!({"strategy": null}),
        json!({"app": "other"}),
    ] {
        bed.patch(Kind::Service, "a-storage", &json!({"spec": {"selector": damage}})).await;
        let damaged = |history: &History| {
            let mut states = history.of(Kind::Service, "a-storage").rev();
            let wrong = |selector: Option<&Value>| selector != Some(&whole);
            let mended = states.next().filter(|one| !wrong(one.get("/spec/selector")))?;
            let damaged = states.next().filter(|one| wrong(one.get("/spec/selector")))?;
            Some(mended.at.saturating_sub(damaged.at))
        };
        let took = bed.wait(&format!("{damage} to be mended"), damaged).await;
        assert!(took < Duration::from_secs(5), "{damage}: {took:?}");
        bed.stable(&subject).await;
    }
    let history = bed.history().await;
    assert_eq!(subject.state(&history).unwrap().active(), version);
    assert_eq!(pods(&history, "a", "blue"), before);
    bed.finish().await;
}

/// An object that is not ours, under a name that we need.
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
    let mut bed = Bed::new("taken").await;
    bed.waived.objects = vec![name.to_owned()];
    bed.create(kind, foreign(kind, name)).await;
    let before = bed.history().await.live(kind, name).unwrap().object.clone();
    let subject = bed.subject("a");
    subject.create(&quick("1", "1")).await.unwrap();
    let second = name.ends_with("green");
    if second {
        bed.stable(&subject).await;
        subject.upgrade("2", "2").await.unwrap();
    }
    let told = |state: State<'_>| {
        state.condition("Stalled", "reason") == "NameTaken"
            && state.condition("Stalled", "message").contains(name)
    };
    bed.until(&subject, "the condition to name it", told).await;
    bed.event("a", "Warning", "NameTaken", name).await;
    bed.linger(2).await;
    let history = bed.history().await;
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
    bed.delete(kind, name).await;
    bed.serves(&subject, if second { "2" } else { "1" }).await;
    bed.finish().await;
}

/// Names that are needed only for what the spec asks for beside the workloads, or at the end of the grace period.
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
        // Once of somebody who knows nothing of us, once with our labels under another controller.
        [false, true].map(|disguised| {
            let (name, change) = (name.clone(), change.clone());
            case(kind, move || beside_in_the_way(kind, version, name, change, disguised))
        })
    });
    together(cases.collect());
}

async fn beside_in_the_way(kind: &str, version: &str, name: String, change: Value, disguised: bool) {
    let mut bed = Bed::new("beside").await;
    bed.waived.objects = vec![name.clone()];
    bed.waived.records = true;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(bed.client.clone(), &bed.namespace, &resource);
    let mut theirs = beside(kind, &name);
    if disguised {
        merge(&mut theirs, &disguise(&bed).await);
    }
    let theirs: DynamicObject = serde_json::from_value(theirs).unwrap();
    let before = api.create(&PostParams::default(), &theirs).await.unwrap();
    let subject = bed.subject("a");
    let mut spec = quick("1", "1");
    merge(&mut spec, &change);
    subject.create(&spec).await.unwrap();
    let told = |state: State<'_>| {
        state.condition("Stalled", "reason") == "NameTaken"
            && state.condition("Stalled", "message").contains(&format!("{kind} {name}"))
    };
    bed.until(&subject, "the condition to name it", told).await;
    bed.event("a", "Warning", "NameTaken", &name).await;
    bed.linger(2).await;
    let now = api.get(&name).await.unwrap();
    assert_eq!(now.metadata.owner_references, before.metadata.owner_references);
    assert_eq!(now.metadata.annotations, before.metadata.annotations);
    for part in ["spec", "data", "revision"] {
        assert_eq!(now.data.get(part), before.data.get(part), "{part} of {name}");
    }
    api.delete(&name, &DeleteParams::background()).await.unwrap();
    bed.serves(&subject, "1").await;
    bed.finish().await;
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

/// Our labels on an object that another controller owns.
async fn disguise(bed: &Bed) -> Value {
    let controller = json!({"metadata": {"name": "their-controller"}});
    bed.create(Kind::ConfigMap, controller).await;
    let uid = bed.objects(Kind::ConfigMap).get("their-controller").await.unwrap().metadata.uid;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "their-controller", "uid": uid, "controller": true});
    let labels = json!({"app": "a", "component": "storage", "app.kubernetes.io/managed-by": "e6-operator"});
    json!({"metadata": {"labels": labels, "ownerReferences": [owner]}})
}

#[tokio::test]
async fn two_resources_in_a_namespace_are_apart() {
    let bed = Bed::new("two").await;
    let (one, _) = bed.deploy("a", &quick("1", "1")).await;
    // The one name begins with the other and a component.
    let (two, _) = bed.deploy("a-storage", &quick("5", "5")).await;
    let before = pods(&bed.history().await, "a-storage", "blue");
    one.upgrade("2", "2").await.unwrap();
    bed.serves(&one, "2").await;
    let history = bed.history().await;
    assert_eq!(pods(&history, "a-storage", "blue"), before);
    one.delete().await.unwrap();
    let gone = |history: &History| pods(history, "a", "green").is_empty().then_some(());
    bed.wait("the first resource's pods to go", gone).await;
    bed.linger(2).await;
    let entry = bed.stable(&two).await;
    assert_eq!(State(&entry).condition("Ready", "status"), "True");
    assert_eq!(pods(&bed.history().await, "a-storage", "blue"), before);
    bed.finish().await;
}

#[tokio::test]
async fn one_name_in_two_namespaces_is_two_resources() {
    let far = Bed::idle("far", &[]).await;
    let mut bed = Bed::idle("near", &[]).await;
    bed.set_arg(&format!("--watch-namespace={},{}", bed.namespace, far.namespace));
    bed.start();
    let (here, _) = bed.deploy("a", &quick("1", "1")).await;
    let (there, _) = far.deploy("a", &quick("7", "7")).await;
    let before = pods(&far.history().await, "a", "blue");
    here.upgrade("2", "2").await.unwrap();
    bed.serves(&here, "2").await;
    here.delete().await.unwrap();
    bed.wait("it to go", |history| pods(history, "a", "green").is_empty().then_some(())).await;
    let history = far.history().await;
    assert_eq!(there.state(&history).unwrap().summary(), ["7 Active"]);
    assert_eq!(pods(&history, "a", "blue"), before);
    far.finish().await;
    bed.finish().await;
}

#[tokio::test]
async fn an_edited_template_is_named_not_fought_and_healed_by_a_restart() {
    let mut bed = Bed::new("drift").await;
    bed.waived.objects = vec!["a-storage-blue".to_owned()];
    let (subject, version) = bed.deploy("a", &quick("1", "1")).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "storage", "image": "other/image:9"}]}}}});
    let params = kube::api::PatchParams { field_manager: Some("kubectl-set".into()), ..Default::default() };
    bed.objects(Kind::Deployment)
        .patch("a-storage-blue", &params, &kube::api::Patch::Strategic(&image))
        .await
        .unwrap();
    let drifted = |state: State<'_>| state.condition("Drifted", "status") == "True";
    let entry = bed.until(&subject, "Drifted", drifted).await;
    let message = State(&entry).condition("Drifted", "message").to_owned();
    assert!(message.contains("kubectl-set") && message.contains("a-storage-blue"), "{message}");
    assert!(message.contains("e6data.io/restart"), "{message}");
    bed.event("a", "Warning", "Drifted", "kubectl-set").await;
    bed.linger(3).await;
    let history = bed.history().await;
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
    let entry = bed.until(&subject, "to be healed", healed).await;
    assert_eq!(State(&entry).active(), version);
    let history = bed.history().await;
    let deployment = history.live(Kind::Deployment, "a-storage-green").unwrap();
    assert_eq!(deployment.text("/spec/template/spec/containers/0/image"), "docker.io/e6data/storage:1");
    bed.finish().await;
}

/// The watcher itself: what another hand does, and no waiver covers, it reports.
#[tokio::test]
async fn the_watcher_sees_what_is_wrong() {
    let mut bed = Bed::new("watcher").await;
    bed.deploy("a", &quick("1", "1")).await;
    let sound = bed.history().await;
    assert_eq!(watcher::check(&sound, &bed.waived), []);
    bed.kill().await;
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}});
    bed.patch(Kind::Deployment, "a-schema-blue", &template).await;
    bed.patch(Kind::Service, "a-schema", &json!({"spec": {"selector": {"strategy": "green"}}})).await;
    let back = json!({"metadata": {"annotations": {"e6data.io/epoch": "0"}}});
    bed.patch(Kind::Service, "a-schema", &back).await;
    bed.delete(Kind::Deployment, "a-storage-blue").await;
    bed.patch(Kind::Service, "a-schema-blue", &json!({"spec": {"selector": {"app": null}}})).await;
    bed.delete(Kind::Service, "a-storage").await;
    let subject = bed.subject("a");
    let record = json!({"version": "x", "hash": "", "strategy": "blue", "storageTag": "", "schemaTag": "",
        "timestamp": "2026-01-01T00:00:00Z", "status": "Active"});
    let status =
        json!({"status": {"rollout": {"step": "Watching", "epoch": 0}, "releaseHistory": [record, record]}});
    let params = kube::api::PatchParams::default();
    bed.objects(Kind::MetadataServices)
        .patch_status(&subject.name, &params, &kube::api::Patch::Merge(&status))
        .await
        .unwrap();
    let broken = watcher::check(&bed.history().await, &bed.waived);
    for kind in ["I1", "I4", "I5", "I7", "I8", "I9", "I11", "I12", "I13", "I14", "I15", "I17"] {
        assert!(broken.iter().any(|one| one.invariant == kind), "{kind} is not reported: {broken:#?}");
    }
}
