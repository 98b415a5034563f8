//! The main job, scene by scene: deploy, upgrade, survive a bad release, go back, survive a crash.

use std::fs::File;
use std::rc::Rc;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::demo::{Console, Play, SCENES, Shell, observe};
use testbed::harness::{TestEnv, case, together};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, Subject, Verb};

use crate::SUITE;

pub use testbed::demo::observe::{pods, selected};

/// Plays the scenes of `make demo` with its expectations: first release, upgrade, bad release, rollbacks, killed operator.
#[tokio::test]
async fn the_scenes_of_the_demo_hold() {
    let env = SUITE.idle_env("demo", &[]).await;
    let cluster = SUITE.cluster().await;
    let folder = SUITE.dir().join("demo");
    std::fs::create_dir_all(&folder).unwrap();
    let console = Rc::new(Console::to(File::create(folder.join("output.txt")).unwrap()));
    let shell = Shell::new(console, cluster.kubeconfig(), &cluster.kubectl());
    let command = env.command().clone();
    let start = move || Ok(command.start());
    let mut play = Play::start(shell, env.client.clone(), &env.namespace, Box::new(start)).await.unwrap();
    for scene in &SCENES {
        let history = play.scene(scene).await.unwrap();
        if scene.name == "1 create" {
            let state = env.subject(observe::NAME).state(&history).unwrap().0;
            assert_eq!(
                state.text("/status/endpoints/storage"),
                format!("sample1-storage.{}.svc:9005", env.namespace)
            );
            let image = history.live(Kind::Deployment, "sample1-schema-blue").unwrap();
            let image = image.text("/spec/template/spec/containers/0/image");
            assert_eq!(image, "docker.io/e6data/schema:1.0.547-old");
        }
    }
    play.whole_time().await.unwrap();
    play.end();
    let failed: Vec<_> = play.checks.iter().filter(|check| !check.held).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    env.finish().await;
}

/// While an upgrade runs, both front Services have a ready endpoint at every revision.
pub fn assert_both_served(history: &History, from: usize, app: &str) {
    let start = history.entries()[from - 1].resource_version;
    assert_eq!(observe::unserved(history, app, start), None);
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
    let env = SUITE.env(broken.label).await;
    let (subject, good) = env.deploy("a", &quick("1", "1")).await;
    if broken.label == "quota" {
        let quota: ResourceQuota =
            serde_json::from_value(json!({"metadata": {"name": "two"}, "spec": {"hard": {"pods": "2"}}}))
                .unwrap();
        env.api().create(&PostParams::default(), &quota).await.unwrap();
        env.linger(1).await;
    }
    let before = env.history().await;
    subject.edit(&broken.change).await.unwrap();
    let asked = subject.get().await.unwrap()["spec"].clone();
    env.rolled_back(&subject, "1").await;
    env.linger(3).await;
    let history = env.history().await;
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
    env.event("a", "Warning", "RolloutFailed", broken.said[0]).await;
    env.finish().await;
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
    let env = SUITE.env("rollback").await;
    let (subject, first) = env.deploy("a", &whole("1", "one")).await;
    let original = subject.get().await.unwrap()["spec"].clone();
    let template =
        env.history().await.live(Kind::Deployment, "a-storage-blue").unwrap().object["spec"]["template"]
            .clone();
    let mut second = whole("2", "two");
    merge(&mut second, &json!({"storage": {"resources": null, "args": ["--new"]}}));
    subject.edit(&second).await.unwrap();
    env.serves(&subject, "2").await;
    subject.upgrade("3-crash", "3").await.unwrap();
    env.rolled_back(&subject, "2").await;

    roll_back(&env, &subject).await;
    let entry = env.serves(&subject, "2").await;
    assert_eq!(entry.object["spec"]["storage"]["imageTag"], "2", "the first rollback clears the failure");
    assert_eq!(entry.object["spec"]["storage"]["args"], json!(["--new"]));
    assert_eq!(selected(&env.history().await, "a", "schema"), ["none", "blue", "green"], "without a switch");

    roll_back(&env, &subject).await;
    let entry = env.serves(&subject, "1").await;
    assert_eq!(entry.object["spec"], original, "the second one brings the previous release back whole");
    assert_eq!(State(&entry).active(), first, "under its old name");
    assert_eq!(State(&entry).summary(), ["3-crash Failed", "2 Superseded", "1 Active"]);
    let rollback = &entry.object["status"]["lastRollback"];
    assert_eq!((&rollback["trigger"], &rollback["to"]), (&json!("Manual"), &json!(first)));
    let history = env.history().await;
    let again = &history.live(Kind::Deployment, "a-storage-blue").unwrap().object["spec"]["template"];
    assert_eq!(again, &template);
    let config = history.live(Kind::ConfigMap, "a-storage-config-blue").unwrap();
    assert!(config.object["data"].to_string().contains("cache.size=one"), "{}", config.object["data"]);
    env.finish().await;
}

/// The guide's command: back to `releaseHistory[-2]`.
async fn roll_back(env: &TestEnv, subject: &Subject) {
    let object = subject.get().await.unwrap();
    let history = object["status"]["releaseHistory"].as_array().unwrap();
    let target = history[history.len() - 2]["version"].as_str().unwrap().to_owned();
    subject.annotate("e6data.io/rollback-to", &target).await.unwrap();
    let gone = |state: State<'_>| state.0.annotation("e6data.io/rollback-to").is_none() && state.is_settled();
    env.until(subject, "the annotation to go", |state| state.0.annotation("e6data.io/rollback-to").is_some())
        .await;
    env.until(subject, "the rollback to be done", gone).await;
}

#[test]
fn a_crash_of_the_operator_in_any_step_changes_nothing_but_the_time() {
    let crash = |step: &'static str| case(step, move || crash_in(step));
    together(["Deploying", "Switching", "Watching", "Prune"].map(crash).into());
}

async fn crash_in(step: &'static str) {
    let mut env = SUITE.env(&format!("crash-{}", step.to_lowercase())).await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"rollout": {"switchDwellSeconds": 3, "cleanupDelaySeconds": 3}}));
    let (subject, _) = env.deploy("a", &spec).await;
    let from = env.history().await.entries().len();
    subject.upgrade("2", "2-slow").await.unwrap();
    env.step(&subject, step).await;
    env.restart().await;
    env.serves(&subject, "2").await;
    let history = env.history().await;
    assert_eq!(selected(&history, "a", "storage"), ["none", "blue", "green"]);
    assert_eq!(selected(&history, "a", "schema"), ["none", "blue", "green"]);
    let created =
        |kind: Kind, name: &str| history.of(kind, name).filter(|entry| entry.verb == Verb::Added).count();
    assert_eq!(created(Kind::Deployment, "a-storage-green"), 1);
    assert_eq!(created(Kind::Service, "a-schema-green"), 1);
    assert_both_served(&history, from, "a");
    env.finish().await;
}
