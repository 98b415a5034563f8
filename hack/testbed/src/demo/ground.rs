//! The cluster that the demo plays on, and how it is left.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use testbed::cluster::USE_VARIABLE;
use testbed::{Cluster, Error, Options, Result, process};

use super::console::Console;
use super::shell::Shell;
use super::view::{COMPONENTS, NAMESPACE};

/// The definition that the demo installs.
const CRD: &str = "metadataservices.e6data.io";
/// The label of a namespace that the demo made, and so may delete.
const LABEL: &str = "e6data.io/demo";
/// The tags of the first release.
const TAGS: [&str; 2] = ["1.0.437-old", "1.0.547-old"];

/// Where a cluster comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The demo starts it, and stops it.
    Started,
    /// It runs already in the run directory, and goes on running.
    Found,
    /// It is somebody's, named by `E6_KUBECONFIG`.
    Given(PathBuf),
}

/// The run directory, locked.
#[derive(Debug)]
pub struct Site {
    /// The run directory of the cluster.
    pub cluster: PathBuf,
    /// The demo's own directory in it.
    pub own: PathBuf,
    /// Where the cluster comes from.
    pub origin: Origin,
    _lock: File,
}

impl Site {
    /// Makes the directory, locks it, and finds out which cluster there is to use.
    ///
    /// # Errors
    /// When the directory cannot be made, or another demo runs in it.
    pub fn find(dir: &Path) -> Result<Self> {
        let trouble = |doing: &str, source| Error::Io { what: format!("{doing} {}", dir.display()), source };
        std::fs::create_dir_all(dir.join("demo")).map_err(|error| trouble("create", error))?;
        let cluster = dir.canonicalize().map_err(|error| trouble("find", error))?;
        let own = cluster.join("demo");
        let lock = File::create(own.join("lock")).map_err(|error| trouble("lock", error))?;
        if lock.try_lock().is_err() {
            return Err(Error::Unsupported(format!(
                "another demo runs in {}; wait for its end, or give this one another directory with --dir \
                 (make demo CLUSTER_DIR=...)",
                cluster.display()
            )));
        }
        let origin = match std::env::var_os(USE_VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Origin::Given(PathBuf::from(path)),
            None if runs(&cluster) => Origin::Found,
            None => Origin::Started,
        };
        Ok(Self { cluster, own, origin, _lock: lock })
    }

    /// Starts the cluster, or connects to the one there is.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub async fn open(&self, console: &Console, keep: bool) -> Result<Cluster> {
        let start = Instant::now();
        match &self.origin {
            Origin::Given(kubeconfig) => {
                console.say(&format!("Using the cluster of {USE_VARIABLE}: {}", kubeconfig.display()));
                Cluster::existing(kubeconfig).await
            }
            Origin::Found => {
                let dir = self.cluster.display();
                console.say(&format!("Using the cluster that runs in {dir}; it goes on running afterwards."));
                Cluster::existing(&self.cluster.join("kubeconfig")).await
            }
            Origin::Started => {
                console.say(
                    "Starting a Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, \
                     kube-scheduler, and KWOK, which plays the node and its pods ...",
                );
                let dir = Some(self.cluster.clone());
                let cluster = Cluster::start(Options { dir, detached: keep, ..Options::default() }).await?;
                console.say(&format!("It is up after {:.1} s.", start.elapsed().as_secs_f64()));
                Ok(cluster)
            }
        }
    }
}

/// How `make` stops a cluster in this directory.
pub fn down(dir: &Path) -> String {
    if dir.file_name().is_some_and(|name| name == ".cluster") {
        return "make cluster-down".to_owned();
    }
    format!("make cluster-down CLUSTER_DIR={}", dir.display())
}

/// True when all that is recorded of a cluster runs.
fn runs(dir: &Path) -> bool {
    let mark = format!("{}/", dir.display());
    let recorded = process::recorded(&dir.join("pids"));
    !recorded.is_empty() && recorded.iter().all(|(_, pid)| process::is_ours(*pid, &mark))
}

/// True when the definition is installed.
///
/// # Errors
/// When the API server does not answer.
pub async fn has_definition(client: &Client) -> Result<bool> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    Ok(api.get_opt(CRD).await?.is_some())
}

/// Refuses to play beside an operator that manages the whole cluster: two would be one too many.
///
/// # Errors
/// When one renews its lease, or the API server does not answer.
pub async fn check_alone(client: &Client, console: &Console) -> Result<()> {
    let api: Api<Lease> = Api::all(client.clone());
    let params = ListParams::default().fields("metadata.name=e6-operator.e6data.io");
    let held = async || -> Result<Vec<(String, String)>> {
        let leases = api.list(&params).await?.items.into_iter();
        let held = leases.filter(|lease| {
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
            holder.is_some_and(|holder| !holder.is_empty())
        });
        Ok(held.map(|lease| (lease.namespace().unwrap_or_default(), version(&lease))).collect())
    };
    let before = held().await?;
    if before.is_empty() {
        return Ok(());
    }
    console.say("There is a lease of an e6-operator; looking for 7 s whether it is renewed ...");
    tokio::time::sleep(Duration::from_secs(7)).await;
    match held().await?.into_iter().find(|lease| !before.contains(lease)) {
        None => Ok(()),
        Some((namespace, _)) => Err(Error::Unsupported(format!(
            "an e6-operator runs on this cluster already (Lease e6-operator.e6data.io in namespace {namespace}); \
             the demo kills and starts one of its own: stop that one, or use another cluster"
        ))),
    }
}

