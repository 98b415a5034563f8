//! The processes of a control plane that this process started.

use std::path::PathBuf;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::Api;
use rustix::process::Signal;

use crate::addresses::{REAL_NODE, SIMULATED_NODE};
use crate::certs::Authority;
use crate::error::{Error, Result};
use crate::kubeconfig::probe_of;
use crate::kwok;
use crate::node::RealNode;
use crate::pace::Pulse;
use crate::process::{self, Guard, Program};
use crate::programs::{Layout, Ports};
use crate::run_dir::{self, mark};

/// Time that a component may take to end after SIGTERM before it gets SIGKILL.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(10);

/// Time limit for the start of the control plane. It takes four seconds on two idle cores. A component that ends by itself
/// is noticed at once, so the limit may be long.
const START_TIME: Duration = Duration::from_secs(300);

/// A control plane that this process started.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    pub dir: PathBuf,
    pub ports: Ports,
    pub authority: Authority,
    pub layout: Layout,
    pub running: Mutex<Vec<Component>>,
    /// The real node. None if KWOK simulates the node.
    pub node: Option<RealNode>,
    /// How late it is; none when it outlives this process.
    pub pulse: Option<Pulse>,
    pub guard: Option<Guard>,
    pub remove: bool,
    pub detached: bool,
}

/// One process of the control plane.
#[derive(Debug)]
pub(crate) struct Component {
    pub program: Program,
    pub child: Option<Child>,
}

impl LocalCluster {
    /// Starts every component in order, and waits until the cluster takes pods.
    pub async fn start_all(&self) -> Result<()> {
        let names: Vec<String> = self.components().iter().map(|one| one.program.name.clone()).collect();
        for name in names {
            self.spawn(&name)?;
            self.wait_component(&name).await?;
        }
        let client = probe_of(&self.layout.probe)?;
        let node = if self.node.is_some() { REAL_NODE } else { SIMULATED_NODE };
        if self.node.is_none() {
            kwok::create_node(&client).await?;
        }
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
        self.wait("the ServiceAccount default", async || accounts.get("default").await.is_ok()).await?;
        self.wait("the node to be Ready", async || kwok::node_ready(&client, node).await).await
    }

    pub async fn wait_component(&self, name: &str) -> Result<()> {
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
            "containerd" => {
                let Some(node) = &self.node else { return Ok(()) };
                self.wait("containerd to serve", async || node.serves()).await?;
                node.import(&crate::node::pause_image()?)
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

    pub fn spawn(&self, name: &str) -> Result<()> {
        let mut components = self.components();
        let component = find(&mut components, name)?;
        if component.child.is_some() {
            return Err(Error::Unsupported(format!("{name} runs already")));
        }
        component.child = Some(component.program.start()?);
        self.write_record(&components)
    }

    pub fn stop(&self, name: &str, patience: Duration) -> Result<()> {
        let mut components = self.components();
        let component = find(&mut components, name)?;
        component.end(&mark(&self.dir), patience);
        self.write_record(&components)
    }

    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
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

    pub fn record(&self) -> PathBuf {
        run_dir::record(&self.dir)
    }
}

impl Component {
    pub fn new(program: Program) -> Self {
        Self { program, child: None }
    }

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

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        drop(self.pulse.take());
        let mark = mark(&self.dir);
        // First: while kubelet watches, the API server takes its time to end.
        if let Some(node) = &self.node {
            node.end();
        }
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
