//! The operator's own HTTP endpoints: `/healthz`, `/readyz` and `/metrics`.
//!
//! Plain HTTP/1, one request per connection, a limited number of connections and a deadline for each. The kubelet and
//! Prometheus need no more, and a slow client cannot block them for long.

mod health;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

pub use self::health::{Gate, Health};
use crate::metrics::{self, Metrics};

/// The deadline for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The most connections at the same time; further connections wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// The most connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// The pause after a failed accept, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// An address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for {flag}: {source}; free the port, choose another address, or turn it off with {flag}=0"
)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The flag that sets the address.
    pub flag: &'static str,
    /// The error of the operating system.
    pub source: std::io::Error,
}

/// The paths of a listener; every other path gives a 404.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// `/healthz` and `/readyz`, if set.
    pub health: Option<Health>,
    /// `/metrics`, if set.
    pub metrics: Option<Metrics>,
}

/// A bound listener before it serves.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Listens on an address. An IPv6 address accepts IPv4 as well.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Listens on all IPv4 addresses if a node without IPv6 cannot listen on all addresses.
fn listen_or_fall_back<T>(
    address: SocketAddr,
    listen: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let all = SocketAddr::from(([0_u16; 8], address.port()));
    listen(address).or_else(|error| match error.kind() {
        // The port is the problem, not the family.
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ if address == all => listen(([0, 0, 0, 0], address.port()).into()),
        _ => Err(error),
    })
}

impl Server {
    /// Binds `address` (port 0: any free port). The error names `flag`.
    ///
    /// `[::]` accepts IPv4 too, whatever the default of the node is. On a node without IPv6 it means `0.0.0.0`.
    ///
    /// # Errors
    /// [`BindError`] if the address cannot be bound.
    pub fn bind(address: SocketAddr, flag: &'static str) -> Result<Self, BindError> {
        let bound = listen_or_fall_back(address, listen).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        });
        bound.map_err(|source| BindError { address, flag, source })
    }

    /// Returns the bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` until `stop` resolves, then completes the open connections within their deadline.
    pub async fn serve(self, routes: Routes, stop: impl Future<Output = ()>) {
        let routes = Arc::new(routes);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            while connections.try_join_next().is_some() {}
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = &mut stop => break,
                next = next => next,
            };
            match accepted {
                Ok((socket, _)) => {
                    let routes = routes.clone();
                    connections.spawn(async move {
                        connection(socket, routes).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        connections.join_all().await;
    }
}

async fn connection(socket: TcpStream, routes: Arc<Routes>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = routes.respond(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    // A client that disconnects or is slow affects no other client.
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
        Err(_) => tracing::debug!("connection took too long"),
    }
}

impl Routes {
    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let answer = match (path, &self.health, &self.metrics) {
            ("/healthz", Some(health), _) => check(health.live()),
            ("/readyz", Some(health), _) => check(health.ready()),
            ("/metrics", _, Some(metrics)) => exposition(metrics),
            _ => return text(StatusCode::NOT_FOUND, "not found\n"),
        };
        if method == Method::GET || method == Method::HEAD {
            return answer;
        }
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        refused
    }
}

/// Returns the report of a check, with status 200 if it passed and 503 if not.
fn check(report: Result<String, String>) -> Response<Full<Bytes>> {
    match report {
        Ok(report) => text(StatusCode::OK, report),
        Err(report) => text(StatusCode::SERVICE_UNAVAILABLE, report),
    }
}

fn exposition(metrics: &Metrics) -> Response<Full<Bytes>> {
    match metrics.render() {
        Ok(body) => respond(StatusCode::OK, metrics::CONTENT_TYPE, body),
        Err(error) => {
            tracing::error!(%error, "cannot render the metrics: this is a bug, please report it");
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render the metrics\n")
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests;
