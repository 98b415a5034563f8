//! The operator's binary as a kubectl plugin, called by kubectl.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testbed::resource::quick;
use testbed::{History, Kind, State};

use crate::SUITE;
use crate::demo::{pods, selected};
use testbed::harness::TestEnv;

/// A folder with the binary under the name of the plugin.
struct Plugin {
    folder: PathBuf,
    namespace: String,
}

impl Plugin {
    fn install(env: &TestEnv) -> Self {
        let folder = std::env::temp_dir().join(format!("kubectl-mds-{}", env.namespace));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_e6-operator"), folder.join("kubectl-mds")).unwrap();
        Self { folder, namespace: env.namespace.clone() }
    }

    /// Runs `kubectl mds ...`. Returns whether it succeeded, and its output.
    async fn run(&self, args: &[&str]) -> (bool, String) {
        let cluster = SUITE.cluster().await;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.folder.clone()).chain(std::env::split_paths(&path));
        let path: OsString = std::env::join_paths(paths).unwrap();
        let mut command = Command::new(cluster.kubectl());
        command.arg("mds").args(args).args(["-n", &self.namespace]);
        command.env("PATH", path).env("KUBECONFIG", cluster.kubeconfig());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    async fn good(&self, args: &[&str]) -> String {
        let (success, text) = self.run(args).await;
        assert!(success, "{args:?}: {text}");
        text
    }

    async fn bad(&self, args: &[&str]) -> String {
        let (success, text) = self.run(args).await;
        assert!(!success, "{args:?}: {text}");
        text
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.folder));
    }
}

#[tokio::test]
async fn kubectl_mds_shows_waits_and_goes_back() {
    let env = SUITE.env("plugin").await;
    let mds = Plugin::install(&env);
    assert!(mds.bad(&["status", "a"]).await.contains("MetadataServices a does not exist"));
    let (subject, first) = env.deploy("a", &quick("1", "1")).await;
    assert!(mds.bad(&["rollback", "a"]).await.contains("no release to roll back to"));

    subject.upgrade("2", "2").await.unwrap();
    let waited = mds.good(&["wait", "a"]).await;
    assert!(waited.contains("Deploying") && waited.contains("storage 2, schema 2"), "{waited}");
    let status = mds.good(&["status", "a"]).await;
    assert!(status.contains(": Stable") && status.contains("storage 1/1 ready"), "{status}");

    subject.upgrade("3-crash", "3").await.unwrap();
    let failed = mds.bad(&["wait", "a", "--timeout", "80"]).await;
    assert!(failed.contains("CrashLoopBackOff") || failed.contains("e6data.io/retry"), "{failed}");
    assert!(mds.good(&["status", "a"]).await.contains("action needed"));
    let stays = mds.good(&["rollback", "a", "--wait"]).await;
    assert!(stays.contains("keeping "), "{stays}");
    env.serves(&subject, "2").await;
    assert_eq!(selected(&env.history().await, "a", "storage"), ["none", "blue", "green"]);

    let back = mds.good(&["rollback", "a", "--to", &first, "--wait"]).await;
    assert!(back.contains(&format!("rolling back to {first}")), "{back}");
    let entry = env.serves(&subject, "1").await;
    assert_eq!(State(&entry).active(), first);
    let table = mds.good(&["history", "a"]).await;
    assert!(table.starts_with("VERSION") && table.lines().count() == 4, "{table}");
    assert!(table.lines().last().unwrap().starts_with(&format!("{first}  Active")), "{table}");
    env.finish().await;
}

#[tokio::test]
async fn kubectl_mds_pauses_resumes_retries_and_restarts() {
    let env = SUITE.env("plugin-acts").await;
    let mds = Plugin::install(&env);
    let (subject, _) = env.deploy("a", &quick("1", "1")).await;
    assert!(mds.bad(&["retry", "a"]).await.contains("nothing to retry"));
    mds.good(&["pause", "a"]).await;
    subject.upgrade("2", "2").await.unwrap();
    let held = mds.bad(&["wait", "a"]).await;
    assert!(held.contains("spec.rollout.paused is true"), "{held}");
    mds.good(&["resume", "a"]).await;
    mds.good(&["wait", "a"]).await;
    let before = pods(&env.history().await, "a", "green");
    mds.good(&["restart", "a", "--wait"]).await;
    let history = env.history().await;
    assert!(pods(&history, "a", "green").is_empty() && pods(&history, "a", "blue").len() == before.len());
    let spec = history.latest(Kind::MetadataServices, "a").unwrap().object["spec"]["rollout"].clone();
    assert_eq!(spec.get("paused"), None, "resuming leaves nothing behind: {spec}");

    subject.upgrade("3-crash", "3").await.unwrap();
    env.rolled_back(&subject, "2").await;
    // The release no longer crashes. The timeline shows the second attempt.
    mds.good(&["retry", "a"]).await;
    let tries = |history: &History| {
        let made =
            history.of(Kind::Deployment, "a-storage-green").filter(|one| one.verb == testbed::Verb::Added);
        (made.count() >= 3).then_some(())
    };
    env.wait("another try", tries).await;
    env.rolled_back(&subject, "2").await;
    subject.edit(&json!({"storage": {"imageTag": "2"}, "schema": {"imageTag": "2"}})).await.unwrap();
    env.serves(&subject, "2").await;
    env.finish().await;
}