fn version(lease: &Lease) -> String {
    lease.resource_version().unwrap_or_default()
}

/// Deletes the namespace of an earlier demo; one that is not the demo's is left alone.
///
/// # Errors
/// When it is not the demo's, or does not go.
pub async fn clear_namespace(client: &Client, shell: &Shell) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(there) = api.get_opt(NAMESPACE).await? else { return Ok(()) };
    if !there.labels().contains_key(LABEL) {
        return Err(Error::Unsupported(format!(
            "the namespace {NAMESPACE} exists on this cluster and is not the demo's; delete it (kubectl delete \
             namespace {NAMESPACE}) if nothing in it is needed, or use another cluster"
        )));
    }
    shell.run(&format!("kubectl delete namespace {NAMESPACE} --timeout=120s")).await.map(|_| ())
}

/// Makes the namespace and installs the definition.
///
/// # Errors
/// When kubectl does not succeed.
pub async fn install(shell: &Shell) -> Result<()> {
    shell.run("kubectl apply -f crds/metadataservices.e6data.io.yaml").await?;
    shell.run(&format!("kubectl wait --for=condition=Established --timeout=60s crd/{CRD}")).await?;
    shell.run(&format!("kubectl create namespace {NAMESPACE}")).await?;
    shell.quietly(&format!("kubectl label namespace {NAMESPACE} {LABEL}=yes")).await.map(|_| ())
}

/// Takes away what [`install`] put there; the definition only when the demo brought it.
///
/// # Errors
/// When kubectl does not succeed.
pub async fn uninstall(shell: &Shell, definition: bool) -> Result<()> {
    shell.run(&format!("kubectl delete namespace {NAMESPACE} --ignore-not-found --timeout=120s")).await?;
    if definition {
        shell.run(&format!("kubectl delete crd {CRD} --ignore-not-found --timeout=60s")).await?;
    }
    Ok(())
}

/// Tries whether pods like those of the demo become ready on somebody's cluster, and says what is needed if not.
///
/// # Errors
/// When they do not; the message names the images.
pub async fn check_pods(client: &Client, console: &Console, images: &str) -> Result<()> {
    console.say("Trying whether pods become ready on this cluster ...");
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    for (component, tag) in COMPONENTS.into_iter().zip(TAGS) {
        let image = format!("{images}/{component}:{tag}");
        let name = format!("e6-demo-{component}");
        let pod = probe(&name, component, &image)?;
        create(&api, &pod).await?;
        let seen = wait_ready(&api, &name).await;
        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
        seen.map_err(|seen| {
            Error::Unsupported(format!(
                "a pod with the image {image} does not become ready on this cluster: {seen}\n\
                 The demo needs the images {images}/storage with the tags 1.0.437-old, 1.0.500-new and \
                 1.0.700-next, and {images}/schema with 1.0.547-old, 1.0.600-new and 1.0.800-next, which listen \
                 on the ports 9005 and 9006 and run as a user who is not root. Push them, or name where they are with \
                 E6_DEMO_IMAGES=registry/path, or let KWOK play the pods, or unset {USE_VARIABLE}: then the demo \
                 starts a cluster of its own."
            ))
        })?;
    }
    Ok(())
}

/// Creates a pod; a new namespace has no service account for some moments.
async fn create(api: &Api<Pod>, pod: &Pod) -> Result<()> {
    let start = Instant::now();
    loop {
        match api.create(&PostParams::default(), pod).await {
            Err(kube::Error::Api(status))
                if status.code == 403 && start.elapsed() < Duration::from_secs(10) =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => return Ok(other.map(|_| ())?),
        }
    }
}

/// A pod as the operator makes them.
fn probe(name: &str, component: &str, image: &str) -> Result<Pod> {
    let port = if component == "storage" { 9005 } else { 9006 };
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": component,
                "image": image,
                "ports": [{"containerPort": port}],
                "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }))
    .map_err(|source| Error::Json { what: "the pod to try".into(), source })
}

/// Waits for a minute; the error says what the pod says.
async fn wait_ready(api: &Api<Pod>, name: &str) -> Result<(), String> {
    let start = Instant::now();
    let mut seen = "it was never seen".to_owned();
    while start.elapsed() < Duration::from_secs(60) {
        match api.get(name).await {
            Ok(pod) => {
                let status = pod.status.unwrap_or_default();
                let conditions = status.conditions.unwrap_or_default();
                if conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True") {
                    return Ok(());
                }
                let waits = status.container_statuses.unwrap_or_default().into_iter().find_map(|one| {
                    let waiting = one.state?.waiting?;
                    Some(format!("{} {}", waiting.reason?, waiting.message.unwrap_or_default()))
                });
                let unmet =
                    conditions.into_iter().find(|one| one.status == "False").and_then(|one| one.message);
                let phase = status.phase.unwrap_or_default();
                seen = waits.or(unmet).unwrap_or_else(|| format!("its phase is {phase} after a minute"));
            }
            Err(error) => seen = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err(seen)
}
