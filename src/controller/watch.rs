//! Watches of the objects that belong to resources. They fill the cache and say which resource to look at again.

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

use super::Guarded;
use crate::observe::derive::World;
use crate::observe::index::{Index, Key};
use crate::observe::views::{
    ConfigMapView, DeploymentView, DisruptionBudgetView, EndpointSliceView, PodView, RevisionView,
    ServiceAccountView, ServiceView,
};
use api::names::{Color, Component, LABEL_APP, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_STRATEGY, MANAGER};

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
    /// Whether somebody listens to what changes.
    announced: AtomicBool,
}

impl Caches {
    /// From now on changes are announced. Before, nobody looks, and then at every resource.
    pub fn announce(&self) {
        self.announced.store(true, Ordering::Release);
    }

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
    let (ours, selected) = (format!("{LABEL_MANAGED_BY}={MANAGER}"), behind_a_selector());
    let say = |keys: Vec<Key>| {
        if caches.announced.load(Ordering::Acquire) {
            announce(keys, &triggers);
        }
    };
    futures::join!(
        follow(scoped(&client, scope), &ours, &caches.deployments, say, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.services, say, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.config_maps, say, |_| ()),
        follow(scoped(&client, scope), &selected, &caches.pods, say, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.slices, say, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.revisions, say, RevisionView::forget_template),
        follow(scoped(&client, scope), &ours, &caches.accounts, say, |_| ()),
        follow(scoped(&client, scope), &ours, &caches.budgets, say, |_| ()),
    );
}

/// Pods that a Service of ours may select, whoever made them.
fn behind_a_selector() -> String {
    let components = Component::ALL.map(Component::as_str).join(",");
    let colors = Color::ALL.map(Color::as_str).join(",");
    format!("{LABEL_APP},{LABEL_COMPONENT} in ({components}),{LABEL_STRATEGY} in ({colors})")
}

async fn follow<K>(api: Api<K>, labels: &str, index: &Index<K>, say: impl Fn(Vec<Key>), lean: fn(&mut K))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(labels).page_size(PAGE);
    let mut events = std::pin::pin!(watcher(api, config).modify(lean).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => say(index.apply(event)),
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
