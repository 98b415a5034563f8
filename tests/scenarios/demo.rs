//! The main job, scene by scene: deploy, upgrade, survive a bad release, go back, survive a crash.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, Subject, Verb};

use crate::bed::{Bed, case, together};

/// The pods of a color by name, with their UIDs: unchanged means untouched.
pub fn pods(history: &History, app: &str, color: &str) -> BTreeMap<String, String> {
    history
        .all_live(Kind::Pod)
        .into_iter()
        .filter(|pod| pod.label("app") == Some(app) && pod.label("strategy") == Some(color))
        .filter(|pod| pod.get("/metadata/deletionTimestamp").is_none())
        .map(|pod| (pod.name.clone(), pod.text("/metadata/uid").to_owned()))
        .collect()
}

/// The colors that a front Service has selected, in order, each once.
pub fn selected(history: &History, app: &str, component: &str) -> Vec<String> {
    let mut colors: Vec<String> = history
        .of(Kind::Service, &format!("{app}-{component}"))
        .map(|entry| entry.text("/spec/selector/strategy").to_owned())
        .collect();
    colors.dedup();
    colors
}

/// The public phases that a resource went through, in order, each once.
pub fn phases(history: &History, subject: &Subject) -> Vec<String> {
    let mut phases: Vec<String> =
        subject.states(history).map(|state| state.deployment_phase().to_owned()).collect();
    phases.dedup();
    phases
}

#[tokio::test]
async fn a_first_release_is_deployed_and_an_upgrade_of_both_tags_follows() {
    let bed = Bed::new("demo").await;
    let (subject, first) = bed.deploy("sample1", &quick("1.0.437", "1.0.547")).await;
    let history = bed.history().await;
    assert_eq!(phases(&history, &subject), ["", "Deploying", "Switching", "Stable"]);
    assert_eq!(selected(&history, "sample1", "storage"), ["none", "blue"]);
    let state = subject.state(&history).unwrap();
    assert_eq!((state.color(), state.summary()), ("blue", vec!["1.0.437 Active".to_owned()]));
    let address = format!("sample1-storage.{}.svc:9005", bed.namespace);
    assert_eq!(state.0.text("/status/endpoints/storage"), address);
    let image = history.live(Kind::Deployment, "sample1-schema-blue").unwrap();
    assert_eq!(image.text("/spec/template/spec/containers/0/image"), "docker.io/e6data/schema:1.0.547");
    assert!(pods(&history, "sample1", "blue").len() == 2);

    let from = history.entries().len();
    subject.upgrade("1.0.500", "1.0.600").await.unwrap();
    bed.serves(&subject, "1.0.500").await;
    let history = bed.history().await;
    let state = subject.state(&history).unwrap();
    assert_eq!(state.summary(), ["1.0.437 Superseded", "1.0.500 Active"]);
    assert_eq!((state.color(), state.pending()), ("green", ""));
    assert_ne!(state.active(), first);
    let all = ["", "Deploying", "Switching", "Stable", "Deploying", "Switching", "Cleanup", "Stable"];
    assert_eq!(phases(&history, &subject), all);
    for component in ["storage", "schema"] {
        assert_eq!(selected(&history, "sample1", component), ["none", "blue", "green"]);
        assert!(history.live(Kind::Deployment, &format!("sample1-{component}-blue")).is_none());
    }
    assert!(pods(&history, "sample1", "blue").is_empty());
    assert_both_served(&history, from, "sample1");
    bed.finish().await;
}

/// While an upgrade runs, both front Services have a ready endpoint at every revision.
pub fn assert_both_served(history: &History, from: usize, app: &str) {
    let start = history.entries()[from - 1].resource_version;
    for entry in history.of_kind(Kind::EndpointSlice).filter(|entry| entry.resource_version > start) {
        for component in ["storage", "schema"] {
            let service = format!("{app}-{component}");
            let slices = history.all_live_at(Kind::EndpointSlice, entry.resource_version).into_iter();
            let of_front = slices.filter(|slice| slice.label("kubernetes.io/service-name") == Some(&service));
            let endpoints = of_front.filter_map(|slice| slice.get("/endpoints")?.as_array()).flatten();
            let ready =
                endpoints.filter(|one| one.pointer("/conditions/ready") == Some(&json!(true))).count();
            assert!(ready > 0, "{service} has no ready endpoint at {}", entry.resource_version);
        }
    }
}

