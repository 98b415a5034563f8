//! A control plane of one's own, on loopback ports, in one directory.

mod own;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::process::Signal;

use crate::certs::Authority;
use crate::components::{Layout, Ports};
use crate::error::{Error, IoContext, Result};
use crate::node::{Namespaces, RealNode};
use crate::process::{self, Guard};
use crate::{assets, kubeconfig};
use own::{Component, Own};

/// The kubeconfig of a cluster to use instead of starting one.
pub const USE_VARIABLE: &str = "E6_KUBECONFIG";

/// When set, temporary run directories (and so the logs) stay after their clusters.
pub const KEEP_VARIABLE: &str = "E6_KEEP";

/// How long a component may take to end on SIGTERM before it is killed.
const STOP_TIME: Duration = Duration::from_secs(10);

/// How to start a cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The run directory; a fresh temporary one by default. What an earlier cluster left there is stopped and removed.
    pub dir: Option<PathBuf>,
    /// Further flags of kube-apiserver, as `--watch-cache=false`; a repeated flag overrides the default one.
    pub apiserver_args: Vec<String>,
    /// Further names or addresses in the API server's certificate.
    pub server_names: Vec<String>,
    /// Keeps the run directory (with its logs) when the cluster is stopped, as `E6_KEEP` does for all.
    /// A given `dir` is always kept.
    pub keep: bool,
    /// The processes outlive this one, until `Cluster::stop_recorded`.
    pub detached: bool,
    /// How kube-proxy of a real node leads traffic: `iptables` (the default), `nftables` or `ipvs`.
    pub proxy_mode: Option<String>,
}

/// A running control plane, or somebody else's cluster.
///
/// Stopped on drop, and also when this process dies without dropping it.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    own: Option<Own>,
}

impl Cluster {
    /// Starts a control plane and waits until it serves: API server ready, service account `default` there, node Ready.
    ///
    /// # Errors
    /// When a program cannot be found or built, or a component is not ready in time; the run directory is then kept
    /// and named in the message.
    pub async fn start(options: Options) -> Result<Self> {
        let place = run_dir(&options)?;
        Self::start_in(options, place, None).await
    }

    /// As [`Cluster::start`], in a run directory that [`run_dir`] gave; with a real node if there are namespaces,
    /// in which this thread must be.
    pub(crate) async fn start_in(
        options: Options,
        (dir, temporary): (PathBuf, bool),
        namespaces: Option<Namespaces>,
    ) -> Result<Self> {
        let plane = blocking(assets::control_plane).await?;
        let ports = Ports::free(namespaces.is_some())?;
        let authority = Authority::new()?;
        let layout = Layout::write(&dir, ports, &authority, &options.server_names)?;
        let mut programs = layout.control_plane(&plane, ports, &options);
        let node = match namespaces {
            None => {
                programs.push(layout.kwok(&blocking(assets::kwok).await?, ports));
                None
            }
            Some(namespaces) => {
                programs = programs.into_iter().map(|program| namespaces.connect(program)).collect();
                let node = RealNode::new(&dir, namespaces, &options)?;
                let (kubelet, proxy) =
                    (blocking(assets::kubelet).await?, blocking(assets::kube_proxy).await?);
                programs.extend(node.programs(&kubelet, &proxy));
                Some(node)
            }
        };
        let remove = temporary && !options.keep && std::env::var_os(KEEP_VARIABLE).is_none();
        let mut own = Own {
            guard: guard(&options, &dir, remove)?,
            dir,
            ports,
            authority,
            layout,
            running: Mutex::new(programs.into_iter().map(Component::new).collect()),
            node,
            remove: false,
            detached: options.detached,
        };
        if let Err(error) = own.start_all().await {
            own.detached = false;
            return Err(error);
        }
        own.remove = remove;
        Ok(Self { kubeconfig: own.layout.admin.clone(), kubectl: plane.kubectl, own: Some(own) })
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
        let cluster = Self { kubeconfig, kubectl: assets::kubectl_at_hand(), own: None };
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
        self.own.as_ref().map(|own| own.layout.audit.as_path())
    }

