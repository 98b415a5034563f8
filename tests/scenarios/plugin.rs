//! The binary as a kubectl plugin, called by the real kubectl.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testbed::resource::quick;
use testbed::{History, Kind, State};

use crate::bed::{Bed, cluster};
use crate::demo::{pods, selected};

/// A folder with the binary under the plugin's name.
struct Plugin {
    folder: PathBuf,
    namespace: String,
}

impl Plugin {
    fn install(bed: &Bed) -> Self {
        let folder = std::env::temp_dir().join(format!("kubectl-mds-{}", bed.namespace));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_e6-operator"), folder.join("kubectl-mds")).unwrap();
        Self { folder, namespace: bed.namespace.clone() }
    }

    /// Runs `kubectl mds ...`: whether it succeeded, and what it printed and complained.
    async fn run(&self, args: &[&str]) -> (bool, String) {
        let cluster = cluster().await;
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
    let bed = Bed::new("plugin").await;
    let mds = Plugin::install(&bed);
    assert!(mds.bad(&["status", "a"]).await.contains("MetadataServices a does not exist"));
    let (subject, first) = bed.deploy("a", &quick("1", "1")).await;
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
    bed.serves(&subject, "2").await;
    assert_eq!(selected(&bed.history().await, "a", "storage"), ["none", "blue", "green"]);

    let back = mds.good(&["rollback", "a", "--to", &first, "--wait"]).await;
    assert!(back.contains(&format!("rolling back to {first}")), "{back}");
    let entry = bed.serves(&subject, "1").await;
    assert_eq!(State(&entry).active(), first);
    let table = mds.good(&["history", "a"]).await;
    assert!(table.starts_with("VERSION") && table.lines().count() == 4, "{table}");
    assert!(table.lines().last().unwrap().starts_with(&format!("{first}  Active")), "{table}");
    bed.finish().await;
}

#[tokio::test]
async fn kubectl_mds_pauses_resumes_retries_and_restarts() {
    let bed = Bed::new("plugin-acts").await;
    let mds = Plugin::install(&bed);
    let (subject, _) = bed.deploy("a", &quick("1", "1")).await;
    assert!(mds.bad(&["retry", "a"]).await.contains("nothing to retry"));
    mds.good(&["pause", "a"]).await;
    subject.upgrade("2", "2").await.unwrap();
    let held = mds.bad(&["wait", "a"]).await;
    assert!(held.contains("spec.rollout.paused is true"), "{held}");
    mds.good(&["resume", "a"]).await;
    mds.good(&["wait", "a"]).await;
    let before = pods(&bed.history().await, "a", "green");
    mds.good(&["restart", "a", "--wait"]).await;
    let history = bed.history().await;
    assert!(pods(&history, "a", "green").is_empty() && pods(&history, "a", "blue").len() == before.len());
    let spec = history.latest(Kind::MetadataServices, "a").unwrap().object["spec"]["rollout"].clone();
    assert_eq!(spec.get("paused"), None, "resuming leaves nothing behind: {spec}");

    subject.upgrade("3-crash", "3").await.unwrap();
    bed.rolled_back(&subject, "2").await;
    // Whatever made it crash is mended; the watcher sees the second try.
    mds.good(&["retry", "a"]).await;
    let tries = |history: &History| {
        let made =
            history.of(Kind::Deployment, "a-storage-green").filter(|one| one.verb == testbed::Verb::Added);
        (made.count() >= 3).then_some(())
    };
    bed.wait("another try", tries).await;
    bed.rolled_back(&subject, "2").await;
    subject.edit(&json!({"storage": {"imageTag": "2"}, "schema": {"imageTag": "2"}})).await.unwrap();
    bed.serves(&subject, "2").await;
    bed.finish().await;
}
