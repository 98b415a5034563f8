//! Settings that apply in place: no Pod restarts, and no release starts.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::pace;
use testbed::resource::{merge, quick};
use testbed::{History, Kind, State};

use crate::SUITE;
use crate::demo::{pods, selected};
use crate::edits::in_step;
use testbed::harness::{TIME_LIMIT, TestEnv, case, together};

#[test]
fn settings_are_applied_in_place() {
    together(vec![
        case("scale", scale),
        case("scale-rolling", scale_in_mid_rollout),
        case("scale-by-hand", scaled_by_another_hand),
        case("smaller", smaller_with_a_release),
        case("budget", budget),
        case("front", front_service),
        case("account", service_account),
    ]);
}

/// Waits until a Deployment has the wanted number of replicas.
async fn replicas(env: &TestEnv, name: &str, count: i64) {
    let there = |history: &History| {
        let one = history.live(Kind::Deployment, name)?;
        (one.number("/spec/replicas") == count && one.number("/status/readyReplicas") == count).then_some(())
    };
    env.wait(&format!("{name} to have {count} pods"), there).await;
}

async fn scale() {
    let env = SUITE.env("scale").await;
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    let before = pods(&env.history().await, "a", "blue");
    subject.edit(&json!({"storage": {"replicas": 3}})).await.unwrap();
    replicas(&env, "a-storage-blue", 3).await;
    let counted =
        |state: State<'_>| state.is_stable() && state.0.number("/status/storage/readyReplicas") == 3;
    env.until(&subject, "the status to count 3", counted).await;
    let history = env.history().await;
    let after = pods(&history, "a", "blue");
    assert!(before.iter().all(|(name, uid)| after.get(name) == Some(uid)), "no pod was restarted");
    assert_eq!((after.len(), subject.state(&history).unwrap().active()), (4, version.as_str()));
    subject.edit(&json!({"storage": {"replicas": 2}})).await.unwrap();
    replicas(&env, "a-storage-blue", 2).await;
    env.stable(&subject).await;
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue"]);
    env.finish().await;
}

async fn scale_in_mid_rollout() {
    let env = SUITE.env("scale-rolling").await;
    let (subject, _) = in_step(&env, "Deploying").await;
    env.wait("the pending pods", |history| (pods(history, "a", "green").len() == 2).then_some(())).await;
    subject.edit(&json!({"schema": {"replicas": 2}})).await.unwrap();
    replicas(&env, "a-schema-blue", 2).await;
    env.serves(&subject, "2-slow").await;
    let history = env.history().await;
    assert_eq!(history.live(Kind::Deployment, "a-schema-green").unwrap().number("/spec/replicas"), 2);
    assert_eq!(selected(&history, "a", "schema"), ["none", "blue", "green"]);
    env.finish().await;
}

/// The operator keeps a change by `kubectl scale` or an autoscaler, and the next color starts with that size.
async fn scaled_by_another_hand() {
    let env = SUITE.env("scale-hand").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let api: kube::Api<k8s_openapi::api::apps::v1::Deployment> = env.api();
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    api.patch_scale("a-storage-blue", &PatchParams::default(), &three).await.unwrap();
    replicas(&env, "a-storage-blue", 3).await;
    env.linger(4).await;
    env.stable(&subject).await;
    replicas(&env, "a-storage-blue", 3).await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    let history = env.history().await;
    let mut green = history.of(Kind::Deployment, "a-storage-green");
    assert_eq!(green.next().unwrap().number("/spec/replicas"), 3, "created at the size that serves");
    assert_eq!(history.live(Kind::Deployment, "a-storage-green").unwrap().number("/spec/replicas"), 3);
    let condition = subject.state(&history).unwrap().condition("Drifted", "status");
    assert_eq!(condition, "False", "scaling is no drift");
    env.finish().await;
}

async fn budget() {
    let env = SUITE.env("budget").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let api: kube::Api<PodDisruptionBudget> = env.api();
    let spec = async || -> Option<Value> {
        let found = api.get_opt("a-storage").await.unwrap()?;
        Some(serde_json::to_value(found.spec.unwrap()).unwrap())
    };
    let settled = async |part: Value| {
        subject.edit(&json!({"storage": {"podDisruptionBudget": part}})).await.unwrap();
        env.stable(&subject).await;
        env.linger(2).await;
        spec().await
    };
    assert!(spec().await.is_none());
    let made = settled(json!({"enabled": true})).await.unwrap();
    assert_eq!(
        (&made["maxUnavailable"], &made["selector"]["matchLabels"]["strategy"]),
        (&json!(1), &json!("blue"))
    );
    let changed = settled(json!({"minAvailable": "50%"})).await.unwrap();
    assert_eq!((changed.get("maxUnavailable"), &changed["minAvailable"]), (None, &json!("50%")));
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    env.linger(2).await;
    assert_eq!(
        spec().await.unwrap()["selector"]["matchLabels"]["strategy"],
        "green",
        "it follows what serves"
    );
    assert!(settled(json!({"enabled": false})).await.is_none());
    let others = api.list(&ListParams::default()).await.unwrap();
    assert!(others.items.is_empty());
    env.finish().await;
}

