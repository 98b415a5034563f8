//! The process: metrics, probes, its exit, and its behavior without the CRD or without rights.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use testbed::pace;
use testbed::ports::free_port;
use testbed::resource::quick;
use testbed::{Cluster, Kind, Options, State, Subject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::SUITE;
use crate::demo::{pods, selected};
use crate::invalid_input::{invalid, with};
use testbed::harness::{TIME_LIMIT, TestEnv, install_crd};

/// Returns status code and body of a GET on loopback. None if the port is closed.
async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Waits until a path has this status code. Returns the body.
async fn answered(port: u16, path: &str, code: u16) -> String {
    let start = Instant::now();
    loop {
        let answer = get(port, path).await;
        if let Some((_, body)) = answer.as_ref().filter(|answer| answer.0 == code) {
            return body.clone();
        }
        assert!(pace::elapsed(start) < TIME_LIMIT, "{path} is answered with {answer:?}, not {code}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns the value of a series, by its name and a text in its labels.
fn value(metrics: &str, name: &str, labels: &str) -> Option<f64> {
    let mut lines = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    lines.find(|line| line.contains(labels))?.rsplit(' ').next()?.parse().ok()
}

/// Starts the operator of an environment with two ports: metrics and probes.
fn listening(env: &mut TestEnv) -> (u16, u16) {
    let (metrics, probes) = (free_port().unwrap(), free_port().unwrap());
    env.set_flag(&format!("--metrics-bind-address=127.0.0.1:{metrics}"));
    env.set_flag(&format!("--health-probe-bind-address=127.0.0.1:{probes}"));
    env.start();
    (metrics, probes)
}

#[tokio::test]
async fn metrics_move_probes_answer_and_sigterm_ends_in_time() {
    let start = Instant::now();
    let mut env = SUITE.idle_env("metrics", &[]).await;
    let (port, probes) = listening(&mut env);
    answered(probes, "/healthz", 200).await;
    answered(probes, "/readyz", 200).await;
    let (subject, first) = env.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2-crash", "2").await.unwrap();
    env.rolled_back(&subject, "1").await;
    subject.upgrade("2-slow", "2").await.unwrap();
    env.step(&subject, "Deploying").await;
    subject.upgrade("3-slow", "3").await.unwrap();
    let third =
        |state: State<'_>| state.step() == "Deploying" && state.pending() == state.version_of_tag("3-slow");
    env.until(&subject, "the third release", third).await;
    subject.upgrade("1", "1").await.unwrap();
    env.serves(&subject, "1").await;
    // The step must last until a late test has seen it.
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 120}})).await.unwrap();
    subject.upgrade("4", "4").await.unwrap();
    env.step(&subject, "Watching").await;
    subject.upgrade("1", "1").await.unwrap();
    env.step(&subject, "RollingBack").await;
    subject.edit(&json!({"rollout": {"cleanupDelaySeconds": 2}})).await.unwrap();
    env.serves(&subject, "1").await;
    subject.upgrade("4", "4").await.unwrap();
    env.serves(&subject, "4").await;
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    env.serves(&subject, "1").await;
    env.linger(2).await;
    let metrics = answered(port, "/metrics", 200).await;
    check_metrics(&metrics, &env.namespace, start);
    subject.delete().await.unwrap();
    env.wait("its end", |history| subject.state(history).is_none().then_some(())).await;
    env.linger(2).await;
    let metrics = answered(port, "/metrics", 200).await;
    assert_eq!(
        value(&metrics, "e6_operator_deployment_phase", "name=\"a\""),
        None,
        "no series of what is gone"
    );
    env.operator().terminate(Duration::from_secs(5)).unwrap();
    assert!(get(probes, "/healthz").await.is_none());
    env.finish().await;
}

fn check_metrics(metrics: &str, namespace: &str, start: Instant) {
    let at_least = |name: &str, labels: &str, least: f64| {
        let found = value(metrics, name, labels);
        assert!(
            found.is_some_and(|found| found >= least),
            "{name}{{{labels}}} is {found:?}, not {least} or more\n{metrics}"
        );
    };
    at_least("controller_runtime_reconcile_total", "result=\"requeue_after\"", 5.0);
    at_least("controller_runtime_reconcile_time_seconds_count", "metadataservices", 5.0);
    at_least("controller_runtime_max_concurrent_reconciles", "", 8.0);
    at_least("workqueue_adds_total", "name=\"metadataservices\"", 5.0);
    at_least("leader_election_master_status", "", 1.0);
    at_least("rest_client_requests_total", "method=\"PUT\"", 5.0);
    for (result, count) in
        [("succeeded", 3.0), ("failed", 1.0), ("superseded", 1.0), ("aborted", 1.0), ("rolled_back", 1.0)]
    {
        let found = value(metrics, "e6_operator_rollouts_total", &format!("result=\"{result}\""));
        assert_eq!(found, Some(count), "rollouts that {result}");
    }
    for trigger in ["manual", "automatic", "undo"] {
        let found = value(metrics, "e6_operator_rollbacks_total", &format!("trigger=\"{trigger}\""));
        assert_eq!(found, Some(1.0), "{trigger} rollbacks");
    }
    at_least("e6_operator_build_info", env!("CARGO_PKG_VERSION"), 1.0);
    at_least("e6_operator_phase_transition_timestamp_seconds", namespace, 1.0);
    at_least("process_resident_memory_bytes", "", 1e6);
    at_least("process_open_fds", "", 5.0);
    for (name, labels) in [("workqueue_depth", "metadataservices"), ("controller_runtime_active_workers", "")]
    {
        assert_eq!(value(metrics, name, labels), Some(0.0), "{name} at rest");
    }
    assert_eq!(value(metrics, "e6_operator_deployment_phase", "phase=\"Stable\""), Some(1.0));
    assert_eq!(value(metrics, "e6_operator_deployment_phase", "phase=\"Deploying\""), Some(0.0));
    // A request that a late API server does not answer in time is an error of the reconcile.
    let errors = value(metrics, "controller_runtime_reconcile_errors_total", "");
    assert!(errors.is_none_or(|errors| errors < 1.0) || pace::lateness(start) > Duration::from_secs(4));
}

