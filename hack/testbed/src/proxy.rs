//! A proxy between a client (the operator) and the API server, in which requests go wrong as planned.
//!
//! The client talks plain HTTP to it, by a kubeconfig that the proxy writes; the proxy talks to the API server as the
//! client it was given. It numbers the writes, Events and Leases apart, in the order in which they come in, records
//! them and the reads between them, and lets the planned fault strike. Everything else goes through as it is, watches
//! too until a fault is for them.
//!
//! A kill leaves the API server with an exact prefix of the writes: those that came before are carried out to their
//! end, those that come after wait until the client is dead, and are dropped then.

mod answer;
mod fault;
mod halt;
mod haste;
mod stale;
mod target;
#[cfg(test)]
mod tests;
mod watches;
mod way;

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
pub use self::fault::{Fault, Plan};
pub use self::halt::Halt;
use self::haste::Haste;
use self::stale::Stale;
pub use self::target::{Class, Target};
use self::watches::Word;
use self::way::Way;
pub use self::way::{Outage, Upstream};
use crate::error::{IoContext, Result};
use crate::watcher::{Act, Call};

/// What an API server that has time takes to answer, amply.
const PROMPT: Duration = Duration::from_millis(500);

/// How many reads fail after [`Fault::FailReads`].
const BAD_READS: usize = 4;

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
    /// When it came in.
    pub at: Instant,
    /// How long the API server took to answer it.
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
    /// What open watches are told.
    words: watch::Sender<Word>,
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    writes: Vec<Write>,
    /// Reads and writes in the order in which they came in.
    calls: Vec<Call>,
    /// How many of the next reads fail.
    bad_reads: usize,
    /// Watches that are told 410 when they go on, by path.
    forgotten: BTreeSet<String>,
    /// By how much the API server was late with its answers, all together.
    late: Duration,
    /// The paths of watches that were opened.
    watched: BTreeSet<String>,
    stale: Stale,
    haste: Haste,
    way: Way,
    /// Counts the clients that were killed; a connection belongs to the client that opened it.
    client: usize,
    /// A client is being killed: writes wait.
    killing: bool,
    /// Writes that came in and are not done with.
    open: usize,
    /// Faults that had an effect.
    felt: BTreeSet<Fault>,
}

type Body = UnsyncBoxBody<Bytes, Cut>;

/// The connection is to be cut without an answer, or in the middle of it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("cut")]
struct Cut;

impl Proxy {
    /// Starts a proxy on a free loopback port and writes `kubeconfig`, by which clients reach it.
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
            words: watch::Sender::new(Word::Open),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, kubeconfig: kubeconfig.to_path_buf(), halts, task })
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

    /// The reads and writes that came in until now, and where a new client began.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// By how much the API server itself, with too little time on this machine, was late with its answers.
    pub fn lateness(&self) -> Duration {
        self.shared.state().late
    }

    /// The faults that had an effect: a watch was told, a read failed, an old or a late list was shown, or, of the
    /// others, the write met its fate.
    pub fn felt(&self) -> BTreeSet<Fault> {
        self.shared.state().felt.clone()
    }

    /// Replaces the plan; its numbers count from the proxy's first write.
    pub fn plan(&self, plan: Plan) {
        self.shared.state().plan = plan;
    }

    /// Lets all open watches fall silent, at once.
    pub fn stall_watches(&self) {
        self.shared.words.send_replace(Word::Silence);
    }

    /// Waits until something is to be done before a write goes on.
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
    let way = Arc::clone(&shared);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(client, request).await }
    });
    // A service's error cuts the connection without an answer: that is what `Cut` is for.
    let served = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        _ = served => {}
        () = way.when(|state| state.way.is_gone().then_some(())) => {}
    }
}

impl State {
    /// A write is done with.
    fn finish(&mut self, number: usize, succeeded: bool) {
        self.open -= 1;
        let mut writes = self.calls.iter_mut().filter(|call| call.act == Act::Write);
        if let Some(call) = writes.nth(number - 1) {
            call.succeeded = succeeded;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feel(&self, fault: Fault) {
        self.state().felt.insert(fault);
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
            // In a task of its own: a client that hangs up does not stop it half-way.
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
                state.haste.note(&target);
            }
            let bad = state.bad_reads;
            state.bad_reads = bad.saturating_sub(1);
            (bad, target.fills_cache().then(|| state.stale.list(&target.uri)).flatten())
        };
        match (bad, old) {
            (0, Some(old)) => {
                self.feel(Fault::StaleRestart);
                return json_answer(StatusCode::OK, old);
            }
            (0, None) => {}
            (odd, _) => {
                self.feel(Fault::FailReads);
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

    /// Sends a request on and streams the answer back.
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
        self.state().way.date(&mut head.headers);
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
        let answer = self.strike(number, fault, head, body).await;
        let succeeded = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        self.state().finish(number, succeeded);
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
            state.calls.extend(target.call());
            state.haste.note(&target);
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

    async fn strike(
        &self,
        number: usize,
        fault: Option<Fault>,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Cut> {
        if let Some(fault) = fault.filter(|fault| !fault.is_felt_later()) {
            self.feel(fault);
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
                    self.state().haste.ask();
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

    /// Sends a write on and takes its whole answer.
    async fn carry_out(&self, number: usize, head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        let asked = Instant::now();
        let (head, body) = self.forward(head, body).await?.into_parts();
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        if let Some(write) = self.state().writes.get_mut(number - 1) {
            (write.status, write.took) = (Some(head.status.as_u16()), asked.elapsed());
        }
        Ok(Response::from_parts(head, whole(body)))
    }

    /// Waits until the writes before this one are done with.
    async fn alone(&self) {
        self.when(|state| (state.open == 1).then_some(())).await;
    }

    /// Has the client killed, when the writes before this one are done with.
    async fn kill(&self, fault: Option<Fault>) {
        self.alone().await;
        self.halt(fault).await;
        let mut state = self.state();
        state.client += 1;
        state.killing = false;
        state.calls.push(Call::start());
        match fault {
            Some(Fault::StaleRestart) => state.stale.begin(),
            Some(Fault::SlowRestart) => state.haste.slow_down(),
            _ => {}
        }
    }

    /// Waits until whoever plays has done what is to be done; whether the write is to go on.
    async fn halt(&self, fault: Option<Fault>) -> bool {
        let Some(fault) = fault else { return true };
        Halt::ask(&self.halts, fault).await
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
