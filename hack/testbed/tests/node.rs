//! The real node: containers run, Services lead to them, and nothing stays behind, not even after a crash of ours.

#![allow(clippy::unwrap_used, reason = "clippy knows only the test functions as tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, PostParams};
use serde_json::json;
use testbed::Options;
use testbed::cluster::{self, Cluster};
use testbed::node::{self, Image, static_programs};

/// How long anything may take on two busy cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// True, after saying so, when this machine cannot be a node.
fn skipped() -> bool {
    match node::check_machine() {
        Ok(()) => false,
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            true
        }
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(testbed::pace::elapsed(start) < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn serve(cluster: &Cluster) -> String {
    let client = cluster.client().unwrap();
    let labels = json!({"app": "hello"});
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "hello"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{
                "name": "hello", "image": "local/hello:1",
                "env": [{"name": "COMPONENT", "value": "storage"}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9005}, "periodSeconds": 1},
                "securityContext": {"runAsNonRoot": true, "readOnlyRootFilesystem": true},
            }]},
        }},
    }))
    .unwrap();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "hello"}, "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 9005}]},
    }))
    .unwrap();
    let params = PostParams::default();
    Api::default_namespaced(client.clone()).create(&params, &deployment).await.unwrap();
    let service = Api::default_namespaced(client).create(&params, &service).await.unwrap();
    service.spec.unwrap().cluster_ip.unwrap()
}

/// Returns whether the Service at `address` answers a request from the network namespace.
fn asked(cluster: &Cluster, address: &str) -> bool {
    let script = format!(
        "exec 3<>/dev/tcp/{address}/80; printf 'GET / HTTP/1.1\\r\\nconnection: close\\r\\n\\r\\n' >&3; cat <&3"
    );
    let answer = cluster.node().unwrap().command("bash").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&answer.stdout).contains("storage ")
}

#[test]
fn a_service_leads_to_containers() {
    if skipped() {
        return;
    }
    let image = Image::of_program(&static_programs::workload().unwrap(), &["local/hello:1"]);
    let dir = cluster::with_node(Options::default(), async |cluster| {
        cluster.node().unwrap().import(&image).unwrap();
        let address = serve(&cluster).await;
        until("an answer through the Service", || asked(&cluster, &address));
        let logs = Command::new(cluster.kubectl())
            .args(["logs", "deployment/hello", "--kubeconfig"])
            .arg(cluster.kubeconfig())
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&logs.stdout).contains("listens on 9005"), "{logs:?}");
        cluster.dir().unwrap().to_path_buf()
    });
    nothing_is_left(&dir.unwrap());
}

/// A child process, which is this test with a variable set, starts a cluster and is killed.
#[test]
fn a_killed_owner_leaves_nothing() {
    const CHILD: &str = "NODE_TEST_CHILD";
    if skipped() {
        return;
    }
    if let Some(file) = std::env::var_os(CHILD) {
        cluster::with_node(Options::default(), async |cluster| {
            serve(&cluster).await;
            std::fs::write(&file, cluster.dir().unwrap().display().to_string()).unwrap();
            std::thread::sleep(PATIENCE);
        })
        .unwrap();
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let told = scratch.path().join("dir");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_owner_leaves_nothing"])
        .env(CHILD, &told)
        .spawn()
        .unwrap();
    until("the child's cluster", || std::fs::read_to_string(&told).is_ok_and(|text| !text.is_empty()));
    let dir = PathBuf::from(std::fs::read_to_string(&told).unwrap());
    assert!(dir.join("node.pid").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the guards to clean up", || !dir.exists());
    // Control groups outlive their processes; the next cluster removes those of the dead.
    cluster::with_node(Options::default(), async |_| ()).unwrap();
    nothing_is_left(&dir);
}

fn no_process(dir: &Path) -> bool {
    let mark = format!("{}/", dir.display());
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    !all.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default())
        .any(|line| String::from_utf8_lossy(&line).contains(&mark))
}

/// No process, mount, interface, network namespace or control group of the cluster that ran in `dir`.
fn nothing_is_left(dir: &Path) {
    assert!(!dir.exists(), "{}", dir.display());
    let name = dir.display().to_string();
    until("its processes to be gone", || no_process(dir));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
}

/// A cluster that outlives its command must not outlive a test that fails.
struct Detached<'a>(&'a Path);

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        let _ = Command::new(env!("CARGO_BIN_EXE_cluster")).args(["down", "--dir"]).arg(self.0).output();
    }
}

#[test]
fn up_and_down_by_command() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().canonicalize().unwrap().join("c");
    let _stopped = Detached(&dir);
    let run = |word: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
        let output = command.arg(word).arg("--dir").arg(&dir).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    };
    let (done, said) = run("up", &["--node", "real"]);
    if let Err(refused) = node::check_machine() {
        assert!(!done && said.contains(&refused.to_string()), "{said}");
        return;
    }
    assert!(done && said.contains("nsenter --net="), "{said}");
    assert!(run("status", &[]).0);
    assert!(!run("import", &["/no/such/file"]).0);
    assert!(run("down", &[]).0);
    until("its processes to be gone", || no_process(&dir));
    assert!(!run("import", &["/no/such/file"]).0, "there is no node any more");
}

#[test]
fn the_machine_keeps_its_settings() {
    if skipped() {
        return;
    }
    // The process's first thread never leaves the machine's network.
    let settings = || {
        let network = format!("--net=/proc/{}/ns/net", std::process::id());
        let look = "cd /proc/sys; cat vm/overcommit_memory kernel/panic kernel/panic_on_oops net/ipv4/ip_forward; \
            ip -brief link";
        let answer = Command::new("nsenter").args([&network, "sh", "-c", look]).output().unwrap();
        assert!(answer.status.success(), "{answer:?}");
        String::from_utf8(answer.stdout).unwrap()
    };
    let before = settings();
    cluster::with_node(Options::default(), async |_| assert_eq!(before, settings())).unwrap();
    assert_eq!(before, settings());
}
