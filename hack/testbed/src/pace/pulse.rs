//! The pulse of a cluster: how long a controller takes to observe a change.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ReplicationController;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{Beat, clock, start_ticking};
use crate::error::Result;
use crate::kubeconfig::probe_of;

/// The pause between two beats.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause before the change is read again: the first one, and the longest one.
const ASK: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(120));

/// The name of the ReplicationController.
const NAME: &str = "pulse";

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// The pulse of a cluster. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Pulse {
    number: usize,
    ends: Arc<AtomicBool>,
}

impl Pulse {
    /// Starts the pulse of the cluster of a kubeconfig, in a thread of its own. The thread has the network of the thread
    /// that calls this.
    pub fn start(kubeconfig: &Path) -> Self {
        start_ticking();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ends = Arc::new(AtomicBool::new(false));
        clock().pulses.insert(number, Beat::default());
        let (kubeconfig, over) = (kubeconfig.to_path_buf(), Arc::clone(&ends));
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(beat(number, &kubeconfig, &over));
        });
        Self { number, ends }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        clock().pulses.remove(&self.number);
    }
}

/// Beats until `ends` is set.
async fn beat(number: usize, kubeconfig: &Path, ends: &AtomicBool) {
    let Ok(client) = probe_of(kubeconfig) else { return };
    let mut seconds = 0;
    while !ends.load(Ordering::Relaxed) {
        let start = Instant::now();
        note(number, |beat| beat.since = Some(start));
        seconds = 1 - seconds;
        // A cluster that cannot be asked is late until it can.
        while !ends.load(Ordering::Relaxed) && change(&client, seconds, ends).await.is_err() {
            tokio::time::sleep(ASK.1).await;
        }
        note(number, |beat| *beat = Beat { took: start.elapsed(), since: None });
        tokio::time::sleep(PAUSE).await;
    }
}

/// Changes the ReplicationController, and waits until its controller has observed that.
async fn change(client: &Client, seconds: i32, ends: &AtomicBool) -> Result<()> {
    let api: Api<ReplicationController> = Api::namespaced(client.clone(), "kube-system");
    let patch = json!({"spec": {"minReadySeconds": seconds}});
    let mut object = match api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            api.create(&PostParams::default(), &controller(seconds)?).await?
        }
        other => other?,
    };
    let wanted = object.metadata.generation;
    let mut pause = ASK.0;
    while object.status.and_then(|status| status.observed_generation) < wanted {
        if ends.load(Ordering::Relaxed) {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ASK.1);
        object = api.get(NAME).await?;
    }
    Ok(())
}

/// A ReplicationController without pods.
fn controller(seconds: i32) -> Result<ReplicationController> {
    let labels = json!({"app": NAME});
    let object = json!({
        "metadata": {"name": NAME},
        "spec": {"replicas": 0, "minReadySeconds": seconds, "selector": labels, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": NAME, "image": "none"}]},
        }},
    });
    serde_json::from_value(object).map_err(|source| crate::Error::Json {
        what: "the ReplicationController of the pulse".into(),
        source,
    })
}

fn note(number: usize, change: impl FnOnce(&mut Beat)) {
    if let Some(beat) = clock().pulses.get_mut(&number) {
        change(beat);
    }
}
