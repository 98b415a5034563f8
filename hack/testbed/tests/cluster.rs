//! Tests of the control plane: simulated Pods, stopped components, and the removal of everything at the end.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy knows only the test functions as tests"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::audit::AuditLog;
use testbed::cluster::client_of;
use testbed::{Cluster, Entry, History, Kind, Options, Timeline, Verb, pace};
use tokio::sync::Mutex;

/// Two cores: one test at a time.
static TURN: Mutex<()> = Mutex::const_new(());

const SOON: Duration = Duration::from_secs(60);

async fn deploy(client: &Client, name: &str, image: &str) {
    let labels = json!({"app": name});
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": image}, {"name": "side", "image": "side:1"}]},
        }},
    }))
    .unwrap();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"selector": labels, "ports": [{"port": 80}]},
    }))
    .unwrap();
    let params = PostParams::default();
    Api::default_namespaced(client.clone()).create(&params, &service).await.unwrap();
    Api::default_namespaced(client.clone()).create(&params, &deployment).await.unwrap();
}

fn pods<'a>(history: &'a History, app: &str) -> Vec<&'a Entry> {
    let live = history.all_live(Kind::Pod).into_iter();
    live.map(|entry| &**entry).filter(|entry| entry.label("app") == Some(app)).collect()
}

/// How many endpoints of a Service are ready, of how many.
fn endpoints(history: &History, service: &str) -> (usize, usize) {
    let slices = history.all_live(Kind::EndpointSlice).into_iter();
    let of_service = slices.filter(|slice| slice.label("kubernetes.io/service-name") == Some(service));
    let all: Vec<Value> =
        of_service.filter_map(|slice| slice.get("/endpoints")?.as_array().cloned()).flatten().collect();
    let ready = all.iter().filter(|one| one.pointer("/conditions/ready") == Some(&json!(true))).count();
    (ready, all.len())
}

/// Waits until both pods of an app are as wanted and its `EndpointSlices` say the same.
async fn wait_pods(timeline: &Timeline, app: &str, ready: bool, reason: &str) {
    let check = |history: &History| {
        let pods = pods(history, app);
        let fits = |pod: &&Entry| {
            pod.condition("Ready") == if ready { "True" } else { "False" }
                && pod.condition("ContainersReady") == pod.condition("Ready")
                && pod.text("/status/containerStatuses/0/state/waiting/reason") == reason
        };
        let endpoints = endpoints(history, app);
        (pods.len() == 2 && pods.iter().all(fits) && endpoints == (if ready { 2 } else { 0 }, 2))
            .then_some(())
    };
    timeline.wait_until(&format!("{app}: ready {ready} {reason}"), SOON, check).await.unwrap();
}

