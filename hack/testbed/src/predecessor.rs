//! Objects as an earlier operator leaves them: the same names and owner, and no annotation of this operator.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::Subject;
use crate::error::{Error, Result};
use crate::harness::TIME_LIMIT;
use crate::history::Kind;
use crate::pace;

/// The version that [`Predecessor::status`] names as active.
pub const VERSION: &str = "v20260101-abc";

/// What an earlier operator left for a resource.
#[derive(Clone)]
pub struct Predecessor {
    client: Client,
    namespace: String,
    name: String,
    /// The UID of the owner of all objects.
    pub uid: String,
}

impl Predecessor {
    /// Prepares the objects of an existing resource.
    ///
    /// # Errors
    /// If the resource cannot be read.
    pub async fn of(subject: &Subject) -> Result<Self> {
        let resource = subject.get().await?;
        Ok(Self {
            client: subject.client(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
            uid: resource.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
    }

    /// Returns metadata with the owner; `color` adds the label.
    fn meta(&self, name: &str, component: &str, color: Option<&str>) -> Value {
        let mut labels = json!({"app": self.name, "component": component});
        if let (Some(labels), Some(color)) = (labels.as_object_mut(), color) {
            labels.insert("strategy".into(), color.into());
        }
        json!({"name": name, "namespace": self.namespace, "labels": labels, "ownerReferences": [{
            "apiVersion": "e6data.io/v1alpha1", "kind": "MetadataServices", "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        }]})
    }

    fn selector(&self, component: &str, color: &str) -> Value {
        json!({"app": self.name, "component": component, "strategy": color})
    }

    /// Returns a Deployment with two Pods of this image. The port of its container is named `http`.
    pub fn deployment(&self, component: &str, color: &str, image: &str) -> Value {
        let labels = self.selector(component, color);
        let port = port(component);
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": self.meta(&format!("{}-{component}-{color}", self.name), component, Some(color)),
            "spec": {"replicas": 2, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                    "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                    "ports": [{"name": "http", "containerPort": port}],
                    "env": [{"name": "COMPONENT", "value": component}, {"name": "RELEASE", "value": VERSION},
                        {"name": "COLOR", "value": color},
                        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1}}]}}}})
    }

    /// Returns a Service that selects a color, and leads to the named port.
    pub fn service(&self, name: &str, component: &str, color: &str, is_front: bool) -> Value {
        let port = port(component);
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": self.meta(name, component, (!is_front).then_some(color)),
            "spec": {"selector": self.selector(component, color),
                "ports": [{"name": "main", "port": port, "targetPort": "http"}]}})
    }

    /// Returns the front Service of a component.
    pub fn front(&self, component: &str, color: &str) -> Value {
        self.service(&format!("{}-{component}", self.name), component, color, true)
    }

    /// Returns all objects of a release on a color, without the front Services.
    pub fn release(&self, color: &str, image: impl Fn(&str) -> String) -> Vec<Value> {
        let of = |component: &str| {
            let config = format!("{}-{component}-config-{color}", self.name);
            [
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": self.meta(&config, component, Some(color)),
                    "data": {"mode": "earlier"}}),
                self.service(&format!("{}-{component}-{color}", self.name), component, color, false),
                self.deployment(component, color, &image(component)),
            ]
        };
        ["storage", "schema"].into_iter().flat_map(of).collect()
    }

    /// Returns the front Services of both components.
    pub fn fronts(&self, color: &str) -> Vec<Value> {
        ["storage", "schema"].map(|component| self.front(component, color)).into()
    }

    /// Returns the status that it wrote: no hashes and no state machine.
    pub fn status(color: &str, tag: &str) -> Value {
        json!({"phase": "Stable", "deploymentPhase": "Stable", "activeStrategy": color,
            "activeReleaseVersion": VERSION, "releaseHistory": [
                {"version": "v20251201-abc", "strategy": "blue", "storageTag": "0", "schemaTag": "0",
                    "timestamp": "2025-12-01T00:00:00Z", "status": "Superseded"},
                {"version": VERSION, "strategy": color, "storageTag": tag, "schemaTag": tag,
                    "timestamp": "2026-01-01T00:00:00Z", "status": "Active"}]})
    }

    /// Creates everything on a color, with front Services and, if there is one, a status. Waits until the Pods are ready.
    ///
    /// # Errors
    /// If the API server refuses an object, or the Pods do not become ready.
    pub async fn leave(
        &self,
        color: &str,
        image: impl Fn(&str) -> String,
        status: Option<&Value>,
    ) -> Result<()> {
        for object in self.release(color, image).iter().chain(&self.fronts(color)) {
            self.create(object).await?;
        }
        if let Some(status) = status {
            let kind = Kind::MetadataServices.resource();
            let resources: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
            let patch = Patch::Merge(json!({"status": status}));
            resources.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        }
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let start = Instant::now();
        for component in ["storage", "schema"] {
            let name = format!("{}-{component}-{color}", self.name);
            while deployments.get(&name).await?.status.and_then(|status| status.available_replicas) != Some(2)
            {
                if pace::elapsed(start) > TIME_LIMIT {
                    return Err(Error::Timeout {
                        what: format!("{name} is ready"),
                        seconds: TIME_LIMIT.as_secs_f64(),
                    });
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Creates an object.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn create(&self, object: &Value) -> Result<()> {
        let named = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let kind = Kind::MADE.into_iter().find(|kind| named == kind.resource().kind);
        let kind = kind.ok_or_else(|| Error::Unsupported(format!("objects of kind {named}")))?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource());
        let object = serde_json::from_value(object.clone())
            .map_err(|source| Error::Json { what: "an object".to_owned(), source })?;
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    }
}

fn port(component: &str) -> u16 {
    if component == "storage" { 9005 } else { 9006 }
}
