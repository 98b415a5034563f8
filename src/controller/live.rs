//! Live reads: what a pass that writes decides on (design D15).

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;

use super::error::Error;
use crate::observe::derive::World;
use crate::observe::index::Key;
use crate::observe::views::{DeploymentView, Meta, ReplicaSetView};
use api::MetadataServices;
use api::names::{self, Color, Component, LABEL_APP, LABEL_MANAGED_BY, MANAGER};

/// Reads the resource; `None` if it is gone.
pub async fn resource(client: &Client, key: &Key) -> Result<Option<MetadataServices>, Error> {
    let api: Api<MetadataServices> = Api::namespaced(client.clone(), &key.0);
    api.get_opt(&key.1).await.map_err(|source| Error::read("MetadataServices", &key.1, source))
}

/// Whether the resource is still what it was at this resourceVersion.
pub async fn unchanged(client: &Client, key: &Key, resource: &MetadataServices) -> Result<bool, Error> {
    use kube::ResourceExt;
    let api: Api<kube::core::PartialObjectMeta<MetadataServices>> = Api::namespaced(client.clone(), &key.0);
    let now = api.get_opt(&key.1).await.map_err(|source| Error::read("MetadataServices", &key.1, source))?;
    Ok(now.is_some_and(|now| {
        now.resource_version() == resource.resource_version() && now.uid() == resource.uid()
    }))
}

/// What is not read in every round.
#[derive(Clone, Copy, Debug)]
pub struct Also {
    /// ReplicaSets, which only the end of Prune looks at.
    pub sets: bool,
    /// ServiceAccounts and PodDisruptionBudgets, which most resources do not have.
    pub extras: bool,
}

/// Reads everything that carries the resource's labels.
pub async fn world(client: &Client, key: &Key, also: Also) -> Result<World, Error> {
    let ours = format!("{LABEL_APP}={},{LABEL_MANAGED_BY}={MANAGER}", key.1);
    // A pod is behind a selector by its labels alone, whoever made it.
    let anyones = format!("{LABEL_APP}={}", key.1);
    let (mut deployments, services, config_maps, pods, slices, revisions, accounts, budgets, replica_sets) =
        futures::try_join!(
            list(client, key, &ours),
            list(client, key, &ours),
            list(client, key, &ours),
            list(client, key, &anyones),
            list(client, key, &ours),
            list(client, key, &ours),
            async { if also.extras { list(client, key, &ours).await } else { Ok(vec![]) } },
            async { if also.extras { list(client, key, &ours).await } else { Ok(vec![]) } },
            async { if also.sets { list(client, key, &anyones).await } else { Ok(vec![]) } },
        )?;
    for name in unlisted(key, &deployments, &replica_sets) {
        let api: Api<DeploymentView> = Api::namespaced(client.clone(), &key.0);
        let found = api.get_opt(&name).await.map_err(|source| Error::read("Deployment", &name, source))?;
        deployments.extend(found.map(Arc::new));
    }
    Ok(World { deployments, services, config_maps, replica_sets, pods, slices, revisions, accounts, budgets })
}

/// The names of Deployments that are not listed although ReplicaSets of theirs are: one that has lost a label is still to
/// be deleted.
fn unlisted(key: &Key, listed: &[Arc<DeploymentView>], sets: &[Arc<ReplicaSetView>]) -> BTreeSet<String> {
    let every = |component| Color::ALL.map(|color| names::workload(&key.1, component, color));
    let mut ours: BTreeSet<String> = Component::ALL.into_iter().flat_map(every).collect();
    ours.retain(|name| {
        let owned = |set: &Arc<ReplicaSetView>| set.controller().is_some_and(|owner| owner.name == *name);
        sets.iter().any(owned) && !listed.iter().any(|found| found.object_name() == name)
    });
    ours
}

async fn list<K>(client: &Client, key: &Key, labels: &str) -> Result<Vec<Arc<K>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.0);
    let list = api
        .list(&ListParams::default().labels(labels))
        .await
        .map_err(|source| Error::read(&K::plural(&()), labels, source))?;
    Ok(list.items.into_iter().map(Arc::new).collect())
}
