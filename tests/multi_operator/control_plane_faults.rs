//! Failures of the control plane during rollouts, one after another in a cluster without a watch cache. A restart of
//! kube-apiserver is also tested with a watch cache.
//!
//! Many resources, each with its own operator behind a proxy, start a rollout together. The proxies hold each rollout
//! at another write. Then the control plane fails, the held writes are released or lost, and every resource must come
//! to rest on the requested release without a violated invariant. Without a watch cache, watches resume from etcd:
//! the timelines have no gaps, and a compaction affects the operators.

use std::time::{Duration, Instant};

use futures::future::join_all;
use testbed::proxy::{Fault, Halt, Outage};
use testbed::resource::quick;
use testbed::{Kind, Options};

use crate::SUITE;
use crate::outdated_crd;
use crate::rollout_scenario::serves;
use testbed::harness::{POLL_INTERVAL, ProxiedOperator, TIME_LIMIT, TestCluster, WatchedResource};

/// Number of writes of an upgrade, and of resources: each is held at another write.
const WRITES: usize = 21;

/// A resource with its own operator.
pub struct ManagedResource {
    /// The resource.
    pub resource: WatchedResource,
    /// The operator.
    pub operator: ProxiedOperator,
    /// The number of the write at which its rollout is held.
    pub number: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_may_fail_at_any_write() {
    let options = Options { apiserver_args: vec!["--watch-cache=false".into()], ..Options::default() };
    let cluster = SUITE.own("control-plane", options).await;
    let start = Instant::now();
    let mut resources = managed_resources(&cluster).await;
    restarted(&cluster, &mut resources).await;
    crashed(&cluster, &mut resources).await;
    without_etcd(&cluster, &mut resources).await;
    without_managers(&cluster, &mut resources).await;
    compacted(&cluster, &mut resources).await;
    for found in join_all(resources.iter_mut().map(ManagedResource::violations)).await {
        assert!(found.is_empty(), "{found:#?}");
    }
    outdated_crd::outdated_at_any_write(&cluster, &mut resources).await;
    println!(
        "control plane: {WRITES} writes, {} faults each, {:.0} s",
        5 + outdated_crd::OLDER.len(),
        start.elapsed().as_secs_f64()
    );
    drop(resources);
    cluster.remove_logs();
}

/// With a watch cache, as clusters have it, a new kube-apiserver refuses to resume the watches of the previous one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_api_server_knows_no_watch() {
    let cluster = SUITE.own("watch-cache", Options::default()).await;
    let mut resources = managed_resources(&cluster).await;
    let held = all_held(&mut resources, "2", Fault::HoldBefore).await;
    restart(&cluster).await;
    // The timelines cannot resume either. New timelines start before the rollout continues, so that nothing is
    // missed.
    join_all(resources.iter_mut().map(|managed| managed.resource.restart_timeline(&cluster.client))).await;
    held.into_iter().for_each(Halt::done);
    all_rest(&resources, "kube-apiserver with a watch cache restarted", "2").await;
    are_told(&resources, "a restart");
    for found in join_all(resources.iter_mut().map(ManagedResource::violations)).await {
        assert!(found.is_empty(), "{found:#?}");
    }
    drop(resources);
    cluster.remove_logs();
}

async fn managed_resources(cluster: &TestCluster) -> Vec<ManagedResource> {
    join_all((1..=WRITES).map(|number| managed_resource(cluster, number))).await
}

async fn restart(cluster: &TestCluster) {
    cluster.control_plane.stop_component("kube-apiserver").unwrap();
    cluster.control_plane.start_component("kube-apiserver").await.unwrap();
}

/// Asserts that the operators got an expired resourceVersion on their watches.
fn are_told(resources: &[ManagedResource], what: &str) {
    let refused = resources.iter().filter(|managed| managed.operator.log().contains("too old")).count();
    assert!(refused * 2 > resources.len(), "{what}: only {refused} operators had a watch refused as too old");
}

async fn managed_resource(cluster: &TestCluster, number: usize) -> ManagedResource {
    let resource = cluster.resource(&format!("plane-{number}")).await;
    let operator = cluster.operator(&resource.namespace, "a", &["--leader-elect=false"]).await;
    {
        let _place = SUITE.places().place().await;
        resource.deploy(&quick("1", "1")).await;
    }
    ManagedResource { resource, operator, number }
}

impl ManagedResource {
    /// Asks for a release and waits until its rollout is held. None if it needed fewer writes.
    pub async fn held(&mut self, tag: &str, fault: Fault) -> Option<Halt> {
        let act = async { self.resource.subject.upgrade(tag, tag).await.unwrap() };
        let over = self.resource.rests(TIME_LIMIT, |state| serves(state, tag));
        let held = self.operator.held(self.number, fault, act, over).await?;
        // A paused operator does not cancel and repeat its write before the last rollout is held.
        self.operator.process.pause();
        Some(held)
    }