/// Ways in which a release cannot start: the change, the component and what the message says, with its remedy.
struct Broken {
    label: &'static str,
    change: Value,
    said: &'static [&'static str],
    /// Whether the message names a pod.
    pod: bool,
}

fn broken() -> Vec<Broken> {
    let storage = |tag: &str| json!({"storage": {"imageTag": tag}});
    let schema = |tag: &str| json!({"schema": {"imageTag": tag}});
    let soon = |mut change: Value| {
        merge(&mut change, &json!({"rollout": {"deployTimeoutSeconds": 5}}));
        change
    };
    vec![
        Broken {
            label: "crash",
            change: storage("2-crash"),
            said: &["storage: pod ", "exit code 1", "kubectl logs --previous"],
            pod: true,
        },
        Broken {
            label: "nopull",
            change: schema("2-nopull"),
            said: &["schema: pod ", "manifest unknown", "imagePullSecrets"],
            pod: true,
        },
        Broken {
            label: "noconfig",
            change: storage("2-noconfig"),
            said: &["storage: pod ", "secret \"x\" not found", "create the ConfigMap, Secret"],
            pod: true,
        },
        Broken {
            label: "neverready",
            change: soon(storage("2-neverready")),
            said: &["not ready within 5 s", "storage: pod ", "readinessProbe"],
            pod: true,
        },
        Broken {
            label: "unschedulable",
            change: soon(json!({"schema": {"nodeSelector": {"disk": "none-such"}}})),
            said: &["schema: pod ", "node affinity/selector", "add capacity or relax nodeSelector"],
            pod: true,
        },
        Broken {
            label: "quota",
            change: storage("2"),
            said: &["pods are forbidden: exceeded quota", "raise the namespace's ResourceQuota"],
            pod: false,
        },
    ]
}

#[test]
fn a_release_that_never_starts_is_rolled_back_and_says_why() {
    together(broken().into_iter().map(|broken| case(broken.label, || never_starts(broken))).collect());
}

async fn never_starts(broken: Broken) {
    let bed = Bed::new(broken.label).await;
    let (subject, good) = bed.deploy("a", &quick("1", "1")).await;
    if broken.label == "quota" {
        let quota: ResourceQuota =
            serde_json::from_value(json!({"metadata": {"name": "two"}, "spec": {"hard": {"pods": "2"}}}))
                .unwrap();
        bed.api().create(&PostParams::default(), &quota).await.unwrap();
        bed.linger(1).await;
    }
    let before = bed.history().await;
    subject.edit(&broken.change).await.unwrap();
    let asked = subject.get().await.unwrap()["spec"].clone();
    bed.rolled_back(&subject, "1").await;
    bed.linger(3).await;
    let history = bed.history().await;
    let state = subject.state(&history).unwrap();
    assert_eq!(state.0.object["spec"], asked, "the spec is the user's");
    assert_eq!(
        (state.active(), state.phase(), state.deployment_phase()),
        (good.as_str(), "Degraded", "Stable")
    );
    assert_eq!(pods(&history, "a", "blue"), pods(&before, "a", "blue"), "what serves is untouched");
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue"]);
    assert_eq!(state.condition("Ready", "status"), "True");
    assert_eq!(state.records().last().unwrap()["status"], "Failed");
    for condition in ["Stalled", "SpecApplied"] {
        let message = state.condition(condition, "message");
        for said in broken.said {
            assert!(message.contains(said), "{condition} lacks {said:?}: {message}");
        }
        assert!(message.contains("e6data.io/retry"), "{message}");
        let pod = history.of_kind(Kind::Pod).find(|pod| message.contains(&pod.name));
        assert_eq!(pod.is_some(), broken.pod, "{message}");
    }
    assert_eq!(state.condition("Stalled", "status"), "True");
    assert_eq!(state.condition("SpecApplied", "reason"), "RolledBack");
    bed.event("a", "Warning", "RolloutFailed", broken.said[0]).await;
    bed.finish().await;
}