    /// The run directory; none for a cluster that is not ours.
    pub fn dir(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.dir.as_path())
    }

    /// The real node.
    ///
    /// # Errors
    /// When this cluster has none: it was not started by [`crate::node::with_node`].
    pub fn node(&self) -> Result<&RealNode> {
        let none = || Error::Unsupported("this cluster has no real node: start it by node::with_node".into());
        self.own.as_ref().and_then(|own| own.node.as_ref()).ok_or_else(none)
    }

    /// The processes that run now, in the order they were started: name and process id.
    pub fn processes(&self) -> Vec<(String, u32)> {
        self.own.as_ref().map(|own| process::recorded(&own.record())).unwrap_or_default()
    }

    /// Writes a kubeconfig for any user and at most one group, who has no rights but those RBAC gives.
    ///
    /// # Errors
    /// When the cluster is not ours, or the file cannot be written.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let own = self.own()?;
        let name: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = own.dir.join(format!("{name}.kubeconfig"));
        let identity = own.authority.client(user, group)?;
        kubeconfig::write(&path, &own.ports.server(), &own.authority, &identity)?;
        Ok(path)
    }

    /// Stops one component, as `kube-apiserver`: SIGTERM, and SIGKILL when that does not end it in ten seconds.
    ///
    /// # Errors
    /// When the cluster is not ours or has no such component.
    pub fn stop_component(&self, name: &str) -> Result<()> {
        self.own()?.stop(name, STOP_TIME)
    }

    /// Stops one component by SIGKILL, as a crash would.
    ///
    /// # Errors
    /// When the cluster is not ours or has no such component.
    pub fn kill_component(&self, name: &str) -> Result<()> {
        self.own()?.stop(name, Duration::ZERO)
    }

    /// Starts a stopped component on its old ports; etcd and kube-apiserver are waited for.
    ///
    /// # Errors
    /// When the cluster is not ours, has no such component, or it is not ready in time.
    pub async fn start_component(&self, name: &str) -> Result<()> {
        let own = self.own()?;
        own.spawn(name)?;
        own.wait_component(name).await
    }

    /// Freezes a component (SIGSTOP): it holds its connections but answers nothing.
    ///
    /// # Errors
    /// When the cluster is not ours or the component does not run.
    pub fn pause_component(&self, name: &str) -> Result<()> {
        self.own()?.signal(name, Signal::STOP)
    }

    /// Lets a frozen component go on (SIGCONT).
    ///
    /// # Errors
    /// When the cluster is not ours or the component does not run.
    pub fn resume_component(&self, name: &str) -> Result<()> {
        self.own()?.signal(name, Signal::CONT)
    }

    /// Lets etcd forget all revisions before the present one, and answers with that.
    ///
    /// # Errors
    /// When the cluster is not ours or etcd refuses.
    pub async fn compact(&self) -> Result<u64> {
        crate::etcd::compact(self.own()?.ports.etcd).await
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
        let record = dir.join("pids");
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

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().ok_or_else(|| {
            Error::Unsupported(format!(
                "the cluster of {USE_VARIABLE} is not ours to change; unset it for this"
            ))
        })
    }
}

/// A client for a kubeconfig, whatever proxy the environment names; its user agent is `testbed`.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub fn client_of(kubeconfig: &Path) -> Result<Client> {
    Ok(Client::try_from(config_of(kubeconfig)?)?)
}

fn config_of(kubeconfig: &Path) -> Result<Config> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    // Asynchronous by its signature only.
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .now_or_never()
        .ok_or_else(|| Error::Unsupported(format!("{} could not be read at once", kubeconfig.display())))??;
    config.proxy_url = None;
    // Without a name of its own a client of kube-rs has none in the audit log.
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static("testbed")));
    Ok(config)
}

/// What every command line of a cluster's processes holds: the run directory, as a directory.
fn mark(dir: &Path) -> String {
    format!("{}/", dir.display())
}

/// Ends the processes should this one die; nothing does if they are to outlive it.
fn guard(options: &Options, dir: &Path, remove: bool) -> Result<Option<Guard>> {
    if options.detached {
        return Ok(None);
    }
    Guard::start(&dir.join("pids"), &mark(dir), remove.then_some(dir)).map(Some)
}

/// The run directory, empty but for what a person put there; true when it is a temporary one.
pub(crate) fn run_dir(options: &Options) -> Result<(PathBuf, bool)> {
    let Some(dir) = &options.dir else {
        let fresh = tempfile::Builder::new()
            .prefix("e6-cluster-")
            .tempdir()
            .at("create in", &std::env::temp_dir())?;
        let dir = fresh.keep();
        return Ok((dir.canonicalize().at("find", &dir)?, true));
    };
    std::fs::create_dir_all(dir).at("create", dir)?;
    let dir = dir.canonicalize().at("find", dir)?;
    Cluster::stop_recorded(&dir)?;
    for old in ["etcd", "logs", "node", "pki"] {
        let old = dir.join(old);
        if old.exists() {
            std::fs::remove_dir_all(&old).at("remove", &old)?;
        }
    }
    Ok((dir, false))
}

/// Runs something that blocks, as a build, without blocking the runtime.
async fn blocking<T: Send + 'static>(work: fn() -> Result<T>) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Unsupported(format!("a background task failed: {error}"))))
}
