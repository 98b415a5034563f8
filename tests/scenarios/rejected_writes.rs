//! The API server rejects a write: the operator reports it, defers dependent work, and continues with the rest.

use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::resource::quick;
use testbed::{History, Kind, State, pace};

use crate::SUITE;
use testbed::harness::TestEnv;

const USER: &str = "limited-operator";

fn may(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

/// Starts an operator with exactly these rights in its namespace. None on an existing cluster, which has no such
/// user.
async fn limited(label: &str, allowed: Value) -> Option<(TestEnv, Api<Role>)> {
    let kubeconfig = SUITE.cluster().await.kubeconfig_for(USER, None).ok()?;
    let mut env = SUITE.idle_env(label, &[]).await;
    env.act_as(&kubeconfig);
    let roles: Api<Role> = env.api();
    let role = json!({"metadata": {"name": "operator"}, "rules": allowed});
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = env.api();
    let binding = bound("operator", "Role");
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    see_crds(&env).await;
    env.start();
    Some((env, roles))
}

fn bound(name: &str, kind: &str) -> Value {
    json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]})
}

/// Grants the right to read CRDs, which are cluster-scoped.
async fn see_crds(env: &TestEnv) {
    let name = format!("see-crds-{}", env.namespace);
    let reads = may(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &["get", "list", "watch"]);
    let role = json!({"metadata": {"name": name}, "rules": [reads]});
    let roles: Api<ClusterRole> = Api::all(env.client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(env.client.clone());
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let binding = bound(&name, "ClusterRole");
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

async fn grant_all(roles: &Api<Role>) {
    let all = json!({"rules": [may(&["*"], &["*"], &["*"])]});
    roles.patch("operator", &PatchParams::default(), &Patch::Merge(&all)).await.unwrap();
}

/// An operator without one of its rights, and then with it.
#[tokio::test]
async fn missing_rights_are_named_and_granting_them_heals() {
    let groups = ["e6data.io", "coordination.k8s.io", "apps", "policy", "discovery.k8s.io", "events.k8s.io"];
    let most = json!([
        may(&groups, &["*"], &["*"]),
        may(&[""], &["pods", "services", "serviceaccounts", "events"], &["*"]),
        may(&[""], &["configmaps"], &["get", "list", "watch"]),
    ]);
    let Some((env, roles)) = limited("rights", most).await else { return };
    let subject = env.subject("a");
    subject.create(&quick("1", "1")).await.unwrap();
    let told = |state: State<'_>| {
        let message = state.condition("Stalled", "message");
        state.condition("Stalled", "reason") == "WriteRefused"
            && message.contains("configmaps")
            && message.matches("forbidden").count() == 1
    };
    env.until(&subject, "the refused write to be named", told).await;
    env.event("a", "Warning", "WriteRefused", "forbidden").await;
    grant_all(&roles).await;
    env.serves(&subject, "1").await;
    env.finish().await;
}

/// The operator may not patch the resource, as with a rejecting webhook: a requested rollback waits, and releases
/// from the spec continue.
#[tokio::test]
async fn a_rejected_rollback_is_reported_and_blocks_nothing() {
    let groups = ["", "coordination.k8s.io", "apps", "policy", "discovery.k8s.io", "events.k8s.io"];
    let most = json!([
        may(&groups, &["*"], &["*"]),
        may(&["e6data.io"], &["metadataservices"], &["get", "list", "watch"]),
        may(&["e6data.io"], &["metadataservices/status", "metadataservices/finalizers"], &["*"]),
    ]);
    let Some((env, roles)) = limited("unchanged", most).await else { return };
    let (subject, first) = env.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2", "2").await.unwrap();
    env.serves(&subject, "2").await;
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    env.event("a", "Warning", "WriteRefused", "cannot patch resource").await;
    subject.upgrade("3", "3").await.unwrap();
    let serves = |state: State<'_>| state.active() == state.version_of_tag("3") && state.step() == "Stable";
    env.until(&subject, "3 to serve", serves).await;
    let accepted = env.events("a").await.into_iter().filter(|(_, reason, _)| reason == "RequestAccepted");
    assert_eq!(accepted.count(), 1);
    // The rollback is still requested.
    grant_all(&roles).await;
    env.serves(&subject, "1").await;
    env.finish().await;
}

/// A setting that a quota forbids waits, while a release completes. It is applied when the quota allows it.
#[tokio::test]
async fn a_rejected_setting_is_reported_and_blocks_no_release() {
    let env = SUITE.env("setting").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let quotas: Api<ResourceQuota> = env.api();
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"services.nodeports": "0"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // A quota is in force once its status contains the usage.
    while quotas.get("none").await.unwrap().status.and_then(|status| status.used).is_none() {
        env.linger(1).await;
    }
    subject.edit(&json!({"storage": {"service": {"type": "NodePort"}}})).await.unwrap();
    env.event("a", "Warning", "WriteRefused", "a-storage").await;
    // The operator now retries the setting every twenty seconds. A release must not wait for that.
    env.linger(30).await;
    subject.edit(&json!({"storage": {"imageTag": "2"}})).await.unwrap();
    let start = Instant::now();
    let serves = |state: State<'_>| {
        state.active() == state.version_of_tag("2")
            && state.step() == "Stable"
            && state.condition("Stalled", "reason") == "WriteRefused"
            && state.condition("Stalled", "message").contains("a-storage")
    };
    env.until(&subject, "2 to serve and the setting to be named", serves).await;
    assert!(pace::elapsed(start) < Duration::from_secs(25), "it took {:?}", start.elapsed());
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    let applied = |history: &History| {
        let front = history.live(Kind::Service, "a-storage")?;
        (front.text("/spec/type") == "NodePort").then_some(())
    };
    env.wait("the setting to be applied", applied).await;
    env.serves(&subject, "2").await;
    env.finish().await;
}

/// A webhook without a server: the API server answers every write of a Deployment with 500. The release times out
/// like any other.
#[tokio::test]
async fn a_release_whose_objects_cannot_be_created_fails_in_time() {
    let env = SUITE.env("webhook").await;
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(env.client.clone());
    let webhook = json!({"metadata": {"name": env.namespace}, "webhooks": [{
        "name": "nobody.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Fail", "timeoutSeconds": 1, "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": env.namespace}},
        "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}],
    }]});
    webhooks.create(&PostParams::default(), &serde_json::from_value(webhook).unwrap()).await.unwrap();
    // The API server applies it a moment later.
    env.linger(2).await;
    subject
        .edit(&json!({"storage": {"imageTag": "2"}, "rollout": {"deployTimeoutSeconds": 8}}))
        .await
        .unwrap();
    let entry = env.rolled_back(&subject, "1").await;
    let failed = State(&entry).record_of_tag("2").unwrap();
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("creating Deployment") && message.contains("webhook"), "{message}");
    webhooks.delete(&env.namespace, &DeleteParams::default()).await.unwrap();
    env.linger(2).await;
    // A slow machine may need longer for the Pods.
    subject.edit(&json!({"rollout": {"deployTimeoutSeconds": 300}})).await.unwrap();
    subject.annotate("e6data.io/retry", "now").await.unwrap();
    env.serves(&subject, "2").await;
    env.finish().await;
}
