//! From the actions of the core to objects and patches.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::error::Error;
use super::write::{WriteOutcome, Writer, find};
use crate::observe::views::{Meta, ServiceView};
use crate::resources::deployment::{self, InPlace};
use crate::resources::service::{self, Stamp};
use crate::resources::{
    Defaults, Release, RenderError, config_map, controller_revision, last_applied, pdb, service_account,
};
use api::ComponentSpec;
use api::names::{self, APPLIED_KEYS, APPLIED_SETTINGS, Color, Component};
use api::template::{ReleaseHash, ReleaseTemplate};
use rollout::ReleaseRef;
use rollout::facts::{Extra, ObjectId, Route, Setting};

impl Writer<'_> {
    /// Renders a front Service that selects no Pods yet.
    pub(super) fn new_front(&self, component: Component) -> Service {
        let spec = &self.component_spec(component).service;
        service::front(&self.observed.owner, component, spec, &Stamp::default())
    }

    /// Switches a front Service: selector and annotations in one patch.
    pub(super) async fn set_traffic(
        &self,
        component: Component,
        route: &Route,
    ) -> Result<WriteOutcome, Error> {
        let name = names::front(&self.observed.owner.name, component);
        let seen = self.seen_front(&name)?;
        self.patch::<Service>(&name, &self.traffic_patch(seen, component, route)).await
    }

    /// Finds a front Service, also one whose stamp another client removed: the patch restores it.
    pub(super) fn seen_front(&self, name: &str) -> Result<&ServiceView, Error> {
        match self.observed.services.unstamped(name) {
            Some(front) => Ok(front),
            None => find(&self.observed.services, name),
        }
    }

    pub(super) fn traffic_patch(&self, seen: &ServiceView, component: Component, route: &Route) -> Value {
        let name = &self.observed.owner.name;
        let has_release = !route.version.is_empty();
        let stamp = Stamp {
            color: route.color,
            version: has_release.then(|| route.version.clone()),
            epoch: route.epoch,
            switched_at: self.shared.clock.now_for_record().map(|time| time.to_string()),
        };
        let version = seen.object_meta().resource_version.clone().unwrap_or_default();
        let mut patch = stamp.patch(name, component, &version);
        // A merge patch leaves unnamed keys alone, so foreign selector keys and an old version are removed by name.
        let wanted = stamp.selector(name, component);
        if let Some(selector) = patch.pointer_mut("/spec/selector").and_then(Value::as_object_mut) {
            let foreign = seen.spec.selector.keys().filter(|key| !wanted.contains_key(*key));
            selector.extend(foreign.map(|key| (key.clone(), Value::Null)));
        }
        if let Some(annotations) =
            patch.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut).filter(|_| !has_release)
        {
            annotations.insert(names::RELEASE_VERSION.into(), Value::Null);
        }
        patch
    }

    /// Creates an object of a color for a release.
    pub(super) async fn create_object(
        &self,
        id: &ObjectId,
        tagged: &ReleaseRef,
    ) -> Result<WriteOutcome, Error> {
        let (template, hash) = self.template(&tagged.hash)?;
        let defaults = self.defaults(&tagged.hash);
        let release = |color: Color| Release {
            owner: &self.observed.owner,
            template,
            color,
            version: &tagged.version,
            hash: &hash,
            epoch: tagged.epoch,
            defaults: &defaults,
        };
        match id {
            ObjectId::ConfigMap(component, color) => {
                self.create(config_map::config_map(&release(*color), *component)).await
            }
            ObjectId::Service(component, color) => {
                self.create(service::color(&release(*color), *component)).await
            }
            ObjectId::Deployment(component, color) => {
                let settings = self.initial_settings(*component, *color);
                let deployment = deployment::deployment(&release(*color), *component, &settings);
                self.create(deployment.map_err(|error: RenderError| Error::Render {
                    object: names::workload(&self.observed.owner.name, *component, *color),
                    reason: error.to_string(),
                })?)
                .await
            }
            ObjectId::Front(component) => self.create(self.new_front(*component)).await,
            ObjectId::Revision(_) | ObjectId::Extra(_) => Ok(WriteOutcome::Done),
        }
    }

    fn template(&self, hash: &str) -> Result<(&ReleaseTemplate, ReleaseHash), Error> {
        let template = self.observed.template_of_hash(hash);
        template.ok_or_else(|| Error::Stale(format!("the template {hash}")))
    }

    /// Returns the defaults of a release: the recorded ones, else the current ones.
    fn defaults(&self, hash: &str) -> Defaults {
        let now = &self.shared.settings.defaults;
        let recorded = self.observed.revisions.iter().find(|found| found.object.hash == hash);
        let recorded = recorded.and_then(|found| found.object.defaults.as_deref());
        recorded.map_or_else(|| now.clone(), |recorded| recorded.under(now))
    }

    /// Returns the settings of a new Deployment. It gets at least as many replicas as the active color has (design D8),
    /// since an autoscaler may have scaled that one. A replica count that the spec just changed applies to both colors.
    fn initial_settings(&self, component: Component, color: Color) -> InPlace {
        let settings = InPlace::of(self.component_spec(component));
        let asked = settings.spec_replicas.to_string();
        let name = |active| names::workload(&self.observed.owner.name, component, active);
        let active = self
            .active_color()
            .filter(|active| *active != color)
            .and_then(|active| self.observed.deployments.ours(&name(active)))
            .filter(|active| active.annotation(names::APPLIED_REPLICAS) == Some(&asked));
        active.map_or(settings, |active| settings.at_least(active.replicas))
    }

    /// Writes the ControllerRevision of a release with its outcome. An existing revision keeps its template; a successful
    /// release moves to the end of the history.
    pub(super) async fn write_revision(
        &self,
        tagged: &ReleaseRef,
        failed: Option<&str>,
    ) -> Result<WriteOutcome, Error> {
        let owner = &self.observed.owner;
        let last = self.observed.snapshot.revisions.iter().map(|revision| revision.number).max().unwrap_or(0);
        let next = last.saturating_add(1);
        let name = names::revision(&owner.name, &tagged.version);
        let Some(seen) = self.observed.revisions.ours(&name) else {
            let (template, _) = self.template(&tagged.hash)?;
            let defaults = &self.shared.settings.defaults;
            return self
                .create(controller_revision::controller_revision(
                    owner,
                    template,
                    defaults,
                    &tagged.version,
                    next,
                    failed,
                ))
                .await;
        };
        let outcome = failed.map(|_| controller_revision::FAILED);
        let mut patch = json!({"metadata": {
            "resourceVersion": seen.object_meta().resource_version,
            "annotations": {names::OUTCOME: outcome, names::OUTCOME_REASON: failed},
        }});
        if failed.is_none() && seen.number < last.max(1) {
            patch.as_object_mut().map(|patch| patch.insert("revision".into(), json!(next)));
        }
        self.patch::<ControllerRevision>(&name, &patch).await
    }

    /// Applies a setting that follows the spec in place.
    pub(super) async fn apply_setting(&self, setting: Setting) -> Result<WriteOutcome, Error> {
        let owner = &self.observed.owner;
        match setting {
            Setting::Scale(component, color) => {
                let name = names::workload(&owner.name, component, color);
                let seen = find(&self.observed.deployments, &name)?;
                let settings = InPlace::of(self.component_spec(component));
                let asked = settings.spec_replicas.to_string();
                let scale = seen.annotation(names::APPLIED_REPLICAS) != Some(&asked);
                let version = seen.object_meta().resource_version.clone().unwrap_or_default();
                self.patch::<Deployment>(&name, &settings.patch(&version, scale)).await
            }
            Setting::Front(component) => {
                let name = names::front(&owner.name, component);
                let seen = find(&self.observed.services, &name)?;
                self.patch::<Service>(&name, &front_settings(seen, &self.new_front(component))).await
            }
            Setting::Extra(Extra::ServiceAccount) => {
                let spec = &self.observed.resource.spec.service_account;
                match service_account::service_account(owner, spec) {
                    Some(wanted) => self.apply_account(wanted).await,
                    None => Ok(WriteOutcome::Done),
                }
            }
            Setting::Extra(Extra::DisruptionBudget(component)) => {
                let policy = &self.component_spec(component).pod_disruption_budget;
                let wanted = self
                    .active_color()
                    .and_then(|color| pdb::disruption_budget(owner, component, color, policy));
                match wanted {
                    Some(wanted) => self.apply_budget(wanted).await,
                    None => Ok(WriteOutcome::Done),
                }
            }
        }
    }

    async fn apply_account(&self, wanted: ServiceAccount) -> Result<WriteOutcome, Error> {
        let Some(seen) = self.observed.accounts.ours(wanted.object_name()) else {
            return self.create(wanted).await;
        };
        let (before, after) = (seen.annotation(APPLIED_KEYS), wanted.annotation(APPLIED_KEYS));
        let (mut annotations, _) = last_applied::dropped(before, after);
        annotations.extend(texts(wanted.annotations()));
        let patch = json!({"metadata": {
            "resourceVersion": seen.object_meta().resource_version, "annotations": annotations,
        }});
        self.patch::<ServiceAccount>(wanted.object_name(), &patch).await
    }

    async fn apply_budget(&self, wanted: PodDisruptionBudget) -> Result<WriteOutcome, Error> {
        let Some(seen) = self.observed.budgets.ours(wanted.object_name()) else {
            return self.create(wanted).await;
        };
        let spec = wanted.spec.as_ref();
        let patch = json!({
            "metadata": {
                "resourceVersion": seen.object_meta().resource_version,
                "annotations": {APPLIED_SETTINGS: wanted.annotation(APPLIED_SETTINGS)},
            },
            "spec": {
                "minAvailable": spec.and_then(|spec| spec.min_available.clone()),
                "maxUnavailable": spec.and_then(|spec| spec.max_unavailable.clone()),
                "selector": spec.and_then(|spec| spec.selector.clone()),
            },
        });
        self.patch::<PodDisruptionBudget>(wanted.object_name(), &patch).await
    }

    pub(super) fn component_spec(&self, component: Component) -> &ComponentSpec {
        self.observed.resource.spec.component(component)
    }

    fn active_color(&self) -> Option<Color> {
        self.observed.status().and_then(|status| status.active_strategy)
    }
}

pub(super) fn texts(strings: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Value)> {
    strings.iter().map(|(key, value)| (key.clone(), Value::String(value.clone())))
}

/// Returns the patch of type, ports, labels and annotations of a front Service. It leaves the selector and the annotations of
/// the last switch alone.
fn front_settings(seen: &ServiceView, wanted: &Service) -> Value {
    let stamp = [names::RELEASE_VERSION, names::EPOCH, names::SWITCHED_AT];
    let (before, after) = (seen.annotation(APPLIED_KEYS), wanted.annotation(APPLIED_KEYS));
    let (mut annotations, mut labels) = last_applied::dropped(before, after);
    annotations.extend(texts(wanted.annotations()).filter(|(key, _)| !stamp.contains(&key.as_str())));
    labels.extend(texts(wanted.labels()));
    let spec = wanted.spec.as_ref();
    json!({
        "metadata": {
            "resourceVersion": seen.object_meta().resource_version,
            "annotations": annotations,
            "labels": labels,
        },
        "spec": {
            "type": spec.and_then(|spec| spec.type_.clone()),
            "ports": spec.and_then(|spec| spec.ports.clone()),
        },
    })
}
