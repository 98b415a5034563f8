//! Watches of the objects that belong to resources. They fill the cache and say which resource to look at again.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt, channel::mpsc};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{error, warn};

use super::Guarded;
use crate::names::{LABEL_MANAGED_BY, MANAGER};
use crate::observe::derive::World;
use crate::observe::index::{Index, Key};
use crate::observe::views::{
    ConfigMapView, DeploymentView, DisruptionBudgetView, EndpointSliceView, PodView, RevisionView,
    ServiceAccountView, ServiceView,
};

/// Objects per answer of a list; small pages keep the peak of a re-list low.
const PAGE: u32 = 100;

/// The cache of one scope (a namespace, or the whole cluster).
#[derive(Debug, Default)]
pub struct Caches {
    deployments: Index<DeploymentView>,
    services: Index<ServiceView>,
    config_maps: Index<ConfigMapView>,
    pods: Index<PodView>,
    slices: Index<EndpointSliceView>,
    revisions: Index<RevisionView>,
    accounts: Index<ServiceAccountView>,
    budgets: Index<DisruptionBudgetView>,
}

impl Caches {
    /// What was last seen of a resource's objects.
    pub fn world(&self, key: &Key) -> World {
        World {
            deployments: self.deployments.of(key),
            services: self.services.of(key),
            config_maps: self.config_maps.of(key),
            replica_sets: vec![],
            pods: self.pods.of(key),
            slices: self.slices.of(key),
            revisions: self.revisions.of(key),
            accounts: self.accounts.of(key),
            budgets: self.budgets.of(key),
        }
    }

    /// The kinds whose first list is not complete.
    pub fn incomplete(&self) -> Vec<&'static str> {
        [
            ("deployments", self.deployments.is_complete()),
            ("services", self.services.is_complete()),
            ("configmaps", self.config_maps.is_complete()),
            ("pods", self.pods.is_complete()),
            ("endpointslices", self.slices.is_complete()),
            ("controllerrevisions", self.revisions.is_complete()),
            ("serviceaccounts", self.accounts.is_complete()),
            ("poddisruptionbudgets", self.budgets.is_complete()),
        ]
        .into_iter()
        .filter_map(|(kind, complete)| (!complete).then_some(kind))
        .collect()
    }
}

/// Where resources to be looked at are announced.
pub type Triggers = mpsc::UnboundedSender<ObjectRef<Guarded>>;

/// The API of a kind in a scope.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches every kind of a scope until dropped.
pub async fn run(client: Client, namespace: Option<String>, caches: Arc<Caches>, triggers: Triggers) {
    let scope = namespace.as_deref();
    let caches = caches.as_ref();
    futures::join!(
        follow(scoped(&client, scope), &caches.deployments, &triggers, |_| ()),
        follow(scoped(&client, scope), &caches.services, &triggers, |_| ()),
        follow(scoped(&client, scope), &caches.config_maps, &triggers, strip),
        follow(scoped(&client, scope), &caches.pods, &triggers, |_| ()),
        follow(scoped(&client, scope), &caches.slices, &triggers, |_| ()),
        follow(scoped(&client, scope), &caches.revisions, &triggers, RevisionView::forget_template),
        follow(scoped(&client, scope), &caches.accounts, &triggers, strip),
        follow(scoped(&client, scope), &caches.budgets, &triggers, strip),
    );
}

fn strip<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
}

async fn follow<K>(api: Api<K>, index: &Index<K>, triggers: &Triggers, lean: fn(&mut K))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGER}")).page_size(PAGE);
    let mut events = std::pin::pin!(watcher(api, config).modify(lean).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => announce(index.apply(event), triggers),
            Err(failure) => report(&K::plural(&()), &failure),
        }
    }
}

fn announce(keys: Vec<Key>, triggers: &Triggers) {
    for (namespace, name) in keys {
        // The receiver is gone only while the process stops.
        let _ = triggers.unbounded_send(ObjectRef::new(&name).within(&namespace));
    }
}

/// Logs a broken watch: it is tried again with backoff, but missing rights need a person.
pub fn report(kind: &str, failure: &watcher::Error) {
    if status_code(failure) == Some(403) {
        error!(kind, error = %failure, "watch forbidden; grant get, list and watch on this kind to the operator's ServiceAccount");
    } else {
        warn!(kind, error = %failure, "watch broken, trying again");
    }
}

/// The HTTP status of a failed watch, if the server answered.
pub fn status_code(failure: &watcher::Error) -> Option<u16> {
    match failure {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}
