//! A control plane of one's own, on loopback ports, in one directory.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::process::Signal;

use crate::certs::Authority;
use crate::components::{Layout, Ports};
use crate::error::{Error, IoContext, Result};
use crate::process::{self, Guard, Program};
use crate::{assets, kubeconfig, kwok};

/// The kubeconfig of a cluster to use instead of starting one.
pub const USE_VARIABLE: &str = "E6_KUBECONFIG";

/// When set, temporary run directories (and so the logs) stay after their clusters.
pub const KEEP_VARIABLE: &str = "E6_KEEP";

/// How long the control plane may take to be ready. It takes four seconds on two idle cores.
const START_TIME: Duration = Duration::from_secs(90);

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

/// What a cluster has that we started ourselves.
#[derive(Debug)]
struct Own {
    dir: PathBuf,
    ports: Ports,
    authority: Authority,
    layout: Layout,
    running: Mutex<Vec<Component>>,
    guard: Option<Guard>,
    remove: bool,
    detached: bool,
}

/// One process of the control plane.
#[derive(Debug)]
struct Component {
    program: Program,
    child: Option<Child>,
}

impl Cluster {
    /// Starts a control plane and waits until it serves: API server ready, service account `default` there, node Ready.
    ///
    /// # Errors
    /// When a program cannot be found or built, or a component is not ready in time; the run directory is then kept
    /// and named in the message.
    pub async fn start(options: Options) -> Result<Self> {
        let plane = blocking(assets::control_plane).await?;
        let kwok = blocking(assets::kwok).await?;
        let (dir, temporary) = run_dir(&options)?;
        let ports = Ports::free()?;
        let authority = Authority::new()?;
        let layout = Layout::write(&dir, ports, &authority, &options.server_names)?;
        let programs = layout.programs(&plane, &kwok, ports, &options);
        let running = programs.into_iter().map(|program| Component { program, child: None }).collect();
        let remove = temporary && !options.keep && std::env::var_os(KEEP_VARIABLE).is_none();
        let record = dir.join("pids");
        let guard = if options.detached {
            None
        } else {
            Some(Guard::start(&record, &mark(&dir), remove.then_some(dir.as_path()))?)
        };
        let mut own = Own {
            dir,
            ports,
            authority,
            layout,
            running: Mutex::new(running),
            guard,
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
        let mut any = false;
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

/// A client that does not repeat a request that failed.
fn probe_of(kubeconfig: &Path) -> Result<Client> {
    let mut config = config_of(kubeconfig)?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
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

impl Own {
    async fn start_all(&self) -> Result<()> {
        self.spawn("etcd")?;
        self.wait_component("etcd").await?;
        self.spawn("kube-apiserver")?;
        self.wait_component("kube-apiserver").await?;
        for name in ["kube-controller-manager", "kwok", "kube-scheduler"] {
            self.spawn(name)?;
        }
        let client = probe_of(&self.layout.probe)?;
        kwok::create_node(&client).await?;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
        self.wait("the ServiceAccount default", async || accounts.get("default").await.is_ok()).await?;
        self.wait("the node to be Ready", async || kwok::node_ready(&client).await).await
    }

    async fn wait_component(&self, name: &str) -> Result<()> {
        match name {
            "etcd" => {
                let port = self.ports.etcd;
                self.wait("etcd to listen", async || {
                    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
                })
                .await
            }
            "kube-apiserver" => {
                let client = probe_of(&self.layout.probe)?;
                self.wait("kube-apiserver to be ready", async || readyz(&client).await).await
            }
            _ => Ok(()),
        }
    }

    /// Waits for a condition; fails early when a component has ended by itself.
    async fn wait(&self, what: &str, condition: impl AsyncFn() -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            if tokio::time::timeout(Duration::from_secs(5), condition()).await.unwrap_or(false) {
                return Ok(());
            }
            self.check_alive()?;
            if start.elapsed() > START_TIME {
                let what = format!("{what}; see {}", self.dir.join("logs").display());
                return Err(Error::Timeout { what, seconds: start.elapsed().as_secs_f64() });
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    fn check_alive(&self) -> Result<()> {
        for component in self.components().iter_mut() {
            let Some(child) = &mut component.child else { continue };
            if let Ok(Some(status)) = child.try_wait() {
                let log = component.program.log.clone();
                let name = component.program.name.clone();
                return Err(Error::Component { name, reason: format!("ended by itself ({status})"), log });
            }
        }
        Ok(())
    }

    fn spawn(&self, name: &str) -> Result<()> {
        let mut components = self.components();
        let component = find(&mut components, name)?;
        if component.child.is_some() {
            return Err(Error::Unsupported(format!("{name} runs already")));
        }
        component.child = Some(component.program.start()?);
        self.write_record(&components)
    }

    fn stop(&self, name: &str, patience: Duration) -> Result<()> {
        let mut components = self.components();
        let component = find(&mut components, name)?;
        component.end(&mark(&self.dir), patience);
        self.write_record(&components)
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let mut components = self.components();
        let component = find(&mut components, name)?;
        let sent = component
            .child
            .as_ref()
            .is_some_and(|child| process::signal(child.id(), &mark(&self.dir), signal));
        if sent {
            return Ok(());
        }
        let log = component.program.log.clone();
        Err(Error::Component { name: name.to_owned(), reason: "does not run".into(), log })
    }

    fn components(&self) -> MutexGuard<'_, Vec<Component>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_record(&self, components: &[Component]) -> Result<()> {
        let pids: Vec<(String, u32)> = components
            .iter()
            .filter_map(|one| Some((one.program.name.clone(), one.child.as_ref()?.id())))
            .collect();
        process::record(&self.record(), &pids)
    }

    fn record(&self) -> PathBuf {
        self.dir.join("pids")
    }
}

impl Component {
    fn end(&mut self, mark: &str, patience: Duration) {
        let Some(mut child) = self.child.take() else { return };
        if patience.is_zero() {
            process::kill(child.id(), mark);
        } else {
            process::end(child.id(), mark, patience);
        }
        let _ = child.wait();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        let mark = mark(&self.dir);
        // All but etcd and kube-apiserver may end at the same time.
        for component in self.components().iter().skip(2).filter_map(|one| one.child.as_ref()) {
            process::signal(component.id(), &mark, Signal::TERM);
        }
        for component in self.components().iter_mut().rev() {
            component.end(&mark, STOP_TIME);
        }
        let _ = std::fs::remove_file(self.record());
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        if self.remove {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn find<'a>(components: &'a mut [Component], name: &str) -> Result<&'a mut Component> {
    let names: Vec<String> = components.iter().map(|one| one.program.name.clone()).collect();
    components
        .iter_mut()
        .find(|one| one.program.name == name)
        .ok_or_else(|| Error::Unsupported(format!("no component {name}; there are {}", names.join(", "))))
}

/// True when the API server says it is ready.
async fn readyz(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}

/// What every command line of a cluster's processes holds: the run directory, as a directory.
fn mark(dir: &Path) -> String {
    format!("{}/", dir.display())
}

/// The run directory, empty but for what a person put there; true when it is a temporary one.
fn run_dir(options: &Options) -> Result<(PathBuf, bool)> {
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
    for old in ["etcd", "logs", "pki"] {
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
