//! Live reads: what a pass that writes decides on (design D15).

use std::sync::Arc;

use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;

use super::error::Error;
use crate::api::MetadataServices;
use crate::names::{LABEL_APP, LABEL_MANAGED_BY, MANAGER};
use crate::observe::derive::World;
use crate::observe::index::Key;

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
    let (deployments, services, config_maps, pods, slices, revisions, accounts, budgets, replica_sets) = futures::try_join!(
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
    Ok(World { deployments, services, config_maps, replica_sets, pods, slices, revisions, accounts, budgets })
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
