//! A proxy between a client (the operator) and the API server, which injects planned faults.
//!
//! The client talks plain HTTP to the proxy, by a kubeconfig that the proxy writes. The proxy talks to the API server
//! with the identity of another kubeconfig. It numbers the writes except those of Events and Leases in the order of
//! their arrival, records them and the reads, and injects the planned faults. It forwards everything else unchanged.
//!
//! A kill leaves the API server with an exact prefix of the writes: earlier writes complete, later writes wait until
//! the client is dead and are then dropped.

mod answer;
mod early_requests;
mod fault;
mod hold;
mod stale_lists;
mod target;
#[cfg(test)]
mod tests;
mod transport;
mod watches;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::answer::{already_exists, json_answer, refusal, whole};
use self::early_requests::EarlyRequests;
pub use self::fault::{Fault, Plan};
pub use self::hold::Halt;
use self::stale_lists::StaleLists;
pub use self::target::{Class, Target};
use self::transport::Transport;
pub use self::transport::{Outage, Upstream};
use self::watches::WatchFault;
use crate::error::{IoContext, Result};
use crate::invariants::{Call, RequestKind};

/// Maximum response time of an API server that is not overloaded.
const PROMPT: Duration = Duration::from_millis(500);

/// Number of reads that fail after [`Fault::FailReads`].
const BAD_READS: usize = 4;

/// A write of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its number, from 1.
    pub number: usize,
    /// The request.
    pub target: Target,
    /// The HTTP status of the API server. None if the write was not forwarded, or has no answer yet.
    pub status: Option<u16>,
    /// The injected fault.
    pub fault: Option<Fault>,
    /// The time of its arrival.
    pub at: Instant,
    /// The response time of the API server.
    pub took: Duration,
}

impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Target { verb, resource, name, .. } = &self.target;
        let status = self.status.map_or_else(|| "not sent".to_owned(), |status| status.to_string());
        write!(f, "{:>3} {verb} {resource} {name}: {status}", self.number)?;
        self.fault.map_or(Ok(()), |fault| write!(f, " ({fault})"))
    }
}

/// A running proxy. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    halts: mpsc::Receiver<Halt>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    halts: mpsc::Sender<Halt>,
    /// Current fault of the open watches.
    watch_faults: watch::Sender<WatchFault>,
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    writes: Vec<Write>,
    /// Reads and writes in the order of their arrival.
    calls: Vec<Call>,
    /// Number of next reads that fail.
    bad_reads: usize,
    /// Paths of watches whose next attempt gets a 410.
    forgotten: BTreeSet<String>,
    /// Sum of the API server's delays.
    late: Duration,
    /// Paths of opened watches.
    watched: BTreeSet<String>,
    stale: StaleLists,
    early: EarlyRequests,
    transport: Transport,
    /// Number of killed clients. A connection belongs to the client that opened it.
    client: usize,
    /// A client is being killed: writes wait.
    killing: bool,
    /// Number of writes without an end.
    open: usize,
    /// Faults with an effect.
    observed: BTreeSet<Fault>,
}

type Body = UnsyncBoxBody<Bytes, Cut>;

/// Closes the connection without an answer, or in the middle of one.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("cut")]
struct Cut;