#[tokio::test]
async fn sigterm_in_mid_rollout_leaves_a_clean_state_and_a_free_lease() {
    let mut env = SUITE.env("term").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2", "2").await.unwrap();
    env.step(&subject, "Deploying").await;
    env.operator().terminate(Duration::from_secs(5)).unwrap();
    // The first operator released the lease, so the next one need not wait for its expiry.
    let start = Instant::now();
    env.start();
    env.serves(&subject, "2").await;
    assert!(pace::elapsed(start) < Duration::from_secs(60));
    assert!(env.log().matches("leading").count() >= 2, "{}", env.log());
    env.finish().await;
}

/// A namespace for resources and the lease that does not exist yet.
#[tokio::test]
async fn a_missing_namespace_is_named_and_waited_for() {
    let mut env = SUITE.idle_env("absent", &[]).await;
    let later = format!("{}-later", env.namespace);
    env.set_flag(&format!("--watch-namespace={},{later}", env.namespace));
    env.set_flag(&format!("--leader-elect-namespace={later}"));
    env.start();
    let named = format!("namespace {later} does not exist: create it");
    let start = Instant::now();
    while !env.log().lines().any(|line| line.contains("ERROR") && line.contains(&named)) {
        assert!(pace::elapsed(start) < TIME_LIMIT, "{}", env.log());
        env.linger(1).await;
    }
    let namespaces: Api<Namespace> = Api::all(env.client.clone());
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": later}})).unwrap();
    namespaces.create(&PostParams::default(), &object).await.unwrap();
    env.deploy("here", &quick("1", "1")).await;
    let there = Subject::new(&env.client, &later, "there");
    there.create(&quick("1", "1")).await.unwrap();
    while there.get().await.unwrap()["status"]["phase"] != "Stable" {
        assert!(pace::elapsed(start) < TIME_LIMIT, "the new namespace is not watched: {}", env.log());
        env.linger(1).await;
    }
    namespaces.delete(&later, &DeleteParams::background()).await.unwrap();
    env.finish().await;
}

/// A separate cluster: without the CRD, then with the CRD for API servers without CEL.
#[tokio::test]
async fn without_the_crd_it_waits_and_without_cel_it_judges_itself() {
    let own = Cluster::start(Options::default()).await.unwrap();
    let mut env = SUITE.env_on(&own, "legacy", &[]).await;
    env.gaps = true;
    let (_, probes) = listening(&mut env);
    let report = answered(probes, "/readyz", 503).await;
    assert!(report.contains("crd") && report.contains("kubectl apply"), "{report}");
    answered(probes, "/healthz", 200).await;
    while !env.log().contains("ERROR") {
        env.linger(1).await;
    }
    assert!(env.log().contains("is not installed"), "{}", env.log());
    install_crd(&env.client, "crds/legacy/metadataservices.e6data.io.yaml").await;
    answered(probes, "/readyz", 200).await;
    let (subject, version) = env.deploy("good", &quick("1", "1")).await;

    judged_by_the_operator(&env).await;
    illegal_edit(&env, &subject, &version).await;
    unreadable(&env).await;
    outdated(&env).await;
    env.finish().await;
}