/// A smaller size together with a new release: neither color keeps the old size.
async fn smaller_with_a_release() {
    let env = SUITE.env("smaller").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"storage": {"replicas": 3}}));
    let (subject, _) = env.deploy("a", &spec).await;
    subject.edit(&json!({"storage": {"imageTag": "2", "replicas": 2}})).await.unwrap();
    env.serves(&subject, "2").await;
    env.linger(2).await;
    let history = env.history().await;
    assert_eq!(history.live(Kind::Deployment, "a-storage-green").unwrap().number("/spec/replicas"), 2);
    assert_eq!(pods(&history, "a", "green").len(), 3, "two of storage, one of schema");
    env.finish().await;
}

async fn front_service() {
    let env = SUITE.env("front").await;
    let (subject, version) = env.deploy("a", &quick("1", "1")).await;
    let before = env.history().await.live(Kind::Service, "a-storage").unwrap().object.clone();
    let service =
        json!({"port": 80, "annotations": {"team": "x"}, "labels": {"tier": "meta"}, "type": "NodePort"});
    subject.edit(&json!({"storage": {"service": service}})).await.unwrap();
    let changed = |history: &History| {
        let front = history.live(Kind::Service, "a-storage")?;
        (front.number("/spec/ports/0/port") == 80).then(|| front.object.clone())
    };
    let after = env.wait("the port to change", changed).await;
    assert_eq!(
        (&after["spec"]["type"], &after["metadata"]["labels"]["tier"]),
        (&json!("NodePort"), &json!("meta"))
    );
    assert_eq!(after["metadata"]["annotations"]["team"], "x");
    for part in ["/spec/clusterIP", "/spec/selector", "/metadata/uid", "/spec/ports/0/targetPort"] {
        assert_eq!(after.pointer(part), before.pointer(part), "{part}");
    }
    let address = format!("a-storage.{}.svc:80", env.namespace);
    let published = |state: State<'_>| state.0.text("/status/endpoints/storage") == address;
    let entry = env.until(&subject, "the address to be published", published).await;
    assert_eq!(State(&entry).active(), version);
    // Additions of another field manager stay.
    env.patch(Kind::Service, "a-schema", &json!({"metadata": {"annotations": {"mesh/inject": "yes"}}})).await;
    subject.edit(&json!({"schema": {"service": {"port": 81}}})).await.unwrap();
    let changed = |history: &History| {
        let front = history.live(Kind::Service, "a-schema")?;
        (front.number("/spec/ports/0/port") == 81).then(|| front.annotation("mesh/inject").map(str::to_owned))
    };
    assert_eq!(env.wait("the other port to change", changed).await.as_deref(), Some("yes"));
    // Settings removed from the spec are removed from the object. Additions of other clients stay.
    env.patch(Kind::Service, "a-storage", &json!({"metadata": {"annotations": {"mesh/inject": "yes"}}}))
        .await;
    let less = json!({"annotations": null, "labels": null});
    subject.edit(&json!({"storage": {"service": less}})).await.unwrap();
    let dropped = |history: &History| {
        let front = history.live(Kind::Service, "a-storage")?;
        (front.annotation("team").is_none() && front.label("tier").is_none()).then(|| front.object.clone())
    };
    let left = env.wait("annotation and label to be taken away", dropped).await;
    let annotations = left["metadata"]["annotations"].as_object().unwrap();
    assert!(!annotations.contains_key("e6data.io/applied-keys"), "{annotations:?}");
    assert_eq!(
        (&annotations["mesh/inject"], &left["metadata"]["labels"]["app"]),
        (&json!("yes"), &json!("a"))
    );
    env.stable(&subject).await;
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue"]);
    env.finish().await;
}

async fn service_account() {
    let env = SUITE.env("account").await;
    let mut spec = quick("1", "1");
    merge(&mut spec, &json!({"serviceAccount": {"create": true, "annotations": {"role": "one"}}}));
    let (subject, _) = env.deploy("a", &spec).await;
    let api: kube::Api<ServiceAccount> = env.api();
    let role = async || -> Option<String> {
        api.get_opt("a").await.unwrap()?.metadata.annotations?.get("role").cloned()
    };
    assert_eq!(role().await.as_deref(), Some("one"));
    let before = pods(&env.history().await, "a", "blue");
    subject.edit(&json!({"serviceAccount": {"annotations": {"role": "two"}}})).await.unwrap();
    env.stable(&subject).await;
    env.linger(2).await;
    assert_eq!(role().await.as_deref(), Some("two"));
    let history = env.history().await;
    assert_eq!(pods(&history, "a", "blue"), before);
    let deployment = history.live(Kind::Deployment, "a-storage-blue").unwrap();
    assert_eq!(deployment.text("/spec/template/spec/serviceAccountName"), "a");
    // The operator deletes it when no release of the history uses it.
    let other = json!({"serviceAccount": null, "rollout": {"historyLimit": 2}, "storage": {"imageTag": "2"}});
    subject.edit(&other).await.unwrap();
    env.serves(&subject, "2").await;
    assert!(role().await.is_some(), "a rollback would need it");
    subject.upgrade("3", "3").await.unwrap();
    env.serves(&subject, "3").await;
    let start = std::time::Instant::now();
    while role().await.is_some() {
        assert!(pace::elapsed(start) < TIME_LIMIT, "the account that nothing names is still there");
        env.linger(1).await;
    }
    env.stable(&subject).await;
    env.finish().await;
}
