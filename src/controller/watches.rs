//! Watches of the objects of resources. They fill the caches and trigger reconciles.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, channel::mpsc};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tracing::{error, warn};

use super::Parsed;
use crate::namespaced_name::NamespacedName;
use crate::observe::Snapshot;
use crate::observe::cache::Cache;
use crate::observe::views::{
    ConfigMapView, DeploymentView, DisruptionBudgetView, EndpointSliceView, PodView, RevisionView,
    ServiceAccountView, ServiceView,
};
use api::names::{Color, Component, LABEL_APP, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_STRATEGY, MANAGER};

/// Objects per page of a list. Small pages limit the peak memory of a relist.
const PAGE: u32 = 100;

/// The caches of one scope: a namespace or the whole cluster.
#[derive(Debug, Default)]
pub struct Caches {
    deployments: Cache<DeploymentView>,
    services: Cache<ServiceView>,
    config_maps: Cache<ConfigMapView>,
    pods: Cache<PodView>,
    slices: Cache<EndpointSliceView>,
    revisions: Cache<RevisionView>,
    accounts: Cache<ServiceAccountView>,
    budgets: Cache<DisruptionBudgetView>,
    /// True if changes trigger reconciles.
    triggering: AtomicBool,
}

impl Caches {
    /// Starts to trigger reconciles. Changes before need no trigger: the controller starts with every resource.
    pub fn start_triggering(&self) {
        self.triggering.store(true, Ordering::Release);
    }

    /// Returns the cached objects of a resource.
    pub fn snapshot(&self, key: &NamespacedName) -> Snapshot {
        Snapshot {
            predecessor: None,
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

    /// Returns whether the cache has a ServiceAccount or a PodDisruptionBudget of a resource.
    pub fn has_extras(&self, key: &NamespacedName) -> bool {
        !self.accounts.of(key).is_empty() || !self.budgets.of(key).is_empty()
    }

    /// Returns the kinds whose first list is not complete.
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

/// The channel of resources to reconcile.
pub type Triggers = mpsc::UnboundedSender<ObjectRef<Parsed>>;

/// Returns the API of a kind in a scope.
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
    let (ours, selectable) = (format!("{LABEL_MANAGED_BY}={MANAGER}"), selectable_pods());
    let notify = |keys: Vec<NamespacedName>| {
        if caches.triggering.load(Ordering::Acquire) {
            trigger(keys, &triggers);
        }
    };
    futures::join!(
        follow(scoped(&client, scope), &ours, &caches.deployments, notify, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.services, notify, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.config_maps, notify, |_| ()),
        follow(scoped(&client, scope), &selectable, &caches.pods, notify, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.slices, notify, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.revisions, notify, RevisionView::forget_template),
        follow(scoped(&client, scope), &ours, &caches.accounts, notify, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.budgets, notify, |_| ()),
    );
}

/// Returns the label selector of Pods that a Service of a resource can select, whichever client created them.
fn selectable_pods() -> String {
    let components = Component::ALL.map(Component::as_str).join(",");
    let colors = Color::ALL.map(Color::as_str).join(",");
    format!("{LABEL_APP},{LABEL_COMPONENT} in ({components}),{LABEL_STRATEGY} in ({colors})")
}

async fn follow<K>(
    api: Api<K>,
    labels: &str,
    cache: &Cache<K>,
    notify: impl Fn(Vec<NamespacedName>),
    trim: fn(&mut K),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(labels).page_size(PAGE);
    let mut events = std::pin::pin!(watcher(api, config).modify(trim).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => notify(cache.apply(event)),
            Err(failure) => report(&K::plural(&()), &failure),
        }
    }
}

fn trigger(keys: Vec<NamespacedName>, triggers: &Triggers) {
    for key in keys {
        // The send fails only while the process stops.
        let _ = triggers.unbounded_send(key.object_ref());
    }
}

/// Logs a broken watch. It is retried with backoff; only a missing permission needs action.
pub fn report(kind: &str, failure: &watcher::Error) {
    if status_code(failure) == Some(403) {
        error!(kind, error = %failure, "watch forbidden; grant get, list and watch on this kind to the operator's ServiceAccount");
    } else {
        warn!(kind, error = %failure, "watch failed, retrying");
    }
}

/// Returns the HTTP status of a failed watch, if the API server answered.
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
