//! A proxy between a client (the operator) and the API server, in which requests go wrong as planned.
//!
//! The client talks plain HTTP to it, by a kubeconfig that the proxy writes; the proxy talks to the API server as the
//! client it was given. It numbers the writes, Events and Leases apart, in the order in which they come in, records
//! them, and lets the planned fault strike. Everything else, watches included, goes through as it is.
//!
//! A kill leaves the API server with an exact prefix of the writes: those that came before are carried out to their
//! end, those that come after wait until the client is dead, and are dropped then.

mod fault;
mod target;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use self::fault::{Fault, Plan};
pub use self::target::{Class, Target};
use crate::error::{IoContext, Result};

/// How long a proxy waits for a client to be killed before it gives up on it.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// A write that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its number, from 1.
    pub number: usize,
    /// What it asked for.
    pub target: Target,
    /// The API server's HTTP status; `None` if it was not forwarded, or not answered yet.
    pub status: Option<u16>,
    /// The fault that struck it.
    pub fault: Option<Fault>,
}

impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Target { verb, resource, name, .. } = &self.target;
        let status = self.status.map_or_else(|| "not sent".to_owned(), |status| status.to_string());
        write!(f, "{:>3} {verb} {resource} {name}: {status}", self.number)?;
        self.fault.map_or(Ok(()), |fault| write!(f, " ({fault})"))
    }
}

/// The client is to be killed now; [`Kill::done`] says that it is dead.
#[derive(Debug)]
pub struct Kill {
    done: oneshot::Sender<()>,
}

impl Kill {
    /// The client is dead: what it had sent is dropped, and a new client may connect.
    pub fn done(self) {
        let _ = self.done.send(());
    }
}

/// A running proxy. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    kills: mpsc::Receiver<Kill>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    kills: mpsc::Sender<Kill>,
}

/// The way to the API server: a client that sends each request once. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Upstream(Client);

#[derive(Debug)]
struct State {
    plan: Plan,
    writes: Vec<Write>,
    /// Counts the clients that were killed; a connection belongs to the client that opened it.
    client: usize,
    /// A client is being killed: writes wait.
    killing: bool,
    /// Writes that came in and are not done with.
    open: usize,
}

type Body = UnsyncBoxBody<Bytes, kube::Error>;

/// The connection is to be cut without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

impl Upstream {
    /// A way to the API server with the identity of a kubeconfig.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn of(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.proxy_url = None;
        config.default_retry = false;
        Ok(Self(Client::try_from(config)?))
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstream")
    }
}

impl Proxy {
    /// Starts a proxy on a free loopback port and writes `kubeconfig`, by which clients reach it.
    ///
    /// # Errors
    /// When no port can be bound or the kubeconfig cannot be written.
    pub async fn start(upstream: &Upstream, kubeconfig: &Path, plan: Plan) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.at("listen for", kubeconfig)?;
        let address = listener.local_addr().at("listen for", kubeconfig)?;
        std::fs::write(kubeconfig, kubeconfig_text(address)).at("write", kubeconfig)?;
        let (sender, kills) = mpsc::channel(1);
        let state = State { plan, writes: Vec::new(), client: 0, killing: false, open: 0 };
        let shared = Arc::new(Shared {
            upstream: upstream.clone(),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            kills: sender,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, kubeconfig: kubeconfig.to_path_buf(), kills, task })
    }

    /// The kubeconfig by which clients reach the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The writes that came in until now.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.state().writes.clone()
    }

    /// Whether every write that came in is done with: answered, or cut.
    pub fn is_idle(&self) -> bool {
        self.shared.state().open == 0
    }

    /// Replaces the plan; its numbers count from the proxy's first write.
    pub fn plan(&self, plan: Plan) {
        self.shared.state().plan = plan;
    }

    /// Waits until a client is to be killed.
    pub async fn kill(&mut self) -> Kill {
        match self.kills.recv().await {
            Some(kill) => kill,
            // The sender lives as long as self.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn kubeconfig_text(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: proxy\n\
         clusters:\n- name: proxy\n  cluster:\n    server: http://{address}\n\
         users:\n- name: proxy\n  user: {{}}\n\
         contexts:\n- name: proxy\n  context:\n    cluster: proxy\n    user: proxy\n    namespace: default\n"
    )
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the proxy.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let client = shared.state().client;
        connections.spawn(serve(socket, client, Arc::clone(&shared)));
    }
}

