//! Live reads. Every write is decided on them (design D15).

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::Error;
use crate::namespaced_name::NamespacedName;
use crate::observe::Snapshot;
use crate::observe::resource::PredecessorObjects;
use crate::observe::views::{DeploymentView, Meta, ReplicaSetView};
use api::MetadataServices;
use api::names::{self, Color, Component, LABEL_APP, LABEL_MANAGED_BY, MANAGER};

/// Reads the resource; `None` if it is gone.
pub async fn resource(client: &Client, key: &NamespacedName) -> Result<Option<MetadataServices>, Error> {
    get(client, key, &key.name).await
}

/// Returns whether the resource is unchanged since it was read.
pub async fn is_unchanged(
    client: &Client,
    key: &NamespacedName,
    resource: &MetadataServices,
) -> Result<bool, Error> {
    let now: Option<PartialObjectMeta<MetadataServices>> = get(client, key, &key.name).await?;
    Ok(now.is_some_and(|now| {
        now.resource_version() == resource.resource_version() && now.uid() == resource.uid()
    }))
}

/// Kinds that not every reconcile needs.
#[derive(Clone, Copy, Debug)]
pub struct Optional {
    /// ReplicaSets, which only the step Prune needs.
    pub replica_sets: bool,
    /// ServiceAccounts and PodDisruptionBudgets, which most resources do not have.
    pub extras: bool,
    /// Objects without a stamp, which an earlier operator made. Only a resource without a state machine can have them.
    pub unstamped: bool,
}

/// Reads the objects that carry the labels of the resource.
pub async fn snapshot(client: &Client, key: &NamespacedName, optional: Optional) -> Result<Snapshot, Error> {
    let managed = format!("{LABEL_APP}={},{LABEL_MANAGED_BY}={MANAGER}", key.name);
    // A Service selects Pods by labels alone, whichever client created them.
    let any = format!("{LABEL_APP}={}", key.name);
    let made = if optional.unstamped { &any } else { &managed };
    let (mut deployments, services, config_maps, pods, slices, revisions, accounts, budgets, replica_sets) =
        futures::try_join!(
            list(client, key, made),
            list(client, key, made),
            list(client, key, made),
            list(client, key, &any),
            list(client, key, &managed),
            list(client, key, &managed),
            async { if optional.extras { list(client, key, &managed).await } else { Ok(vec![]) } },
            async { if optional.extras { list(client, key, &managed).await } else { Ok(vec![]) } },
            async { if optional.replica_sets { list(client, key, &any).await } else { Ok(vec![]) } },
        )?;
    for name in unlisted(key, &deployments, &replica_sets) {
        let found: Option<DeploymentView> = get(client, key, &name).await?;
        deployments.extend(found.map(Arc::new));
    }
    Ok(Snapshot {
        deployments,
        services,
        config_maps,
        replica_sets,
        pods,
        slices,
        revisions,
        accounts,
        budgets,
        predecessor: None,
    })
}

/// Reads the objects of an earlier operator whole, and the endpoints of its front Services, which need not carry a label of
/// the resource.
pub async fn read_predecessor(
    client: &Client,
    key: &NamespacedName,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let any = format!("{LABEL_APP}={}", key.name);
    let fronts = Component::ALL.map(|component| names::front(&key.name, component));
    let of_fronts = format!("kubernetes.io/service-name in ({})", fronts.join(","));
    let (deployments, services, slices) = futures::try_join!(
        list_whole(client, key, &any),
        list_whole(client, key, &any),
        list(client, key, &of_fronts),
    )?;
    snapshot.predecessor = Some(PredecessorObjects { deployments, services });
    snapshot.slices = slices;
    Ok(())
}

/// Returns the names of Deployments that own a listed ReplicaSet and are not listed themselves. Such a Deployment has lost a
/// label and still has to be deleted.
fn unlisted(
    key: &NamespacedName,
    listed: &[Arc<DeploymentView>],
    sets: &[Arc<ReplicaSetView>],
) -> BTreeSet<String> {
    let every = |component| Color::ALL.map(|color| names::workload(&key.name, component, color));
    let mut ours: BTreeSet<String> = Component::ALL.into_iter().flat_map(every).collect();
    ours.retain(|name| {
        let owned = |set: &Arc<ReplicaSetView>| set.controller().is_some_and(|owner| owner.name == *name);
        sets.iter().any(owned) && !listed.iter().any(|found| found.object_name() == name)
    });
    ours
}

async fn get<K>(client: &Client, key: &NamespacedName, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    api.get_opt(name).await.map_err(|source| Error::read(&K::kind(&()), name, source))
}

async fn list<K>(client: &Client, key: &NamespacedName, labels: &str) -> Result<Vec<Arc<K>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    Ok(list_whole(client, key, labels).await?.into_iter().map(Arc::new).collect())
}

async fn list_whole<K>(client: &Client, key: &NamespacedName, labels: &str) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let list = api
        .list(&ListParams::default().labels(labels))
        .await
        .map_err(|source| Error::read(&K::plural(&()), labels, source))?;
    Ok(list.items)
}
