//! The API server does not take something: it is told, what depends on it waits, and the rest goes on.

use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::resource::quick;
use testbed::{History, Kind, State};

use crate::bed::{Bed, cluster};

const USER: &str = "limited-operator";

fn may(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

/// An operator that may do this only in its namespace, and what it may do; `None` where there is no such user.
async fn limited(label: &str, allowed: Value) -> Option<(Bed, Api<Role>)> {
    let kubeconfig = cluster().await.kubeconfig_for(USER, None).ok()?;
    let mut bed = Bed::idle(label, &[]).await;
    bed.act_as(&kubeconfig);
    let roles: Api<Role> = bed.api();
    let role = json!({"metadata": {"name": "operator"}, "rules": allowed});
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = bed.api();
    let binding = bound("operator", "Role");
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    see_crds(&bed).await;
    bed.start();
    Some((bed, roles))
}

fn bound(name: &str, kind: &str) -> Value {
    json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]})
}

/// The right to read CRDs, which is not a namespace's to give.
async fn see_crds(bed: &Bed) {
    let name = format!("see-crds-{}", bed.namespace);
    let reads = may(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &["get", "list", "watch"]);
    let role = json!({"metadata": {"name": name}, "rules": [reads]});
    let roles: Api<ClusterRole> = Api::all(bed.client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(bed.client.clone());
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let binding = bound(&name, "ClusterRole");
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

async fn grant_all(roles: &Api<Role>) {
    let all = json!({"rules": [may(&["*"], &["*"], &["*"])]});
    roles.patch("operator", &PatchParams::default(), &Patch::Merge(&all)).await.unwrap();
}

/// A namespace in which the operator may do all but one thing, then all.
#[tokio::test]
async fn missing_rights_are_named_and_granting_them_heals() {
    let groups = ["e6data.io", "coordination.k8s.io", "apps", "policy", "discovery.k8s.io", "events.k8s.io"];
    let most = json!([
        may(&groups, &["*"], &["*"]),
        may(&[""], &["pods", "services", "serviceaccounts", "events"], &["*"]),
        may(&[""], &["configmaps"], &["get", "list", "watch"]),
    ]);
    let Some((bed, roles)) = limited("rights", most).await else { return };
    let subject = bed.subject("a");
    subject.create(&quick("1", "1")).await.unwrap();
    let told = |state: State<'_>| {
        let message = state.condition("Stalled", "message");
        state.condition("Stalled", "reason") == "WriteRefused"
            && message.contains("configmaps")
            && message.matches("forbidden").count() == 1
    };
    bed.until(&subject, "the refused write to be named", told).await;
    bed.event("a", "Warning", "WriteRefused", "forbidden").await;
    grant_all(&roles).await;
    bed.serves(&subject, "1").await;
    bed.finish().await;
}

/// The resource itself may not be changed, as where a webhook forbids it: a rollback waits, and what the spec asks for
/// goes on.
#[tokio::test]
async fn a_rollback_that_is_not_taken_is_told_and_holds_nothing_up() {
    let groups = ["", "coordination.k8s.io", "apps", "policy", "discovery.k8s.io", "events.k8s.io"];
    let most = json!([
        may(&groups, &["*"], &["*"]),
        may(&["e6data.io"], &["metadataservices"], &["get", "list", "watch"]),
        may(&["e6data.io"], &["metadataservices/status", "metadataservices/finalizers"], &["*"]),
    ]);
    let Some((bed, roles)) = limited("unchanged", most).await else { return };
    let (subject, first) = bed.deploy("a", &quick("1", "1")).await;
    subject.upgrade("2", "2").await.unwrap();
    bed.serves(&subject, "2").await;
    subject.annotate("e6data.io/rollback-to", &first).await.unwrap();
    bed.event("a", "Warning", "WriteRefused", "cannot patch resource").await;
    subject.upgrade("3", "3").await.unwrap();
    let serves = |state: State<'_>| state.active() == state.version_of_tag("3") && state.step() == "Stable";
    bed.until(&subject, "3 to serve", serves).await;
    let accepted = bed.events("a").await.into_iter().filter(|(_, reason, _)| reason == "RequestAccepted");
    assert_eq!(accepted.count(), 1);
    // What was asked for is still asked for.
    grant_all(&roles).await;
    bed.serves(&subject, "1").await;
    bed.finish().await;
}

/// A setting that a quota forbids waits, while a release goes through; it is applied when there is room.
#[tokio::test]
async fn a_setting_that_is_not_taken_is_told_and_holds_no_release_up() {
    let bed = Bed::new("setting").await;
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    let quotas: Api<ResourceQuota> = bed.api();
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"services.nodeports": "0"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // A quota is in force when its status says what is used.
    while quotas.get("none").await.unwrap().status.and_then(|status| status.used).is_none() {
        bed.linger(1).await;
    }
    subject.edit(&json!({"storage": {"service": {"type": "NodePort"}}})).await.unwrap();
    bed.event("a", "Warning", "WriteRefused", "a-storage").await;
    // By now it is tried every twenty seconds: the waits of a release do not wait for that.
    bed.linger(30).await;
    subject.edit(&json!({"storage": {"imageTag": "2"}})).await.unwrap();
    let start = Instant::now();
    let serves = |state: State<'_>| {
        state.active() == state.version_of_tag("2")
            && state.step() == "Stable"
            && state.condition("Stalled", "reason") == "WriteRefused"
            && state.condition("Stalled", "message").contains("a-storage")
    };
    bed.until(&subject, "2 to serve and the setting to be named", serves).await;
    assert!(start.elapsed() < Duration::from_secs(25), "it took {:?}", start.elapsed());
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    let applied = |history: &History| {
        let front = history.live(Kind::Service, "a-storage")?;
        (front.text("/spec/type") == "NodePort").then_some(())
    };
    bed.wait("the setting to be applied", applied).await;
    bed.serves(&subject, "2").await;
    bed.finish().await;
}

/// A webhook that nobody answers for: the API server says 500 to every Deployment. The release is late like any other.
#[tokio::test]
async fn a_release_whose_objects_cannot_be_created_is_given_up_in_time() {
    let bed = Bed::new("webhook").await;
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(bed.client.clone());
    let webhook = json!({"metadata": {"name": bed.namespace}, "webhooks": [{
        "name": "nobody.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Fail", "timeoutSeconds": 1, "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}},
        "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}],
    }]});
    webhooks.create(&PostParams::default(), &serde_json::from_value(webhook).unwrap()).await.unwrap();
    // The API server learns of it a moment later.
    bed.linger(2).await;
    subject
        .edit(&json!({"storage": {"imageTag": "2"}, "rollout": {"deployTimeoutSeconds": 8}}))
        .await
        .unwrap();
    let entry = bed.rolled_back(&subject, "1").await;
    let failed = State(&entry).record_of_tag("2").unwrap();
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("creating Deployment") && message.contains("webhook"), "{message}");
    webhooks.delete(&bed.namespace, &DeleteParams::default()).await.unwrap();
    bed.linger(2).await;
    subject.annotate("e6data.io/retry", "now").await.unwrap();
    bed.serves(&subject, "2").await;
    bed.finish().await;
}
