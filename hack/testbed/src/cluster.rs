//! A Kubernetes cluster for tests: a control plane that this process starts, or an existing cluster.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use kube::Client;
use rustix::process::Signal;

use crate::certs::Authority;
use crate::error::{Error, IoContext, Result};
use crate::local_cluster::{Component, LocalCluster, STOP_TIME};
use crate::node::{self, Namespaces, RealNode};
use crate::pace::Pulse;
use crate::process;
use crate::programs::{Layout, Ports};
use crate::run_dir::{self, RunDir, mark};
use crate::{assets, kubeconfig};

pub use crate::kubeconfig::client_of;
pub use crate::options::{KEEP_VARIABLE, Options, USE_VARIABLE};

/// A control plane that this process started, or an existing cluster.
///
/// A started control plane stops on drop, and also when this process dies without a drop.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    /// None for an existing cluster.
    local: Option<LocalCluster>,
}

impl Cluster {
    /// Starts a control plane, and waits until the API server is ready, the ServiceAccount `default` exists and the
    /// node is Ready.
    ///
    /// # Errors
    /// When a program is neither found nor built, or a component is not ready in time. The run directory is then
    /// kept, and the message names it.
    pub async fn start(options: Options) -> Result<Self> {
        let dir = empty_run_dir(&options)?;
        Self::start_in(options, dir, None).await
    }

    /// Starts a control plane in an empty run directory. With `namespaces`, in which this thread must be, the
    /// cluster has a real node; without, KWOK simulates the node.
    async fn start_in(options: Options, dir: RunDir, namespaces: Option<Namespaces>) -> Result<Self> {
        let plane = blocking(assets::control_plane).await?;
        let ports = Ports::free(namespaces.is_some())?;
        let authority = Authority::new()?;
        let layout = Layout::write(&dir.path, ports, &authority, &options.server_names)?;
        let mut programs = layout.control_plane(&plane, ports, &options);
        let node = match namespaces {
            None => {
                programs.push(layout.kwok(&blocking(assets::kwok).await?, ports));
                None
            }
            Some(namespaces) => {
                programs = programs.into_iter().map(|program| namespaces.connect(program)).collect();
                let node = RealNode::new(&dir.path, namespaces, &options)?;
                let (kubelet, proxy) =
                    (blocking(assets::kubelet).await?, blocking(assets::kube_proxy).await?);
                programs.extend(node.programs(&kubelet, &proxy));
                Some(node)
            }
        };
        let mut local = LocalCluster {
            guard: dir.guard(&options)?,
            ports,
            authority,
            layout,
            running: Mutex::new(programs.into_iter().map(Component::new).collect()),
            node,
            pulse: None,
            remove: false,
            detached: options.detached,
            dir: dir.path.clone(),
        };
        if let Err(error) = local.start_all().await {
            local.detached = false;
            return Err(error);
        }
        local.remove = dir.is_removed(&options);
        if !options.detached {
            local.pulse = Some(Pulse::start(&local.layout.probe));
        }
        Ok(Self { kubeconfig: local.layout.admin.clone(), kubectl: plane.kubectl, local: Some(local) })
    }

    /// The cluster of `E6_KUBECONFIG` when that is set, else a new one.
    ///
    /// # Errors
    /// As [`Cluster::start`]; also when the given cluster does not answer.
    pub async fn start_or_use(options: Options) -> Result<Self> {
        match std::env::var_os(USE_VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Self::existing(Path::new(&path)).await,
            None => Self::start(options).await,
        }
    }

    /// A handle to a cluster that runs already. Nothing of it is ever stopped by us.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or the API server does not answer.
    pub async fn existing(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = std::path::absolute(kubeconfig).at("find", kubeconfig)?;
        let cluster = Self { kubeconfig, kubectl: assets::kubectl_at_hand(), local: None };
        cluster.client()?.apiserver_version().await?;
        Ok(cluster)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A new client with the administrator's rights, bound to the runtime it is called in.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig)
    }

    /// The kubectl of the cluster's version.
    pub fn kubectl(&self) -> PathBuf {
        self.kubectl.clone()
    }

    /// The API server's audit log (see [`crate::audit`]); none for a cluster that is not ours.
    pub fn audit_log(&self) -> Option<&Path> {
        self.local.as_ref().map(|local| local.layout.audit.as_path())
    }

    /// The run directory; none for a cluster that is not ours.
    pub fn dir(&self) -> Option<&Path> {
        self.local.as_ref().map(|local| local.dir.as_path())
    }

    /// The real node.
    ///
    /// # Errors
    /// When this cluster has none: it was not started by [`with_node`].
    pub fn node(&self) -> Result<&RealNode> {
        let none =
            || Error::Unsupported("this cluster has no real node: start it by cluster::with_node".into());
        self.local.as_ref().and_then(|local| local.node.as_ref()).ok_or_else(none)
    }

    /// The processes that run now, in the order they were started: name and process id.
    pub fn processes(&self) -> Vec<(String, u32)> {
        self.local.as_ref().map(|local| process::recorded(&local.record())).unwrap_or_default()
    }

