//! Writes that adopt the objects of an earlier operator: metadata, and the selector of a front Service (design D27).

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ApiResource;
use serde_json::{Map, Value, json};

use super::actions::texts;
use super::error::Error;
use super::write::{WriteOutcome, Writer};
use crate::observe::predecessor::{container, target_port};
use crate::observe::views::Meta;
use crate::resources::deployment::InPlace;
use crate::resources::last_applied;
use crate::resources::service::front_digest;
use api::names::{
    self, ADOPTED, APPLIED_SETTINGS, Color, Component, EPOCH, LABEL_APP, LABEL_COMPONENT, LABEL_MANAGED_BY,
    LABEL_STRATEGY, MANAGER, RELEASE_HASH, RELEASE_VERSION,
};
use rollout::ReleaseRef;
use rollout::facts::{ObjectId, Route};

impl Writer<'_> {
    /// Adopts a front Service. Its ports stay, but a target port with a name becomes its number: the Pods of the next release
    /// may name their ports differently.
    pub(super) async fn adopt_front(
        &self,
        component: Component,
        route: &Route,
    ) -> Result<WriteOutcome, Error> {
        let owner = &self.observed.owner;
        let name = names::front(&owner.name, component);
        let mut patch = self.traffic_patch(self.seen_front(&name)?, component, route);
        let spec = &self.component_spec(component).service;
        let mut labels: Map<String, Value> = texts(&spec.labels).collect();
        labels.extend(self.labels(component, None));
        let mut annotations: Map<String, Value> = texts(&spec.annotations).collect();
        let keys = last_applied::keys(&spec.annotations, &spec.labels);
        annotations.extend(keys.into_iter().map(|(key, value)| (key, Value::String(value))));
        let found = self.service(&name)?;
        let running = found.spec.as_ref();
        let ports = running.and_then(|running| running.ports.clone()).unwrap_or_default();
        // Type and ports stay until the spec changes them: clients use what runs.
        annotations.insert(APPLIED_SETTINGS.into(), front_digest(component, spec).into());
        let deployments = self.predecessor_deployments();
        let ports: Vec<Value> = ports
            .into_iter()
            .map(|mut port| {
                if let Some(number) = target_port(&port, deployments, &owner.name, component) {
                    port.target_port = Some(IntOrString::Int(number));
                }
                json!(port)
            })
            .collect();
        if let Some(place) = patch.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            place.extend(annotations);
        }
        if let Some(place) = patch.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            place.insert("labels".into(), Value::Object(labels));
        }
        if let Some(place) = patch.pointer_mut("/spec").and_then(Value::as_object_mut) {
            place.insert("ports".into(), Value::Array(ports));
        }
        self.patch::<Service>(&name, &patch).await
    }

    /// Adopts another object: labels by which the operator finds it, and annotations with its release.
    pub(super) async fn adopt_unstamped(
        &self,
        id: &ObjectId,
        tagged: &ReleaseRef,
    ) -> Result<WriteOutcome, Error> {
        let (observed, name) = (self.observed, &self.observed.owner.name);
        let mut annotations = Map::from_iter([
            (RELEASE_VERSION.to_owned(), json!(tagged.version)),
            (EPOCH.to_owned(), json!(tagged.epoch.to_string())),
        ]);
        if !tagged.hash.is_empty() {
            annotations.insert(RELEASE_HASH.into(), json!(tagged.hash));
        }
        match id {
            ObjectId::Deployment(component, color) => {
                let name = names::workload(name, *component, *color);
                let image = self.running_image(&name, *component)?;
                annotations.insert(ADOPTED.into(), json!(image));
                let settings = InPlace::of(self.component_spec(*component)).annotations();
                annotations.extend(settings.map(|(key, value)| (key.to_owned(), json!(value))));
                let seen = observed.deployments.unstamped(&name);
                self.stamp::<Deployment>(seen, &name, (*component, *color), annotations).await
            }
            ObjectId::Service(component, color) => {
                let name = names::workload(name, *component, *color);
                let seen = observed.services.unstamped(&name);
                self.stamp::<Service>(seen, &name, (*component, *color), annotations).await
            }
            ObjectId::ConfigMap(component, color) => {
                let name = names::config(name, *component, *color);
                let seen = observed.config_maps.unstamped(&name);
                self.stamp::<ConfigMap>(seen, &name, (*component, *color), annotations).await
            }
            ObjectId::Front(_) | ObjectId::Revision(_) | ObjectId::Extra(_) => Ok(WriteOutcome::Done),
        }
    }

    async fn stamp<K: kube::Resource<DynamicType = ()>>(
        &self,
        seen: Option<&impl Meta>,
        name: &str,
        (component, color): (Component, Color),
        annotations: Map<String, Value>,
    ) -> Result<WriteOutcome, Error> {
        let seen = seen.ok_or_else(|| Error::Stale(format!("object {name}")))?;
        let patch = json!({"metadata": {
            "resourceVersion": seen.object_meta().resource_version,
            "labels": self.labels(component, Some(color)),
            "annotations": annotations,
        }});
        self.patch_kind(&ApiResource::erase::<K>(&()), name, &patch).await
    }

    /// Returns the labels by which the operator finds an object.
    fn labels(&self, component: Component, color: Option<Color>) -> Map<String, Value> {
        let color = color.map(|color| (LABEL_STRATEGY, color.as_str()));
        let fixed = [
            (LABEL_APP, self.observed.owner.name.as_str()),
            (LABEL_COMPONENT, component.as_str()),
            (LABEL_MANAGED_BY, MANAGER),
        ];
        fixed.into_iter().chain(color).map(|(key, value)| (key.to_owned(), json!(value))).collect()
    }

    fn predecessor_deployments(&self) -> &[Deployment] {
        self.observed.snapshot.predecessor.as_ref().map_or(&[], |found| found.deployments.as_slice())
    }

    fn running_image(&self, name: &str, component: Component) -> Result<&str, Error> {
        let found = self.predecessor_deployments().iter().find(|found| found.object_name() == name);
        let image = found.and_then(|found| container(found, component)?.image.as_deref());
        image.ok_or_else(|| Error::Stale(format!("Deployment {name}")))
    }

    fn service(&self, name: &str) -> Result<&Service, Error> {
        let found = self.observed.snapshot.predecessor.as_ref();
        let found = found.and_then(|found| found.services.iter().find(|found| found.object_name() == name));
        found.ok_or_else(|| Error::Stale(format!("Service {name}")))
    }
}
