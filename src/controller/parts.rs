//! Which object each action means: rendering, and patches of what was read.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::{Value, json};

use super::error::Error;
use super::write::{Writer, Written, seen};
use crate::observe::views::{Meta, ServiceView};
use crate::resources::service::{self, Stamp};
use crate::resources::workload::InPlace;
use crate::resources::{Defaults, Release, RenderError, applied, config, revision, support, workload};
use api::names::{self, APPLIED_KEYS, APPLIED_SETTINGS, Color, Component};
use rollout::ReleaseRef;
use rollout::facts::{Extra, ObjectId, Route, Setting};

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

impl Writer<'_> {
    /// A front Service that selects nothing yet.
    pub(super) fn new_front(&self, component: Component) -> Service {
        service::front(&self.owner, component, &self.part(component).service, &Stamp::default())
    }

    /// The patch that makes a front Service, as it was read, carry a decision: selector and stamp in one request.
    pub(super) fn point(&self, seen: &ServiceView, component: Component, route: &Route) -> Value {
        let serves = !route.version.is_empty();
        let stamp = Stamp {
            color: route.color,
            version: serves.then(|| route.version.clone()),
            epoch: route.epoch,
            switched_at: self.scope.clock.now_for_record().map(|time| time.to_string()),
        };
        let version = seen.object_meta().resource_version.clone().unwrap_or_default();
        let mut patch = stamp.patch(&self.owner.name, component, &version);
        // A merge patch leaves what it does not name: foreign selector keys and an old version are named.
        let wanted = stamp.selector(&self.owner.name, component);
        if let Some(selector) = patch.pointer_mut("/spec/selector").and_then(Value::as_object_mut) {
            let foreign = seen.spec.selector.keys().filter(|key| !wanted.contains_key(*key));
            selector.extend(foreign.map(|key| (key.clone(), Value::Null)));
        }
        if let Some(annotations) =
            patch.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut).filter(|_| !serves)
        {
            annotations.insert(names::RELEASE_VERSION.into(), Value::Null);
        }
        patch
    }

    /// Creates an object of a color.
    pub(super) async fn create_part(&self, id: &ObjectId, tagged: &ReleaseRef) -> Result<Written, Error> {
        let (template, hash) = self.template(&tagged.hash)?;
        let defaults = self.defaults(&tagged.hash);
        let release = |color: Color| Release {
            owner: &self.owner,
            template: &template,
            color,
            version: &tagged.version,
            hash: &hash,
            epoch: tagged.epoch,
            defaults: &defaults,
        };
        match id {
            ObjectId::ConfigMap(component, color) => {
                self.create(config::config_map(&release(*color), *component)).await
            }
            ObjectId::Service(component, color) => {
                self.create(service::color(&release(*color), *component)).await
            }
            ObjectId::Deployment(component, color) => {
                let settings = self.initial(*component, *color);
                let deployment = workload::deployment(&release(*color), *component, &settings).map_err(
                    |error: RenderError| Error::Render {
                        object: self.name_of(id),
                        reason: error.to_string(),
                    },
                )?;
                self.create(deployment).await
            }
            ObjectId::Front(component) => self.create(self.new_front(*component)).await,
            ObjectId::Revision(_) | ObjectId::Extra(_) => Ok(Written::Done),
        }
    }

    /// What the operator adds to a release: what it added when the release was recorded, if it was.
    fn defaults(&self, hash: &str) -> Defaults {
        let now = &self.scope.settings.defaults;
        let recorded = self.world.revisions.iter().find(|revision| revision.hash == hash);
        let recorded = recorded.and_then(|revision| revision.defaults.as_deref());
        recorded.map_or_else(|| now.clone(), |recorded| recorded.under(now))
    }

    /// Settings of a new Deployment: at least as large as the serving color is now (design D8), since another hand, an
    /// autoscaler's say, may have scaled that. A number that the spec has just changed counts for both colors.
    fn initial(&self, component: Component, color: Color) -> InPlace {
        let settings = InPlace::of(self.part(component));
        let active = self.resource.status.as_ref().and_then(|status| status.active_strategy);
        let asked = settings.spec_replicas.to_string();
        let serving = active
            .filter(|active| *active != color)
            .and_then(|active| {
                self.ours(&self.world.deployments, &names::workload(&self.owner.name, component, active))
            })
            .filter(|serving| serving.annotation(names::APPLIED_REPLICAS) == Some(&asked));
        serving.map_or(settings, |serving| settings.at_least(serving.replicas))
    }

    /// Records a release as good or failed. One that is recorded keeps its template; a good one goes to the end of
    /// the history.
    pub(super) async fn record(&self, tagged: &ReleaseRef, failed: Option<&str>) -> Result<Written, Error> {
        let last = self.world.revisions.iter().map(|revision| revision.number).max().unwrap_or(0);
        let next = last.saturating_add(1);
        let name = names::revision(&self.owner.name, &tagged.version);
        let Some(seen) = self.ours(&self.world.revisions, &name) else {
            let (template, _) = self.template(&tagged.hash)?;
            let defaults = &self.scope.settings.defaults;
            let object = revision::controller_revision(
                &self.owner,
                &template,
                defaults,
                &tagged.version,
                next,
                failed,
            );
            return self.create(object).await;
        };
        let outcome = failed.map(|_| revision::FAILED);
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
    pub(super) async fn settle(&self, setting: Setting) -> Result<Written, Error> {
        match setting {
            Setting::Scale(component, color) => {
                let name = names::workload(&self.owner.name, component, color);
                let seen = seen(&self.world.deployments, &name)?;
                let settings = InPlace::of(self.part(component));
                let asked = settings.spec_replicas.to_string();
                let scale = seen.annotation(names::APPLIED_REPLICAS) != Some(&asked);
                let version = seen.object_meta().resource_version.clone().unwrap_or_default();
                self.patch::<Deployment>(&name, &settings.patch(&version, scale)).await
            }
            Setting::Front(component) => {
                let name = names::front(&self.owner.name, component);
                let seen = seen(&self.world.services, &name)?;
                let wanted = self.new_front(component);
                let patch = front_settings(seen, &wanted);
                self.patch::<Service>(&name, &patch).await
            }
            Setting::Extra(Extra::ServiceAccount) => {
                match support::service_account(&self.owner, &self.resource.spec.service_account) {
                    Some(wanted) => self.settle_account(wanted).await,
                    None => Ok(Written::Done),
                }
            }
            Setting::Extra(Extra::DisruptionBudget(component)) => {
                let active = self.resource.status.as_ref().and_then(|status| status.active_strategy);
                let policy = &self.part(component).pod_disruption_budget;
                let wanted = active
                    .and_then(|color| support::disruption_budget(&self.owner, component, color, policy));
                match wanted {
                    Some(wanted) => self.settle_budget(wanted).await,
                    None => Ok(Written::Done),
                }
            }
        }
    }

    async fn settle_account(&self, wanted: ServiceAccount) -> Result<Written, Error> {
        let Some(seen) = self.ours(&self.world.accounts, wanted.object_name()) else {
            return self.create(wanted).await;
        };
        let (was, is) = (seen.annotation(APPLIED_KEYS), wanted.annotation(APPLIED_KEYS));
        let (mut annotations, _) = applied::dropped(was, is);
        annotations.extend(texts(wanted.annotations()));
        let patch = json!({"metadata": {
            "resourceVersion": seen.object_meta().resource_version, "annotations": annotations,
        }});
        self.patch::<ServiceAccount>(wanted.object_name(), &patch).await
    }

    async fn settle_budget(&self, wanted: PodDisruptionBudget) -> Result<Written, Error> {
        let Some(seen) = self.ours(&self.world.budgets, wanted.object_name()) else {
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
}

fn texts(strings: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Value)> {
    strings.iter().map(|(key, value)| (key.clone(), Value::String(value.clone())))
}

/// Type, ports, labels and annotations of a front Service; its selector and stamp stay.
fn front_settings(seen: &ServiceView, wanted: &Service) -> Value {
    let stamp = [names::RELEASE_VERSION, names::EPOCH, names::SWITCHED_AT];
    let (was, is) = (seen.annotation(APPLIED_KEYS), wanted.annotation(APPLIED_KEYS));
    let (mut annotations, mut labels) = applied::dropped(was, is);
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
