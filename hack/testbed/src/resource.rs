//! A `MetadataServices` as users handle it, without the types of the operator: its edits, and the states in its
//! events.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::history::{Entry, History, Kind, Verb};
use crate::pace;

/// One `MetadataServices`, by namespace and name.
#[derive(Clone, Debug)]
pub struct Subject {
    api: Api<DynamicObject>,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// Installs the CRD by server-side apply, and waits until the API server serves it.
///
/// # Errors
/// When it is refused, or is not served in time.
pub async fn install_crd<C: Serialize + Debug>(client: &Client, crd: &C, patience: Duration) -> Result<()> {
    let kind = Kind::MetadataServices.resource();
    let name = format!("{}.{}", kind.plural, kind.group);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.patch(&name, &PatchParams::apply("testbed").force(), &Patch::Apply(crd)).await?;
    let served: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let start = Instant::now();
    while let Err(error) = served.list(&ListParams::default().limit(1)).await {
        if pace::elapsed(start) > patience {
            return Err(Error::Timeout {
                what: format!("{name} is served: {error}"),
                seconds: patience.as_secs_f64(),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A spec of two tags that is rolled out in a few seconds.
pub fn quick(storage: &str, schema: &str) -> Value {
    json!({
        "storage": {"imageTag": storage}, "schema": {"imageTag": schema},
        "rollout": {
            "gracePeriodSeconds": 1, "switchDwellSeconds": 1, "cleanupDelaySeconds": 2,
            // No test waits for it by default, and a slow machine must not meet it.
            "deployTimeoutSeconds": 300,
            "autoRollback": {"failureThresholdSeconds": 1},
        },
    })
}

/// Merges one JSON value into another as a merge patch does (null removes).
pub fn merge(target: &mut Value, patch: &Value) {
    let (Some(into), Some(from)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in from {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

impl Subject {
    /// A handle; nothing is asked of the API server.
    pub fn new(client: &Client, namespace: &str, name: &str) -> Self {
        let api = Api::namespaced_with(client.clone(), namespace, &Kind::MetadataServices.resource());
        Self { api, name: name.to_owned(), namespace: namespace.to_owned() }
    }

    /// Returns the client of this handle.
    pub fn client(&self) -> Client {
        self.api.clone().into_client()
    }

    fn object(&self, spec: &Value) -> DynamicObject {
        let resource = Kind::MetadataServices.resource();
        DynamicObject::new(&self.name, &resource).within(&self.namespace).data(json!({"spec": spec}))
    }

    /// Creates it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create(&self, spec: &Value) -> Result<()> {
        self.api.create(&PostParams::default(), &self.object(spec)).await?;
        Ok(())
    }

    /// Asks the API server whether it would let this be created, without creating it.
    ///
    /// # Errors
    /// When the API server refuses; the message is its own.
    pub async fn try_create(&self, spec: &Value) -> Result<()> {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        self.api.create(&params, &self.object(spec)).await?;
        Ok(())
    }

    /// Applies a merge patch to the whole object.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn patch(&self, patch: &Value) -> Result<()> {
        self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Applies a merge patch to the spec.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn edit(&self, spec: &Value) -> Result<()> {
        self.patch(&json!({"spec": spec})).await
    }

    /// Asks for other images.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn upgrade(&self, storage: &str, schema: &str) -> Result<()> {
        self.edit(&json!({"storage": {"imageTag": storage}, "schema": {"imageTag": schema}})).await
    }

    /// Sets an annotation.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn annotate(&self, key: &str, value: &str) -> Result<()> {
        self.patch(&json!({"metadata": {"annotations": {key: value}}})).await
    }

    /// Replaces the status by an empty one, as a restore from a backup would.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn lose_status(&self) -> Result<()> {
        loop {
            let mut object = self.api.get(&self.name).await?;
            object.metadata.managed_fields = None;
            if let Some(data) = object.data.as_object_mut() {
                data.insert("status".into(), json!({}));
            }
            match self.api.replace_status(&self.name, &PostParams::default(), &object).await {
                Ok(_) => return Ok(()),
                // The operator wrote the status meanwhile. Its write is discarded too.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes the resource. The garbage collector deletes its objects.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self) -> Result<()> {
        self.api.delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }

    /// Deletes the resource as `kubectl delete --cascade=foreground` does: it exists until its objects are gone.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_foreground(&self) -> Result<()> {
        self.api.delete(&self.name, &DeleteParams::foreground()).await?;
        Ok(())
    }

    /// Deletes the resource and keeps its objects, as `kubectl delete --cascade=orphan` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_orphaning(&self) -> Result<()> {
        let policy = Some(PropagationPolicy::Orphan);
        let params = DeleteParams { propagation_policy: policy, ..DeleteParams::default() };
        self.api.delete(&self.name, &params).await?;
        Ok(())
    }

    /// The object as it is now.
    ///
    /// # Errors
    /// When the API server does not answer, or it is not there.
    pub async fn get(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.api.get(&self.name).await?).unwrap_or_default())
    }

    /// Returns the last version of the resource. None if it does not exist.
    pub fn state<'a>(&self, history: &'a History) -> Option<State<'a>> {
        let mut all = history.of(Kind::MetadataServices, &self.name);
        let last = all.rfind(|entry| entry.namespace == self.namespace)?;
        (last.verb != Verb::Deleted).then_some(State(last))
    }

    /// All its states, oldest first.
    pub fn states<'a>(&'a self, history: &'a History) -> impl DoubleEndedIterator<Item = State<'a>> {
        let all = history.of(Kind::MetadataServices, &self.name);
        all.filter(|entry| entry.namespace == self.namespace && entry.verb != Verb::Deleted)
            .map(|entry| State(entry))
    }
}

/// One version of a `MetadataServices`.
#[derive(Clone, Copy, Debug)]
pub struct State<'a>(pub &'a Entry);