async fn serve(socket: TcpStream, client: usize, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(client, request).await }
    });
    // A service's error cuts the connection without an answer: that is what `Cut` is for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        self: Arc<Self>,
        client: usize,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Cut> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        let target = Target::of(&head.method, &head.uri, &body);
        match target.class {
            Class::Read | Class::Watch | Class::Event | Class::Lease => self.forward(head, body).await,
            // In a task of its own: a client that hangs up does not stop it half-way.
            Class::Write => tokio::spawn(self.write(client, target, head, body)).await.unwrap_or(Err(Cut)),
        }
    }

    /// Sends a request on and streams the answer back.
    async fn forward(&self, mut head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        for name in [HOST, CONNECTION, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        let request = Request::from_parts(head, kube::client::Body::from(body));
        let (mut head, body) = self.upstream.0.send(request).await.map_err(|_| Cut)?.into_parts();
        for name in [CONNECTION, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        head.version = Version::HTTP_11;
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    async fn write(
        self: Arc<Self>,
        client: usize,
        target: Target,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Cut> {
        let (number, fault) = self.admit(client, target).await?;
        let answer = self.strike(number, fault, head, body).await;
        self.state().open -= 1;
        self.changed.send_replace(());
        answer
    }

    /// Numbers a write, unless its client is dead.
    async fn admit(&self, client: usize, target: Target) -> Result<(usize, Option<Fault>), Cut> {
        self.when(|state| {
            if state.client != client {
                return Some(Err(Cut));
            }
            if state.killing {
                return None;
            }
            let number = state.writes.len() + 1;
            let fault = state.plan.writes.remove(&number);
            state.writes.push(Write { number, target: target.clone(), status: None, fault });
            state.killing = fault.is_some_and(Fault::kills);
            state.open += 1;
            Some(Ok((number, fault)))
        })
        .await
    }

    async fn strike(
        &self,
        number: usize,
        fault: Option<Fault>,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Cut> {
        match fault {
            None => self.carry_out(number, head, body).await,
            Some(Fault::KillBefore) => {
                self.kill().await;
                Err(Cut)
            }
            Some(Fault::KillAfter) => {
                self.when(|state| (state.open == 1).then_some(())).await;
                let _ = self.carry_out(number, head, body).await;
                self.kill().await;
                Err(Cut)
            }
            Some(Fault::LoseReply) => {
                let _ = self.carry_out(number, head, body).await;
                Err(Cut)
            }
            Some(Fault::DropRequest) => Err(Cut),
            Some(Fault::Answer(code)) => refusal(code),
            Some(Fault::AnswerAfter(code)) => {
                let _ = self.carry_out(number, head, body).await;
                refusal(code)
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.carry_out(number, head, body).await
            }
        }
    }

    /// Sends a write on and takes its whole answer.
    async fn carry_out(&self, number: usize, head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        let (head, body) = self.forward(head, body).await?.into_parts();
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        if let Some(write) = self.state().writes.get_mut(number - 1) {
            write.status = Some(head.status.as_u16());
        }
        Ok(Response::from_parts(head, whole(body)))
    }

    /// Has the client killed, when the writes before this one are done with.
    async fn kill(&self) {
        self.when(|state| (state.open == 1).then_some(())).await;
        let (done, dead) = oneshot::channel();
        if self.kills.send(Kill { done }).await.is_ok() {
            let _ = tokio::time::timeout(KILL_PATIENCE, dead).await;
        }
        let mut state = self.state();
        state.client += 1;
        state.killing = false;
    }

    /// Waits until `check` gives a value; it is asked now and after every change.
    async fn when<T>(&self, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(value) = check(&mut self.state()) {
                return value;
            }
            // The sender lives as long as self.
            let _ = changes.changed().await;
        }
    }
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// An answer as the API server would give it.
fn refusal(code: u16) -> Result<Response<Body>, Cut> {
    let status = StatusCode::from_u16(code).map_err(|_| Cut)?;
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    let text = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("planned fault: {code}"), "reason": reason, "code": code,
    });
    let mut answer = Response::new(whole(Bytes::from(text.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if code == 429 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(answer)
}