/// The seconds from a pod's start to the first of its states for which `state` holds.
fn seconds_until(history: &History, app: &str, state: impl Fn(&Entry) -> bool) -> f64 {
    let name = &pods(history, app)[0].name;
    let running = |entry: &Entry| entry.get("/status/containerStatuses").is_some();
    let start = history.of(Kind::Pod, name).find(|entry| running(entry)).unwrap();
    let end = history.of(Kind::Pod, name).find(|entry| running(entry) && state(entry)).unwrap();
    end.at.as_secs_f64() - start.at.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_do_what_their_tag_says() {
    let start = Instant::now();
    let _turn = TURN.lock().await;
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let client = cluster.client().unwrap();
    let timeline = Timeline::start(client.clone(), Some("default")).await.unwrap();
    let tags =
        ["1.0", "1-crash", "1-nopull", "1-noconfig", "1-neverready", "1-slow", "1-flaky", "1-latecrash"];
    for tag in tags {
        deploy(
            &client,
            &format!("app-{}", tag.replace('.', "-")),
            &format!("reg.test:5000/e6/storage:{tag}"),
        )
        .await;
    }
    deploy(&client, "digest", &format!("storage:1-crash@sha256:{}", "a".repeat(64))).await;
    deploy(&client, "untagged", "reg.test:5000/some-crash").await;

    wait_pods(&timeline, "app-1-0", true, "").await;
    wait_pods(&timeline, "untagged", true, "").await;
    wait_pods(&timeline, "app-1-crash", false, "CrashLoopBackOff").await;
    wait_pods(&timeline, "digest", false, "CrashLoopBackOff").await;
    wait_pods(&timeline, "app-1-nopull", false, "ImagePullBackOff").await;
    wait_pods(&timeline, "app-1-noconfig", false, "CreateContainerConfigError").await;
    wait_pods(&timeline, "app-1-neverready", false, "").await;
    wait_pods(&timeline, "app-1-slow", true, "").await;
    wait_pods(&timeline, "app-1-latecrash", false, "CrashLoopBackOff").await;
    wait_pods(&timeline, "app-1-flaky", false, "").await;
    timeline.settle(SOON).await.unwrap();
    assert_eq!(timeline.gaps(), 0);
    check_statuses(&timeline.history());
    check_clocks(&timeline.history(), pace::lateness(start));
    by_hand(&client, &timeline).await;
    check_audit(&cluster).await;
}

/// The statuses that a kubelet would write.
fn check_statuses(history: &History) {
    for pod in history.all_live(Kind::Pod) {
        for pointer in ["/status/podIP", "/status/hostIP", "/status/startTime", "/spec/nodeName"] {
            assert!(!pod.text(pointer).is_empty(), "{pointer} of {}", pod.name);
        }
        for condition in ["Initialized", "PodScheduled", "PodReadyToStartContainers"] {
            assert_eq!(pod.condition(condition), "True", "{condition} of {}", pod.name);
        }
        assert_eq!(pod.get("/status/containerStatuses/1/ready"), Some(&json!(true)), "{}", pod.name);
        assert_eq!(pod.text("/status/containerStatuses/1/image"), "side:1");
    }
    let crash = pods(history, "app-1-crash")[0];
    assert_eq!(crash.text("/status/phase"), "Running");
    assert_eq!(crash.number("/status/containerStatuses/0/restartCount"), 5);
    assert_eq!(crash.number("/status/containerStatuses/0/lastState/terminated/exitCode"), 1);
    assert_eq!(crash.text("/status/containerStatuses/0/lastState/terminated/reason"), "Error");
    let pull = pods(history, "app-1-nopull")[0];
    assert_eq!(pull.text("/status/phase"), "Pending");
    let message = pull.text("/status/containerStatuses/0/state/waiting/message");
    assert!(message.starts_with("Back-off pulling image \"reg.test:5000/e6/storage:1-nopull\""), "{message}");
    let config = pods(history, "app-1-noconfig")[0];
    assert_eq!(config.text("/status/containerStatuses/0/state/waiting/message"), "secret \"x\" not found");
    let late = pods(history, "app-1-latecrash")[0];
    assert_eq!(late.number("/status/containerStatuses/0/restartCount"), 1);
    assert_eq!(late.number("/status/containerStatuses/0/lastState/terminated/exitCode"), 1);
    let flaky = pods(history, "app-1-flaky")[0];
    assert!(flaky.get("/status/containerStatuses/0/state/running").is_some());
}

/// Delayed events arrive at the expected times.
fn check_clocks(history: &History, late: Duration) {
    let ready = |entry: &Entry| entry.condition("Ready") == "True";
    let unready = |entry: &Entry| entry.condition("Ready") == "False";
    let slow = seconds_until(history, "app-1-slow", ready);
    let in_time =
        |is: f64, least: f64| is > least - late.as_secs_f64() && is < (least + 3.5) * pace::slower(late);
    assert!(in_time(slow, 4.0), "slow: {slow}, late by {late:?}");
    for app in ["app-1-flaky", "app-1-latecrash"] {
        let broken = seconds_until(history, app, unready);
        assert!(in_time(broken, 5.0), "{app}: {broken}, late by {late:?}");
    }
}

/// A patched status stays, a repaired flaky Pod stays ready, and a deleted Pod disappears at once.
async fn by_hand(client: &Client, timeline: &Timeline) {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let patch = async |app: &str, ready: &str| {
        let name = pods(&timeline.history(), app)[0].name.clone();
        let conditions = json!([{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "ContainersReady", "status": ready}]);
        let status = json!({"status": {"conditions": conditions}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status)).await.unwrap();
        name
    };
    let broken = patch("app-1-0", "False").await;
    let healed = patch("app-1-flaky", "True").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let history = timeline.history();
    assert_eq!(history.live(Kind::Pod, &broken).unwrap().condition("Ready"), "False");
    assert_eq!(history.live(Kind::Pod, &healed).unwrap().condition("Ready"), "True");
    assert_eq!(endpoints(&history, "app-1-0"), (1, 2));
    assert_eq!(endpoints(&history, "app-1-flaky"), (1, 2));

    let start = Instant::now();
    api.delete(&broken, &DeleteParams::default()).await.unwrap();
    let gone = |history: &History| {
        (history.latest(Kind::Pod, &broken)?.verb == Verb::Deleted).then(|| start.elapsed())
    };
    let took = timeline.wait_until("the pod to go", SOON, gone).await.unwrap();
    let most = 3.0 * pace::slower(pace::lateness(start));
    assert!((0.3..most).contains(&took.as_secs_f64()), "{took:?}");
    wait_pods(timeline, "app-1-0", true, "").await;
}

/// The audit log contains the requests of the test, but not those of the control plane. A user without rights is
/// denied.
async fn check_audit(cluster: &Cluster) {
    let limited = cluster.kubeconfig_for("alice", Some("people")).unwrap();
    let alice = client_of(&limited).unwrap();
    assert!(Api::<ConfigMap>::default_namespaced(alice).list(&ListParams::default()).await.is_err());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let log = AuditLog::read(cluster.audit_log().unwrap()).unwrap();
    let ours = log.by_agent("testbed").by_user("testbed:admin").in_namespace("default");
    let counts = ours.write_counts();
    assert_eq!(counts.of("create", "deployments"), 10);
    assert_eq!(counts.of("patch", "pods/status"), 2);
    assert_eq!(counts.of("delete", "pods"), 1);
    assert_eq!((counts.total(), counts.events, counts.leases), (23, 0, 0));
    assert_eq!(log.forbidden().by_user("alice").requests().len(), 1);
    let others: Vec<_> = log.requests().iter().filter(|one| one.user_agent != "testbed").collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The processes whose command line names the directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let mark = format!("{}/", dir.display());
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    all.filter(|line| line.contains(&mark)).collect()
}

async fn configmap(client: &Client, name: &str) {
    let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::default_namespaced(client.clone()).create(&PostParams::default(), &object).await.unwrap();
}

fn has(name: &str) -> impl Fn(&History) -> Option<()> {
    move |history| history.live(Kind::ConfigMap, name).map(|_| ())
}

/// A hundred quick changes are a hundred entries.
async fn every_version_is_seen(client: &Client, timeline: &Timeline) {
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut versions = Vec::new();
    for count in 0..100 {
        let patch = Patch::Merge(json!({"data": {"count": count.to_string()}}));
        let patched = api.patch("only-in-one", &PatchParams::default(), &patch).await.unwrap();
        versions.push(patched.metadata.resource_version.unwrap().parse::<u64>().unwrap());
    }
    timeline.settle(SOON).await.unwrap();
    let history = timeline.history();
    let seen: Vec<u64> =
        history.of(Kind::ConfigMap, "only-in-one").map(|entry| entry.resource_version).collect();
    assert_eq!(seen[1..], versions);
    assert_eq!(timeline.gaps(), 0);
}

/// An API server without a watch cache forgets nothing when it is restarted.
async fn no_gap_without_a_cache(cluster: &Cluster) {
    let client = cluster.client().unwrap();
    let timeline = Timeline::start(client.clone(), None).await.unwrap();
    cluster.stop_component("kube-apiserver").unwrap();
    cluster.start_component("kube-apiserver").await.unwrap();
    configmap(&client, "after-restart").await;
    timeline.wait_until("the ConfigMap after a restart", SOON, has("after-restart")).await.unwrap();
    assert_eq!(timeline.gaps(), 0);
    timeline.settle(SOON).await.unwrap();
}

/// A paused server answers nothing any more. Its threads stop one after another, so a last answer may come out.
async fn falls_silent(client: &Client) -> bool {
    for _ in 0..5 {
        if tokio::time::timeout(Duration::from_secs(1), client.apiserver_version()).await.is_err() {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_can_be_broken_and_leave_nothing() {
    let _turn = TURN.lock().await;
    let plain = Options { apiserver_args: vec!["--watch-cache=false".into()], ..Options::default() };
    let (one, two) = tokio::join!(Cluster::start(Options::default()), Cluster::start(plain));
    let (one, two) = (one.unwrap(), two.unwrap());
    let client = one.client().unwrap();
    let timeline = Timeline::start(client.clone(), None).await.unwrap();
    configmap(&client, "only-in-one").await;
    configmap(&two.client().unwrap(), "only-in-two").await;
    timeline.wait_until("the ConfigMap", SOON, has("only-in-one")).await.unwrap();
    assert!(timeline.latest(Kind::ConfigMap, "only-in-two").is_none());
    every_version_is_seen(&client, &timeline).await;

    one.stop_component("kube-apiserver").unwrap();
    assert!(client.apiserver_version().await.is_err());
    assert!(one.start_component("no-such").await.is_err());
    one.start_component("kube-apiserver").await.unwrap();
    configmap(&client, "after-restart").await;
    timeline.wait_until("the ConfigMap after a restart", SOON, has("after-restart")).await.unwrap();
    assert!(timeline.gaps() > 0);
    no_gap_without_a_cache(&two).await;
    one.kill_component("etcd").unwrap();
    one.start_component("etcd").await.unwrap();
    deploy(&client, "app", "storage:1").await;
    wait_pods(&timeline, "app", true, "").await;

    one.pause_component("kube-apiserver").unwrap();
    assert!(falls_silent(&client).await, "a paused API server goes on answering");
    one.resume_component("kube-apiserver").unwrap();
    client.apiserver_version().await.unwrap();
    timeline.settle(SOON).await.unwrap();
    drop(timeline);

    let dirs = [one.dir().unwrap().to_path_buf(), two.dir().unwrap().to_path_buf()];
    assert_eq!(one.processes().len(), 5);
    // The guard names the directory as well.
    assert_eq!(processes_of(&dirs[0]).len(), 6, "{:?}", processes_of(&dirs[0]));
    one.stop();
    two.stop();
    for dir in dirs {
        assert!(processes_of(&dir).is_empty(), "{:?}", processes_of(&dir));
        assert!(!dir.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "played by `a_cluster_dies_with_its_owner`"]
async fn owner_that_aborts() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    std::fs::write(std::env::var("TESTBED_TELL").unwrap(), cluster.dir().unwrap().display().to_string())
        .unwrap();
    std::process::abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_dies_with_its_owner() {
    let _turn = TURN.lock().await;
    let scratch = tempfile::tempdir().unwrap();
    let tell = scratch.path().join("dir");
    let owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_that_aborts", "--ignored"])
        .env("TESTBED_TELL", &tell)
        .output()
        .unwrap();
    assert!(!owner.status.success());
    let dir = std::fs::read_to_string(&tell).unwrap();
    let start = Instant::now();
    while !processes_of(Path::new(&dir)).is_empty() || Path::new(&dir).exists() {
        assert!(pace::elapsed(start) < SOON, "{:?}", processes_of(Path::new(&dir)));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_by_command() {
    let _turn = TURN.lock().await;
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().canonicalize().unwrap().join("c");
    let run = |word: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_cluster"))
            .arg(word)
            .arg("--dir")
            .arg(&dir)
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), said.into_owned())
    };
    assert_eq!(run("status", &[]).0, 3);
    let (code, said) = run("up", &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("KUBECONFIG="), "{said}");
    assert_eq!(run("status", &[]).0, 0);
    assert!(run("up", &[]).1.contains("runs already"));
    let cluster = Cluster::existing(&dir.join("kubeconfig")).await.unwrap();
    assert!(cluster.audit_log().is_none());
    assert!(cluster.stop_component("etcd").is_err());
    drop(cluster);
    assert_eq!(run("down", &[]).0, 0);
    assert!(processes_of(&dir).is_empty());
    assert!(run("down", &[]).1.contains("No cluster"));
}