impl<'a> State<'a> {
    /// `status.rollout.step`; empty without one.
    pub fn step(&self) -> &'a str {
        self.0.text("/status/rollout/step")
    }

    /// `status.phase`.
    pub fn phase(&self) -> &'a str {
        self.0.text("/status/phase")
    }

    /// `status.deploymentPhase`.
    pub fn deployment_phase(&self) -> &'a str {
        self.0.text("/status/deploymentPhase")
    }

    /// `status.activeReleaseVersion`.
    pub fn active(&self) -> &'a str {
        self.0.text("/status/activeReleaseVersion")
    }

    /// `status.activeStrategy`.
    pub fn color(&self) -> &'a str {
        self.0.text("/status/activeStrategy")
    }

    /// `status.pendingReleaseVersion`.
    pub fn pending(&self) -> &'a str {
        self.0.text("/status/pendingReleaseVersion")
    }

    /// `status.rollout.epoch`.
    pub fn epoch(&self) -> i64 {
        self.0.number("/status/rollout/epoch")
    }

    /// `status.releaseHistory`.
    pub fn records(&self) -> &'a [Value] {
        self.0.get("/status/releaseHistory").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The versions in the history with their states, as `v1 Active`.
    pub fn summary(&self) -> Vec<String> {
        let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
        self.records()
            .iter()
            .map(|one| format!("{} {}", text(one, "storageTag"), text(one, "status")))
            .collect()
    }

    /// The record whose storage has this tag.
    pub fn record_of_tag(&self, tag: &str) -> Option<&'a Value> {
        self.records().iter().find(|record| record["storageTag"] == tag)
    }

    /// The version of the release whose storage has this tag; empty if there is none.
    pub fn version_of_tag(&self, tag: &str) -> String {
        let version = self.record_of_tag(tag).and_then(|record| record["version"].as_str());
        version.unwrap_or_default().to_owned()
    }

    /// A part of a condition: `status`, `reason` or `message`; empty if there is none.
    pub fn condition(&self, kind: &str, part: &str) -> &'a str {
        let all = self.0.get("/status/conditions").and_then(Value::as_array);
        let found = all.and_then(|all| all.iter().find(|one| one["type"] == kind));
        found.and_then(|one| one.get(part)?.as_str()).unwrap_or_default()
    }

    /// Returns whether the operator has observed the spec, and neither a rollout nor a request is pending.
    pub fn is_settled(&self) -> bool {
        let asked = ["rollback-to", "retry", "restart"];
        self.step() == "Stable"
            && self.0.number("/status/observedGeneration") == self.0.number("/metadata/generation")
            && asked.iter().all(|key| self.0.annotation(&format!("e6data.io/{key}")).is_none())
    }

    /// Returns whether [`Self::is_settled`] holds, the release in the spec is active, and all its Pods are ready.
    pub fn is_stable(&self) -> bool {
        self.is_settled() && self.phase() == "Stable" && self.0.condition("SpecApplied") == "True"
    }
}