impl Proxy {
    /// Starts a proxy on a free loopback port, and writes the kubeconfig of its clients.
    ///
    /// # Errors
    /// When no port can be bound or the kubeconfig cannot be written.
    pub async fn start(upstream: &Upstream, kubeconfig: &Path, plan: Plan) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.at("listen for", kubeconfig)?;
        let address = listener.local_addr().at("listen for", kubeconfig)?;
        std::fs::write(kubeconfig, kubeconfig_text(address)).at("write", kubeconfig)?;
        let (sender, halts) = mpsc::channel(1);
        let state = State { plan, ..State::default() };
        let shared = Arc::new(Shared {
            upstream: upstream.clone(),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            halts: sender,
            watch_faults: watch::Sender::new(WatchFault::Open),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, kubeconfig: kubeconfig.to_path_buf(), halts, task })
    }

    /// Returns the kubeconfig of its clients.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the writes so far.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.state().writes.clone()
    }

    /// Returns whether every write so far has ended, with or without an answer.
    pub fn is_idle(&self) -> bool {
        self.shared.state().open == 0
    }

    /// Returns the reads, writes and client starts so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// Returns the sum of the API server's own delays, which an overloaded machine causes.
    pub fn lateness(&self) -> Duration {
        self.shared.state().late
    }

    /// Returns the faults that had an effect: a watch broke, a read failed, a list was stale or late, or a write met
    /// its fault.
    pub fn observed(&self) -> BTreeSet<Fault> {
        self.shared.state().observed.clone()
    }

    /// Replaces the plan. Its numbers count from the first write of the proxy.
    pub fn plan(&self, plan: Plan) {
        self.shared.state().plan = plan;
    }

    /// Stops the events of all open watches.
    pub fn stall_watches(&self) {
        self.shared.watch_faults.send_replace(WatchFault::Silence);
    }

    /// Waits until a fault requires an action of the test.
    pub async fn halt(&mut self) -> Halt {
        match self.halts.recv().await {
            Some(halt) => halt,
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
    let transport = Arc::clone(&shared);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(client, request).await }
    });
    // An error of the service closes the connection without an answer. `Cut` is such an error.
    let served = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        _ = served => {}
        () = transport.when(|state| state.transport.is_gone().then_some(())) => {}
    }
}

impl State {
    /// Ends a write.
    fn finish(&mut self, number: usize, succeeded: bool) {
        self.open -= 1;
        let mut writes = self.calls.iter_mut().filter(|call| call.kind == RequestKind::Write);
        if let Some(call) = writes.nth(number - 1) {
            call.succeeded = succeeded;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, fault: Fault) {
        self.state().observed.insert(fault);
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
            Class::Event => self.forward(head, body).await,
            Class::Lease => self.renew(head, body).await,
            Class::Read => self.read(client, target, head, body).await,
            Class::Watch => self.watch(target, head, body).await,
            // In its own task, so that a client that disconnects does not interrupt the transport.
            Class::Write => tokio::spawn(self.write(client, target, head, body)).await.unwrap_or(Err(Cut)),
        }
    }

