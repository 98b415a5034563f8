//! An API server in memory, and processes that stand for election at it.

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use super::super::*;

/// The fault of the requests of one client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// Nothing arrives and nothing comes back.
    Hang,
    /// The server acts, but its answer is lost.
    LostReply,
    /// The server refuses with this status.
    Status(u16),
}

/// An API server that stores one Lease.
#[derive(Clone, Default)]
pub(super) struct Server(pub(super) Arc<Mutex<Store>>);

#[derive(Default)]
pub(super) struct Store {
    pub(super) lease: Option<Value>,
    version: u64,
    log: Vec<String>,
}

impl Store {
    fn handle(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        self.log.push(format!("{method} {path}"));
        let status = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}),
            )
        };
        match (method.as_str(), &self.lease) {
            ("GET", Some(lease)) => (200, lease.clone()),
            ("POST", Some(_)) => status(409, "AlreadyExists"),
            ("GET" | "PUT", None) => status(404, "NotFound"),
            ("PUT", Some(lease)) => {
                let sent: Value = serde_json::from_slice(body).unwrap();
                if sent["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                    return status(409, "Conflict");
                }
                // A real API server does not store a write that changes nothing either.
                if sent != *lease {
                    self.put(sent);
                }
                (200, self.lease.clone().unwrap())
            }
            ("POST", None) => {
                self.put(serde_json::from_slice(body).unwrap());
                (201, self.lease.clone().unwrap())
            }
            _ => status(405, "MethodNotAllowed"),
        }
    }

    fn put(&mut self, mut lease: Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease);
    }
}

impl Server {
    pub(super) fn with(spec: &Value) -> Self {
        let server = Self::default();
        server.store(spec);
        server
    }

    /// Writes as another client would.
    pub(super) fn store(&self, spec: &Value) {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                           "metadata": {"name": "op", "namespace": "ops", "labels": {"kept": "yes"}}, "spec": spec});
        self.0.lock().unwrap().put(lease);
    }

    pub(super) fn lease(&self) -> Value {
        self.0.lock().unwrap().lease.clone().unwrap_or_default()
    }

    pub(super) fn holder(&self) -> String {
        self.lease()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    pub(super) fn client(&self, fault: &Arc<Mutex<Fault>>) -> Client {
        let (server, fault) = (self.clone(), fault.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, fault) = (server.clone(), *fault.lock().unwrap());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                sleep(Duration::from_millis(20)).await;
                if fault == Fault::Hang {
                    pending::<()>().await;
                }
                let (code, answer) = match fault {
                    Fault::Status(code) => {
                        (code, json!({"kind": "Status", "code": code, "reason": "x", "message": "refused"}))
                    }
                    _ => server.0.lock().unwrap().handle(&head.method, head.uri.path(), &body),
                };
                if fault == Fault::LostReply {
                    pending::<()>().await;
                }
                sleep(Duration::from_millis(20)).await;
                let bytes = Bytes::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(Full::new(bytes)).unwrap())
            }
        });
        Client::new(service, "default")
    }
}

/// Freezes a task, as SIGSTOP freezes a process.
#[derive(Clone, Default)]
pub(super) struct Freezer(Arc<Mutex<(bool, Option<Waker>)>>);

impl Freezer {
    pub(super) fn freeze(&self, frozen: bool) {
        let mut state = self.0.lock().unwrap();
        state.0 = frozen;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }

    async fn run<T>(self, inner: impl Future<Output = T>) -> T {
        let mut inner = pin!(inner);
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            state.1 = Some(cx.waker().clone());
            if state.0 {
                return Poll::Pending;
            }
            drop(state);
            inner.as_mut().poll(cx)
        })
        .await
    }
}

/// A process that stands for election.
pub(super) struct Contender {
    pub(super) leadership: Leadership,
    pub(super) fault: Arc<Mutex<Fault>>,
    pub(super) freezer: Freezer,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) task: JoinHandle<Result<(), LeaseLost>>,
}

impl Contender {
    pub(super) fn start(server: &Server, identity: &str) -> Self {
        let fault = Arc::new(Mutex::new(Fault::None));
        let settings = Settings {
            namespace: "ops".to_owned(),
            name: "op".to_owned(),
            identity: identity.to_owned(),
            timings: Timings::default(),
        };
        let election = LeaderElection::new(server.client(&fault), settings, ServerClock::new());
        let (stop, stopped) = oneshot::channel();
        let freezer = Freezer::default();
        let leadership = election.leadership();
        let run = election.run(async move {
            let _ = stopped.await;
        });
        let task = tokio::spawn(freezer.clone().run(run));
        Self { leadership, fault, freezer, stop: Some(stop), task }
    }

    pub(super) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(super) async fn stop(mut self) -> Result<(), LeaseLost> {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap()
    }
}