/// A release with everything that a rollback has to bring back.
fn whole(tag: &str, value: &str) -> Value {
    let mut spec = quick(tag, tag);
    merge(
        &mut spec,
        &json!({"tenant": value, "storage": {
            "env": [{"name": "MODE", "value": value}], "config": {"cache.size": value},
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
        }}),
    );
    spec
}

#[tokio::test]
async fn the_guides_rollback_clears_a_failure_first_and_goes_back_second() {
    let bed = Bed::new("rollback").await;
    let (subject, first) = bed.deploy("a", &whole("1", "one")).await;
    let original = subject.get().await.unwrap()["spec"].clone();
    let template =
        bed.history().await.live(Kind::Deployment, "a-storage-blue").unwrap().object["spec"]["template"]
            .clone();
    let mut second = whole("2", "two");
    merge(&mut second, &json!({"storage": {"resources": null, "args": ["--new"]}}));
    subject.edit(&second).await.unwrap();
    bed.serves(&subject, "2").await;
    subject.upgrade("3-crash", "3").await.unwrap();
    bed.rolled_back(&subject, "2").await;

    roll_back(&bed, &subject).await;
    let entry = bed.serves(&subject, "2").await;
    assert_eq!(entry.object["spec"]["storage"]["imageTag"], "2", "the first rollback clears the failure");
    assert_eq!(entry.object["spec"]["storage"]["args"], json!(["--new"]));
    assert_eq!(selected(&bed.history().await, "a", "schema"), ["none", "blue", "green"], "without a switch");

    roll_back(&bed, &subject).await;
    let entry = bed.serves(&subject, "1").await;
    assert_eq!(entry.object["spec"], original, "the second one brings the previous release back whole");
    assert_eq!(State(&entry).active(), first, "under its old name");
    assert_eq!(State(&entry).summary(), ["3-crash Failed", "2 Superseded", "1 Active"]);
    let rollback = &entry.object["status"]["lastRollback"];
    assert_eq!((&rollback["trigger"], &rollback["to"]), (&json!("Manual"), &json!(first)));
    let history = bed.history().await;
    let again = &history.live(Kind::Deployment, "a-storage-blue").unwrap().object["spec"]["template"];
    assert_eq!(again, &template);
    let config = history.live(Kind::ConfigMap, "a-storage-config-blue").unwrap();
    assert!(config.object["data"].to_string().contains("cache.size=one"), "{}", config.object["data"]);
    bed.finish().await;
}

/// The guide's command: back to `releaseHistory[-2]`.
async fn roll_back(bed: &Bed, subject: &Subject) {
    let object = subject.get().await.unwrap();
    let history = object["status"]["releaseHistory"].as_array().unwrap();
    let target = history[history.len() - 2]["version"].as_str().unwrap().to_owned();
    subject.annotate("e6data.io/rollback-to", &target).await.unwrap();
    let gone = |state: State<'_>| state.0.annotation("e6data.io/rollback-to").is_none() && state.is_settled();
    bed.until(subject, "the annotation to go", |state| state.0.annotation("e6data.io/rollback-to").is_some())
        .await;
    bed.until(subject, "the rollback to be done", gone).await;
}

#[test]
fn a_crash_of_the_operator_in_any_step_changes_nothing_but_the_time() {
    let crash = |step: &'static str| case(step, move || crash_in(step));
    together(["Deploying", "Switching", "Watching", "Prune"].map(crash).into());
}

async fn crash_in(step: &'static str) {
    let mut bed = Bed::new(&format!("crash-{}", step.to_lowercase())).await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"switchDwellSeconds": 3, "cleanupDelaySeconds": 3}}));
    let (subject, _) = bed.deploy("a", &spec).await;
    let from = bed.history().await.entries().len();
    subject.upgrade("2", "2-slow").await.unwrap();
    bed.step(&subject, step).await;
    bed.restart().await;
    bed.serves(&subject, "2").await;
    let history = bed.history().await;
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue", "green"]);
    assert_eq!(selected(&history, "a", "schema"), ["none", "blue", "green"]);
    let created =
        |kind: Kind, name: &str| history.of(kind, name).filter(|entry| entry.verb == Verb::Added).count();
    assert_eq!(created(Kind::Deployment, "a-storage-green"), 1);
    assert_eq!(created(Kind::Service, "a-schema-green"), 1);
    assert_both_served(&history, from, "a");
    bed.finish().await;
}