    /// Waits until a release is active and the namespace is quiet.
    pub async fn rests(&self, what: &str, tag: &str) {
        let rests = self.resource.rests(TIME_LIMIT, |state| serves(state, tag)).await;
        let Self { resource, number, .. } = self;
        assert!(
            rests,
            "{what} at write {number} ({}): {tag} does not serve; {}",
            resource.namespace,
            resource.last()
        );
    }

    async fn violations(&mut self) -> Vec<String> {
        let mut found = self.resource.violations().await;
        found.extend(self.operator.trouble(false));
        found.into_iter().map(|text| format!("{}: {text}", self.resource.namespace)).collect()
    }
}

/// Starts a rollout of all resources, and waits until all are held.
pub async fn all_held(resources: &mut [ManagedResource], tag: &str, fault: Fault) -> Vec<Halt> {
    let held: Vec<Halt> = join_all(resources.iter_mut().map(|managed| managed.held(tag, fault)))
        .await
        .into_iter()
        .flatten()
        .collect();
    for managed in resources.iter() {
        managed.operator.process.resume();
    }
    // Two status writes may become one.
    assert!(held.len() + 2 >= WRITES, "only {} of {WRITES} were held", held.len());
    held
}

/// Waits until all resources are at rest on a release.
pub async fn all_rest(resources: &[ManagedResource], what: &str, tag: &str) {
    let start = Instant::now();
    join_all(resources.iter().map(|managed| managed.rests(what, tag))).await;
    println!("control plane: {what}: all at rest after {:.1} s", start.elapsed().as_secs_f64());
}

/// Stops and starts kube-apiserver. The held writes reach the new one.
async fn restarted(cluster: &TestCluster, resources: &mut [ManagedResource]) {
    let held = all_held(resources, "2", Fault::HoldBefore).await;
    restart(cluster).await;
    held.into_iter().for_each(Halt::done);
    all_rest(resources, "kube-apiserver restarted", "2").await;
}

/// Kills kube-apiserver after it has carried out the held writes. Their answers are lost.
async fn crashed(cluster: &TestCluster, resources: &mut [ManagedResource]) {
    let held = all_held(resources, "3", Fault::HoldAfter).await;
    cluster.control_plane.kill_component("kube-apiserver").unwrap();
    held.into_iter().for_each(Halt::cut);
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.control_plane.start_component("kube-apiserver").await.unwrap();
    all_rest(resources, "kube-apiserver killed", "3").await;
}

/// Stops etcd before the held writes arrive.
async fn without_etcd(cluster: &TestCluster, resources: &mut [ManagedResource]) {
    let held = all_held(resources, "4", Fault::HoldBefore).await;
    cluster.control_plane.kill_component("etcd").unwrap();
    held.into_iter().for_each(Halt::done);
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.control_plane.start_component("etcd").await.unwrap();
    all_rest(resources, "etcd killed", "4").await;
}

/// Stops kube-controller-manager for a while: no Pods, no endpoints, no garbage collection. No operator may regard
/// these as done.
async fn without_managers(cluster: &TestCluster, resources: &mut [ManagedResource]) {
    let held = all_held(resources, "5", Fault::HoldBefore).await;
    cluster.control_plane.stop_component("kube-controller-manager").unwrap();
    held.into_iter().for_each(Halt::done);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut pruning = 0;
    for managed in resources.iter() {
        let history = managed.resource.history().await;
        let state = managed.resource.subject.state(&history).unwrap();
        let colors: std::collections::BTreeSet<_> = history
            .all_live(Kind::Pod)
            .iter()
            .filter_map(|pod| pod.label("strategy").map(str::to_owned))
            .collect();
        pruning += usize::from(state.step() == "Prune" && colors.len() == 2);
        assert!(
            !state.is_stable() || state.active() != state.version_of_tag("5") || colors.len() == 1,
            "{}: Stable with pods of {colors:?}",
            managed.resource.namespace
        );
    }
    assert!(pruning >= 2, "only {pruning} were met in Prune with pods on both colors");
    cluster.control_plane.start_component("kube-controller-manager").await.unwrap();
    all_rest(resources, "kube-controller-manager stopped", "5").await;
}

/// Cuts the operators off. Meanwhile the user changes the spec and etcd is compacted. The operators must list again
/// to see the missed changes.
async fn compacted(cluster: &TestCluster, resources: &mut [ManagedResource]) {
    let held = all_held(resources, "6", Fault::HoldBefore).await;
    for managed in resources.iter() {
        managed.operator.proxy.outage(Outage::All);
    }
    held.into_iter().for_each(Halt::cut);
    for managed in resources.iter() {
        managed.resource.subject.upgrade("7", "7").await.unwrap();
    }
    // The timelines must be up to date before the compaction.
    join_all(resources.iter().map(|managed| managed.resource.history())).await;
    tokio::time::sleep(POLL_INTERVAL).await;
    cluster.control_plane.compact().await.unwrap();
    for managed in resources.iter() {
        managed.operator.proxy.outage(Outage::None);
    }
    all_rest(resources, "etcd compacted", "7").await;
    are_told(resources, "a compaction");
}