/// Input that CEL would reject becomes a condition and a Warning, and creates nothing.
async fn judged_by_the_operator(env: &TestEnv) {
    let by_schema = ["Invalid value", "Unsupported value", "Required value"];
    let mut judged = 0;
    for (number, (change, field, remedy)) in invalid().into_iter().enumerate() {
        let name = format!("bad-{number}");
        let subject = env.subject(&name);
        if let Err(refusal) = subject.create(&with(&change)).await {
            // The structural schema may reject it already.
            let text = refusal.to_string();
            assert!(by_schema.iter().any(|said| text.contains(said)), "{change}: {text}");
            continue;
        }
        judged += 1;
        let told = |state: State<'_>| {
            let message = state.condition("SpecApplied", "message");
            state.condition("SpecApplied", "reason") == "Invalid"
                && message.contains(field)
                && message.contains(remedy)
        };
        let entry = env.until(&subject, &format!("{change}: {field}, {remedy}"), told).await;
        assert_eq!((State(&entry).phase(), State(&entry).condition("Ready", "status")), ("Pending", "False"));
    }
    assert!(judged >= 30, "only {judged} were left to the operator");
    env.event("bad-0", "Warning", "SpecInvalid", "must be an image tag").await;
    let history = env.history().await;
    let made: Vec<_> = [Kind::Deployment, Kind::Service, Kind::ConfigMap]
        .into_iter()
        .flat_map(|kind| history.all_live(kind))
        .filter(|one| one.label("app").is_some_and(|app| app.starts_with("bad")))
        .map(|one| one.name.clone())
        .collect();
    assert!(made.is_empty(), "{made:?}");
    // The corrected resource is deployed.
    let subject = env.subject("bad-0");
    subject.edit(&json!({"storage": {"imageTag": "1"}})).await.unwrap();
    env.serves(&subject, "1").await;
}

/// An invalid edit of a deployed resource changes nothing.
async fn illegal_edit(env: &TestEnv, subject: &testbed::Subject, version: &str) {
    let before = pods(&env.history().await, "good", "blue");
    subject.edit(&json!({"storage": {"imageTag": "2", "replicas": 5000}})).await.unwrap();
    let told = |state: State<'_>| {
        state.condition("SpecApplied", "reason") == "Invalid" && state.phase() == "Degraded"
    };
    let entry = env.until(subject, "Invalid", told).await;
    assert_eq!((State(&entry).active(), State(&entry).condition("Ready", "status")), (version, "True"));
    env.linger(2).await;
    let history = env.history().await;
    assert_eq!(pods(&history, "good", "blue"), before);
    assert_eq!(selected(&history, "good", "storage"), ["none", "blue"]);
    subject.edit(&json!({"storage": {"replicas": 1}})).await.unwrap();
    env.serves(subject, "2").await;
}

/// With a schema that accepts everything, the operator reports an unreadable object and continues with the others.
async fn unreadable(env: &TestEnv) {
    let api: Api<CustomResourceDefinition> = Api::all(env.client.clone());
    let mut crd = api.get("metadataservices.e6data.io").await.unwrap();
    let mut lax = serde_json::to_value(&crd.spec).unwrap();
    let spec: &mut Value = lax.pointer_mut("/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    let fields = spec["properties"].as_object_mut().unwrap();
    fields.remove("storage");
    *spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": fields});
    crd.spec = serde_json::from_value(lax).unwrap();
    crd.metadata.managed_fields = None;
    api.replace("metadataservices.e6data.io", &PostParams::default(), &crd).await.unwrap();
    let odd = env.subject("odd");
    let mut spec = quick("1", "1");
    spec["storage"] = json!({"imageTag": {"not": "a string"}});
    let start = Instant::now();
    while odd.create(&spec).await.is_err() {
        assert!(pace::elapsed(start) < TIME_LIMIT, "the lax CRD is not in force");
        env.linger(1).await;
    }
    while !env
        .log()
        .lines()
        .any(|line| line.contains("ERROR") && line.contains("odd") && line.contains(&env.namespace))
    {
        assert!(pace::elapsed(start) < TIME_LIMIT, "no ERROR names it: {}", env.log());
        env.linger(1).await;
    }
    install_crd(&env.client, "crds/legacy/metadataservices.e6data.io.yaml").await;
    env.deploy("next", &quick("1", "1")).await;
    let objects = env.objects(Kind::MetadataServices);
    objects.delete("odd", &DeleteParams::default()).await.unwrap();
}

/// A CRD without a field that the operator needs: no release starts, nothing changes, and the message contains the
/// command.
async fn outdated(env: &TestEnv) {
    let api: Api<CustomResourceDefinition> = Api::all(env.client.clone());
    let mut crd = api.get("metadataservices.e6data.io").await.unwrap();
    let mut old = serde_json::to_value(&crd.spec).unwrap();
    let fields = old.pointer_mut("/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
    fields.as_object_mut().unwrap().remove("karpenterNodePool").unwrap();
    crd.spec = serde_json::from_value(old).unwrap();
    crd.metadata.managed_fields = None;
    api.replace("metadataservices.e6data.io", &PostParams::default(), &crd).await.unwrap();
    let subject = env.subject("next");
    let told = |state: State<'_>| {
        state.condition("SpecApplied", "reason") == "CRDOutdated"
            && state.condition("SpecApplied", "message").contains("kubectl apply")
    };
    env.until(&subject, "CRDOutdated", told).await;
    subject.upgrade("2", "2").await.unwrap();
    env.linger(3).await;
    let history = env.history().await;
    assert_eq!(selected(&history, "next", "storage"), ["none", "blue"]);
    assert_eq!(subject.state(&history).unwrap().condition("Ready", "status"), "True");
    install_crd(&env.client, "crds/legacy/metadataservices.e6data.io.yaml").await;
    env.serves(&subject, "2").await;
}
