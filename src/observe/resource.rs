//! A resource with its objects, as read at one time.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::ownership::Owned;
use super::views::{
    ConfigMapView, DeploymentView, DisruptionBudgetView, EndpointSliceView, PodView, ReplicaSetView,
    RevisionView, ServiceAccountView, ServiceView,
};
use api::names::Owner;
use api::template::{ReleaseHash, ReleaseTemplate};
use api::{MetadataServices, MetadataServicesStatus};

/// The objects that carry the labels of a resource, from the cache or from live reads.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Deployments.
    pub deployments: Vec<Arc<DeploymentView>>,
    /// Front Services and color Services.
    pub services: Vec<Arc<ServiceView>>,
    /// ConfigMaps.
    pub config_maps: Vec<Arc<ConfigMapView>>,
    /// ReplicaSets; always empty in the cache.
    pub replica_sets: Vec<Arc<ReplicaSetView>>,
    /// Pods.
    pub pods: Vec<Arc<PodView>>,
    /// EndpointSlices.
    pub slices: Vec<Arc<EndpointSliceView>>,
    /// ControllerRevisions.
    pub revisions: Vec<Arc<RevisionView>>,
    /// ServiceAccounts.
    pub accounts: Vec<Arc<ServiceAccountView>>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<Arc<DisruptionBudgetView>>,
    /// Objects of an earlier operator; `None` in the cache, and if there are none.
    pub predecessor: Option<PredecessorObjects>,
}

/// The objects that tell whether what an earlier operator made can be adopted, whole.
#[derive(Clone, Debug, Default)]
pub struct PredecessorObjects {
    /// Deployments with the `app` label of the resource.
    pub deployments: Vec<Deployment>,
    /// Services with the `app` label of the resource.
    pub services: Vec<Service>,
}

/// A resource with its objects. The ownership of each object and the hash of the spec's template are judged here, once.
#[derive(Debug)]
pub struct ObservedResource<'a> {
    /// The resource.
    pub resource: &'a MetadataServices,
    /// Its objects, foreign ones included.
    pub snapshot: &'a Snapshot,
    /// The resource as the owner of its objects.
    pub owner: Owner,
    /// The release template of the spec.
    pub template: ReleaseTemplate,
    /// The hash of `template`.
    pub hash: ReleaseHash,
    /// Deployments that the resource owns or may adopt.
    pub deployments: Owned<'a, DeploymentView>,
    /// Services that the resource owns or may adopt.
    pub services: Owned<'a, ServiceView>,
    /// ConfigMaps that the resource owns or may adopt.
    pub config_maps: Owned<'a, ConfigMapView>,
    /// ControllerRevisions that the resource owns or may adopt.
    pub revisions: Owned<'a, RevisionView>,
    /// ServiceAccounts that the resource owns or may adopt.
    pub accounts: Owned<'a, ServiceAccountView>,
    /// PodDisruptionBudgets that the resource owns or may adopt.
    pub budgets: Owned<'a, DisruptionBudgetView>,
}

impl<'a> ObservedResource<'a> {
    /// Judges the objects of a snapshot.
    pub fn new(resource: &'a MetadataServices, snapshot: &'a Snapshot) -> Self {
        let owner = owner(resource);
        let template = ReleaseTemplate::of(&resource.spec);
        Self {
            resource,
            snapshot,
            hash: template.hash(),
            template,
            deployments: Owned::of(&snapshot.deployments, &owner),
            services: Owned::of(&snapshot.services, &owner),
            config_maps: Owned::of(&snapshot.config_maps, &owner),
            revisions: Owned::of(&snapshot.revisions, &owner),
            accounts: Owned::of(&snapshot.accounts, &owner),
            budgets: Owned::of(&snapshot.budgets, &owner),
            owner,
        }
    }

    /// The status, if the operator has written one.
    pub fn status(&self) -> Option<&'a MetadataServicesStatus> {
        self.resource.status.as_ref()
    }

    /// Returns the template with this hash: the template of the spec, or one from a ControllerRevision.
    pub fn template_of_hash(&self, hash: &str) -> Option<(&ReleaseTemplate, ReleaseHash)> {
        if self.hash.as_str() == hash {
            return Some((&self.template, self.hash.clone()));
        }
        let revision = self.revisions.iter().find(|found| found.object.hash == hash)?.object;
        Some((revision.template.as_deref()?, ReleaseHash::parse(hash)?))
    }

    /// Returns the template of a release in the history. The hash in the history identifies it; a version alone does not.
    pub fn template_of_version(&self, version: &str) -> Option<&ReleaseTemplate> {
        let record = self.status()?.record(version)?;
        self.template_of_hash(&record.hash).map(|(template, _)| template)
    }
}

/// Returns the resource as the owner of its objects.
fn owner(resource: &MetadataServices) -> Owner {
    Owner {
        name: resource.name_any(),
        namespace: resource.namespace().unwrap_or_default(),
        uid: resource.uid().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A rollback to the release of the spec needs no ControllerRevision.
    #[test]
    fn the_template_of_the_spec_is_restored_without_its_revision() {
        let spec = json!({"storage": {"imageTag": "1"}, "schema": {"imageTag": "1"}});
        let template = ReleaseTemplate::of(&serde_json::from_value(spec.clone()).unwrap());
        let record = |version: &str, hash: &str| {
            json!({"version": version, "hash": hash, "strategy": "blue", "storageTag": "1", "schemaTag": "1",
                "timestamp": "2026-09-21T14:13:20Z", "status": "Active"})
        };
        let history = json!([record("v1", template.hash().as_str()), record("v2", ""), record("v3", "abc")]);
        let resource: MetadataServices = serde_json::from_value(
            json!({"metadata": {"name": "a"}, "spec": spec, "status": {"releaseHistory": history}}),
        )
        .unwrap();
        let snapshot = Snapshot::default();
        let observed = ObservedResource::new(&resource, &snapshot);
        assert_eq!(observed.template_of_version("v1"), Some(&template));
        for unknown in ["v2", "v3", "v4"] {
            assert_eq!(observed.template_of_version(unknown), None);
        }
    }
}
