//! Invalid input: rejected by the API server, or by the operator if the API server cannot check it.

use serde_json::{Value, json};
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State, Subject};

use crate::SUITE;
use crate::demo::{pods, selected};
use testbed::harness::{TestEnv, case, together};

/// A rejected change of the spec, and the field and remedy in the message.
pub fn invalid() -> Vec<(Value, &'static str, &'static str)> {
    let storage = |part: Value| json!({"storage": part});
    let rollout = |part: Value| json!({"rollout": part});
    let mut all = vec![
        (storage(json!({"imageTag": "a b"})), "spec.storage.imageTag", "must be an image tag"),
        (storage(json!({"imageTag": "-x"})), "spec.storage.imageTag", "does not begin with"),
        (
            json!({"schema": {"imageTag": ""}}),
            "spec.schema.imageTag",
            "set the repository in imageRepository",
        ),
        (
            storage(json!({"imageDigest": "sha256:1"})),
            "spec.storage.imageDigest",
            "copy it from the registry",
        ),
        (json!({"imageRepository": "r/x:1"}), "spec.imageRepository", "set the tags in"),
        (json!({"storageBackend": "ftp://x"}), "spec.storageBackend", "begin it with s3://"),
        (json!({"s3Endpoint": "minio:9000"}), "spec.s3Endpoint", "begin it with https://"),
        (json!({"workspace": "a b"}), "spec.workspace", "label value"),
        (
            json!({"releaseVersion": "a/b"}),
            "spec.releaseVersion",
            "remove the field to get a generated version",
        ),
        (json!({"serviceAccount": {"name": "A"}}), "spec.serviceAccount.name", "lower-case"),
        (
            json!({"serviceAccount": {"create": true, "name": "default"}}),
            "spec.serviceAccount",
            "choose another name",
        ),
        (storage(json!({"config": {"a b": "1"}})), "spec.storage.config", "valid keys"),
        (
            storage(json!({"env": [{"name": "1x", "value": "y"}]})),
            "spec.storage.env",
            "do not begin with a digit",
        ),
        (storage(json!({"podLabels": {"app": "x"}})), "spec.storage.podLabels", "use another key"),
        (storage(json!({"podAnnotations": {"e6data.io/x": "y"}})), "podAnnotations", "use another prefix"),
        (
            storage(json!({"extraVolumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            "spec.storage",
            "add the volume",
        ),
        (
            storage(
                json!({"podDisruptionBudget": {"enabled": true, "minAvailable": 1, "maxUnavailable": 1}}),
            ),
            "podDisruptionBudget",
            "remove one",
        ),
        (storage(json!({"preStopSleepSeconds": 30})), "spec.storage", "lower preStopSleepSeconds"),
        (storage(json!({"minReadySeconds": 300})), "minReadySeconds", "lower minReadySeconds"),
        (
            rollout(json!({"switchDwellSeconds": 0, "cleanupDelaySeconds": 2})),
            "spec.rollout",
            "raise switchDwellSeconds or",
        ),
    ];
    all.extend(beyond_ranges());
    all
}

/// A value below and a value above every range.
fn beyond_ranges() -> Vec<(Value, &'static str, &'static str)> {
    let mut all = vec![];
    let storage = |part: Value| json!({"storage": part});
    let rollout = |part: Value| json!({"rollout": part});
    for (field, low, high) in [
        ("gracePeriodSeconds", 0, 3600),
        ("deployTimeoutSeconds", 5, 7200),
        ("switchDwellSeconds", 0, 600),
        ("cleanupDelaySeconds", 0, 3600),
        ("historyLimit", 2, 10),
    ] {
        for beyond in [low - 1, high + 1] {
            all.push((rollout(json!({field: beyond})), field, "must be between"));
        }
    }
    for beyond in [-1, 3601] {
        let threshold = json!({"autoRollback": {"failureThresholdSeconds": beyond}});
        all.push((rollout(threshold), "failureThresholdSeconds", "must be between 0 and 3600"));
    }
    for (field, low, high) in [
        ("replicas", 1, 1000),
        ("terminationGracePeriodSeconds", 0, 3600),
        ("preStopSleepSeconds", 0, 600),
        ("minReadySeconds", 0, 3600),
        ("progressDeadlineSeconds", 60, 86400),
    ] {
        for beyond in [low - 1, high + 1] {
            all.push((json!({"schema": {field: beyond}}), field, "must be between"));
        }
    }
    for beyond in [0, 65536] {
        all.push((storage(json!({"service": {"port": beyond}})), "port", "must be between 1 and 65535"));
    }
    all
}

/// The bounds themselves, which are valid.
fn legal() -> Vec<Value> {
    let part = |low: Value, high: Value| [low, high];
    [
        part(json!({"rollout": {"gracePeriodSeconds": 0}}), json!({"rollout": {"gracePeriodSeconds": 3600}})),
        part(json!({"rollout": {"deployTimeoutSeconds": 5}}), json!({"rollout": {"deployTimeoutSeconds": 7200}})),
        part(json!({"rollout": {"switchDwellSeconds": 0, "cleanupDelaySeconds": 3}}), json!({"rollout": {"switchDwellSeconds": 600}})),
        part(json!({"rollout": {"cleanupDelaySeconds": 0, "switchDwellSeconds": 3}}), json!({"rollout": {"cleanupDelaySeconds": 3600}})),
        part(json!({"rollout": {"historyLimit": 2}}), json!({"rollout": {"historyLimit": 10}})),
        part(
            json!({"rollout": {"autoRollback": {"failureThresholdSeconds": 0}}}),
            json!({"rollout": {"autoRollback": {"failureThresholdSeconds": 3600}}}),
        ),
        part(json!({"schema": {"replicas": 1}}), json!({"schema": {"replicas": 1000}})),
        part(
            json!({"schema": {"terminationGracePeriodSeconds": 0}}),
            json!({"schema": {"terminationGracePeriodSeconds": 3600}}),
        ),
        part(
            json!({"schema": {"preStopSleepSeconds": 0}}),
            json!({"schema": {"preStopSleepSeconds": 600, "terminationGracePeriodSeconds": 601}}),
        ),
        part(json!({"schema": {"minReadySeconds": 0}}), json!({"schema": {"minReadySeconds": 3600, "progressDeadlineSeconds": 3601}, "rollout": {"deployTimeoutSeconds": 3601}})),
        part(json!({"schema": {"progressDeadlineSeconds": 60}}), json!({"schema": {"progressDeadlineSeconds": 86400}})),
        part(json!({"storage": {"service": {"port": 1}}}), json!({"storage": {"service": {"port": 65535}}})),
        part(json!({"storage": {"imageTag": "a".repeat(128)}}), json!({"workspace": "w".repeat(63)})),
    ]
    .concat()
}

/// Returns a valid spec with a change.
pub fn with(change: &Value) -> Value {
    let mut spec = quick("1", "1");
    merge(&mut spec, change);
    spec
}

#[tokio::test]
async fn the_api_server_rejects_invalid_input_with_a_remedy() {
    let env = SUITE.idle_env("table", &[]).await;
    let subject = env.subject("a");
    subject.try_create(&quick("1", "1")).await.unwrap();
    for (change, field, remedy) in invalid() {
        let Err(refusal) = subject.try_create(&with(&change)).await else { panic!("{change} is let pass") };
        let text = refusal.to_string();
        assert!(text.contains(field) && text.contains(remedy), "{change}: {text}");
    }
    for change in legal() {
        subject.try_create(&with(&change)).await.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
    for missing in ["storage", "schema"] {
        let mut spec = quick("1", "1");
        spec.as_object_mut().unwrap().remove(missing);
        let text = subject.try_create(&spec).await.unwrap_err().to_string();
        assert!(text.contains(&format!("spec.{missing}: Required value")), "{text}");
    }
    let spec = quick("1", "1");
    for name in ["a".repeat(40).as_str(), "1a", "a.b"] {
        let text = env.subject(name).try_create(&spec).await.unwrap_err().to_string();
        assert!(text.contains("at most 39") && text.contains("another name"), "{name}: {text}");
    }
    env.subject(&"a".repeat(39)).try_create(&spec).await.unwrap();
}

#[tokio::test]
async fn the_longest_name_works_to_the_end() {
    let env = SUITE.env("long").await;
    let (subject, _) = env.deploy(&"n".repeat(39), &quick("1", "1")).await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    env.finish().await;
}

/// Returns the objects that an invalid spec must not change.
async fn fingerprint(env: &TestEnv, subject: &Subject) -> (Value, Vec<String>) {
    let history = env.history().await;
    let spec = subject.get().await.unwrap()["spec"].clone();
    let of = |kind: Kind, history: &History| -> Vec<String> {
        let all = history.all_live(kind).into_iter();
        all.map(|one| format!("{kind:?} {} {}", one.name, one.resource_version)).collect()
    };
    (spec, Kind::MADE.iter().flat_map(|kind| of(*kind, &history)).collect())
}

#[test]
fn a_rollback_to_an_unknown_release_is_rejected() {
    let requests = [
        ("empty", "", "the value is empty"),
        ("unknown", "v20200101-000000-0000000", "the history has no release of this name"),
        ("malformed", "not a version!", "the history has no release of this name"),
        ("never-active", "FAILED", "this release never served"),
    ];
    together(requests.map(|(name, value, said)| case(name, move || refused_rollback(value, said))).into());
}

async fn refused_rollback(value: &'static str, said: &'static str) {
    let env = SUITE.env("nowhere").await;
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    let mut target = value.to_owned();
    if value == "FAILED" {
        subject.upgrade("2-crash", "2").await.unwrap();
        let entry = env.rolled_back(&subject, "1").await;
        target = State(&entry).version_of_tag("2-crash");
        subject.upgrade("1", "1").await.unwrap();
        env.serves(&subject, "1").await;
    }
    let before = fingerprint(&env, &subject).await;
    subject.annotate("e6data.io/rollback-to", &target).await.unwrap();
    env.event("a", "Warning", "RequestRefused", said).await;
    let refused =
        |state: State<'_>| state.is_stable() && state.condition("Progressing", "reason") == "RequestRefused";
    let entry = env.until(&subject, "the condition", refused).await;
    let message = State(&entry).condition("Progressing", "message");
    assert!(message.contains(said) && message.contains(&version), "it names what there is: {message}");
    assert_eq!(fingerprint(&env, &subject).await, before);
    // The operator accepts the next valid request, and clears the message.
    subject.upgrade("3", "3").await.unwrap();
    env.serves(&subject, "3").await;
    subject.annotate("e6data.io/rollback-to", &version).await.unwrap();
    let entry = env.serves(&subject, "1").await;
    assert_eq!(State(&entry).condition("Progressing", "reason"), "Settled");
    env.finish().await;
}

#[tokio::test]
async fn a_rollback_before_the_first_release_is_rejected() {
    let env = SUITE.env("early").await;
    let subject = env.subject("a");
    subject.create(&quick("1-slow", "1-slow")).await.unwrap();
    env.step(&subject, "Deploying").await;
    subject.annotate("e6data.io/rollback-to", "v1").await.unwrap();
    env.event("a", "Warning", "RequestRefused", "no release of this name").await;
    env.serves(&subject, "1-slow").await;
    env.finish().await;
}

/// An invalid first release stays, reports the reason, creates nothing, and can be corrected.
#[tokio::test]
async fn a_failing_first_release_waits_and_recovers() {
    let env = SUITE.env("first").await;
    let subject = env.subject("a");
    subject.create(&quick("1-nopull", "1")).await.unwrap();
    let failed =
        |state: State<'_>| state.phase() == "Failed" && state.condition("Stalled", "status") == "True";
    let entry = env.until(&subject, "Failed", failed).await;
    assert_eq!(
        (State(&entry).step(), State(&entry).summary()),
        ("Deploying", vec!["1-nopull Pending".to_owned()])
    );
    assert!(State(&entry).condition("Stalled", "message").contains("manifest unknown"));
    env.linger(2).await;
    let at = env.history().await.entries().len();
    env.linger(4).await;
    assert_eq!(env.history().await.entries().len(), at, "nothing changes while nothing changes");
    subject.upgrade("1", "1").await.unwrap();
    let entry = env.serves(&subject, "1").await;
    assert_eq!(State(&entry).condition("Stalled", "status"), "False");
    let history = env.history().await;
    assert_eq!(selected(&history, "a", "storage").len(), 2);
    assert_eq!(pods(&history, "a", State(&entry).color()).len(), 2);
    env.finish().await;
}