    async fn read(
        &self,
        client: usize,
        target: Target,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Cut> {
        let (bad, old) = {
            let mut state = self.state();
            if state.client == client {
                state.calls.extend(target.call());
                state.early.note(&target);
            }
            let bad = state.bad_reads;
            state.bad_reads = bad.saturating_sub(1);
            (bad, target.fills_cache().then(|| state.stale.list(&target.uri)).flatten())
        };
        match (bad, old) {
            (0, Some(old)) => {
                self.observe(Fault::StaleRestart);
                return json_answer(StatusCode::OK, old);
            }
            (0, None) => {}
            (odd, _) => {
                self.observe(Fault::FailReads);
                return if odd % 2 == 1 { Err(Cut) } else { refusal(500) };
            }
        }
        self.delay(&target).await;
        let (head, body) = self.forward(head, body).await?.into_parts();
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        if target.fills_cache() && head.status.is_success() {
            self.state().stale.remember(&target.uri, &body);
        }
        Ok(Response::from_parts(head, whole(body)))
    }

    /// Forwards a request and streams the answer back.
    async fn forward(&self, mut head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        for name in [HOST, CONNECTION, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        let request = Request::from_parts(head, kube::client::Body::from(body));
        let asked = Instant::now();
        let (mut head, body) = self.upstream.0.send(request).await.map_err(|_| Cut)?.into_parts();
        self.state().late += asked.elapsed().saturating_sub(PROMPT);
        for name in [CONNECTION, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        head.version = Version::HTTP_11;
        self.state().transport.date(&mut head.headers);
        Ok(Response::from_parts(head, body.map_err(|_| Cut).boxed_unsync()))
    }

    async fn write(
        self: Arc<Self>,
        client: usize,
        target: Target,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Cut> {
        let (number, fault) = self.admit(client, target).await?;
        let answer = self.inject(number, fault, head, body).await;
        let succeeded = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        self.state().finish(number, succeeded);
        self.changed.send_replace(());
        answer
    }

    /// Numbers a write, unless its client was killed.
    async fn admit(&self, client: usize, target: Target) -> Result<(usize, Option<Fault>), Cut> {
        self.when(|state| {
            if state.client != client {
                return Some(Err(Cut));
            }
            if state.killing {
                return None;
            }
            state.calls.extend(target.call());
            state.early.note(&target);
            let number = state.writes.len() + 1;
            let fault = state.plan.writes.remove(&number);
            let at = Instant::now();
            let (target, took) = (target.clone(), Duration::ZERO);
            state.writes.push(Write { number, target, status: None, fault, at, took });
            state.killing = fault.is_some_and(Fault::kills);
            state.open += 1;
            Some(Ok((number, fault)))
        })
        .await
    }

    async fn inject(
        &self,
        number: usize,
        fault: Option<Fault>,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Cut> {
        if let Some(fault) = fault.filter(|fault| !fault.shows_later()) {
            self.observe(fault);
        }
        match fault {
            Some(Fault::KillBefore | Fault::StaleRestart | Fault::SlowRestart) => {
                self.kill(fault).await;
                return Err(Cut);
            }
            Some(Fault::KillAfter) => {
                self.alone().await;
                let _ = self.carry_out(number, head, body).await;
                self.kill(fault).await;
                return Err(Cut);
            }
            Some(Fault::DropRequest) => return Err(Cut),
            Some(Fault::Answer(409)) if head.method == Method::POST => return already_exists(),
            Some(Fault::Answer(code)) => {
                if code == 429 {
                    self.state().early.ask();
                }
                return refusal(code);
            }
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(
                fault @ (Fault::CutWatches
                | Fault::LoseEvents
                | Fault::StallWatches
                | Fault::Expire
                | Fault::Forget),
            ) => self.disturb(fault).await,
            Some(Fault::Delete | Fault::HoldBefore) => {
                if !self.halt(fault).await {
                    return Err(Cut);
                }
            }
            Some(Fault::LoseReply | Fault::AnswerAfter(_) | Fault::FailReads | Fault::HoldAfter) | None => {}
        }
        let answer = self.carry_out(number, head, body).await;
        match fault {
            Some(Fault::LoseReply) => Err(Cut),
            Some(Fault::AnswerAfter(code)) => refusal(code),
            Some(Fault::FailReads) => {
                self.state().bad_reads = BAD_READS;
                answer
            }
            Some(Fault::HoldAfter) if !self.halt(fault).await => Err(Cut),
            _ => answer,
        }
    }

    /// Forwards a write and reads its whole answer.
    async fn carry_out(&self, number: usize, head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        let asked = Instant::now();
        let (head, body) = self.forward(head, body).await?.into_parts();
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        if let Some(write) = self.state().writes.get_mut(number - 1) {
            (write.status, write.took) = (Some(head.status.as_u16()), asked.elapsed());
        }
        Ok(Response::from_parts(head, whole(body)))
    }

    /// Waits until the earlier writes have ended.
    async fn alone(&self) {
        self.when(|state| (state.open == 1).then_some(())).await;
    }

    /// Lets the test kill the client once the earlier writes have ended.
    async fn kill(&self, fault: Option<Fault>) {
        self.alone().await;
        self.halt(fault).await;
        let mut state = self.state();
        state.client += 1;
        state.killing = false;
        state.calls.push(Call::start());
        match fault {
            Some(Fault::StaleRestart) => state.stale.begin(),
            Some(Fault::SlowRestart) => state.early.slow_down(),
            _ => {}
        }
    }

    /// Waits until the test has done what the fault requires. Returns whether the write continues.
    async fn halt(&self, fault: Option<Fault>) -> bool {
        let Some(fault) = fault else { return true };
        Halt::ask(&self.halts, fault).await
    }

    /// Waits until `check` returns a value. It runs now and after every change.
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