    /// Writes a kubeconfig for any user and at most one group, who has no rights but those RBAC gives.
    ///
    /// # Errors
    /// When the cluster is not ours, or the file cannot be written.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let local = self.local()?;
        let name: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = local.dir.join(format!("{name}.kubeconfig"));
        let identity = local.authority.client(user, group)?;
        kubeconfig::write(&path, &local.ports.server(), &local.authority, &identity)?;
        Ok(path)
    }

    /// Stops one component, as `kube-apiserver`: SIGTERM, and SIGKILL when that does not end it in ten seconds.
    ///
    /// # Errors
    /// When the cluster is not ours or has no such component.
    pub fn stop_component(&self, name: &str) -> Result<()> {
        self.local()?.stop(name, STOP_TIME)
    }

    /// Stops one component by SIGKILL, as a crash would.
    ///
    /// # Errors
    /// When the cluster is not ours or has no such component.
    pub fn kill_component(&self, name: &str) -> Result<()> {
        self.local()?.stop(name, Duration::ZERO)
    }

    /// Starts a stopped component on its old ports; etcd and kube-apiserver are waited for.
    ///
    /// # Errors
    /// When the cluster is not ours, has no such component, or it is not ready in time.
    pub async fn start_component(&self, name: &str) -> Result<()> {
        let local = self.local()?;
        local.spawn(name)?;
        local.wait_component(name).await
    }

    /// Freezes a component (SIGSTOP): it holds its connections but answers nothing.
    ///
    /// # Errors
    /// When the cluster is not ours or the component does not run.
    pub fn pause_component(&self, name: &str) -> Result<()> {
        self.local()?.signal(name, Signal::STOP)
    }

    /// Resumes a frozen component (SIGCONT).
    ///
    /// # Errors
    /// When the cluster is not ours or the component does not run.
    pub fn resume_component(&self, name: &str) -> Result<()> {
        self.local()?.signal(name, Signal::CONT)
    }

    /// Lets etcd forget all revisions before the present one, and answers with that.
    ///
    /// # Errors
    /// When the cluster is not ours or etcd refuses.
    pub async fn compact(&self) -> Result<u64> {
        crate::etcd::compact(self.local()?.ports.etcd).await
    }

    /// Stops everything now; the same happens on drop.
    pub fn stop(self) {
        drop(self);
    }

    /// Stops the cluster that an earlier process started in `dir`; false when nothing of it ran.
    ///
    /// # Errors
    /// When the record of processes cannot be removed.
    pub fn stop_recorded(dir: &Path) -> Result<bool> {
        let Ok(dir) = dir.canonicalize() else { return Ok(false) };
        let record = run_dir::record(&dir);
        let mut any = Namespaces::end_recorded(&dir);
        for (_, pid) in process::recorded(&record).into_iter().rev() {
            any |= process::is_ours(pid, &mark(&dir));
            process::end(pid, &mark(&dir), STOP_TIME);
        }
        if record.exists() {
            std::fs::remove_file(&record).at("remove", &record)?;
        }
        Ok(any)
    }

    fn local(&self) -> Result<&LocalCluster> {
        self.local.as_ref().ok_or_else(|| {
            Error::Unsupported(format!(
                "the cluster of {USE_VARIABLE} is not ours to change; unset it for this"
            ))
        })
    }
}

/// Starts a cluster with a real node, and runs `work` on a thread whose sockets and child processes are in the network
/// namespace of the cluster. The cluster stops when `work` drops it.
///
/// # Errors
/// When this process is not root, a program is missing and cannot be installed, or the cluster does not become ready.
/// The message names the remedy or the log.
pub fn with_node<T: Send>(options: Options, work: impl AsyncFnOnce(Cluster) -> T + Send) -> Result<T> {
    node::check_machine()?;
    // Builds download modules, which is impossible inside the network namespace of the node.
    assets::control_plane()?;
    assets::kubelet()?;
    assets::kube_proxy()?;
    node::remove_stale_cgroups();
    let dir = empty_run_dir(&options)?;
    let namespaces = Namespaces::new(&dir.path, options.detached)?;
    let inside = namespaces.clone();
    namespaces.run(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.at("start a runtime in", &dir.path)?;
        runtime.block_on(async move {
            let cluster = Cluster::start_in(options, dir, Some(inside)).await?;
            Ok(work(cluster).await)
        })
    })?
}

/// Creates the run directory, ends the processes that an earlier cluster left there, and removes its files.
fn empty_run_dir(options: &Options) -> Result<RunDir> {
    let dir = RunDir::create(options)?;
    if !dir.temporary {
        Cluster::stop_recorded(&dir.path)?;
        dir.clear()?;
    }
    Ok(dir)
}

/// Runs blocking work, such as a build, outside the threads of the runtime.
async fn blocking<T: Send + 'static>(work: fn() -> Result<T>) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Unsupported(format!("a background task failed: {error}"))))
}
