//! Tower layers of the clients: a counter and a deadline for every request.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes};
use tower::{BoxError, Layer, Service};

use crate::metrics::Metrics;

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Counts requests to the API server in `rest_client_requests_total`.
#[derive(Clone, Debug)]
pub struct RequestCountLayer {
    metrics: Metrics,
}

impl RequestCountLayer {
    /// Returns a layer that counts in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for RequestCountLayer {
    type Service = RequestCountService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestCountService { inner, metrics: self.metrics.clone() }
    }
}

/// The service of [`RequestCountLayer`].
#[derive(Clone, Debug)]
pub struct RequestCountService<S> {
    inner: S,
    metrics: Metrics,
}

/// Counts its request when dropped, so that a canceled request counts too.
struct Counted {
    metrics: Metrics,
    method: Method,
    status: Option<StatusCode>,
}

impl Counted {
    /// Records the status. It is a method so that the future owns the whole guard: an assignment to the field would capture
    /// only a copy of that field, and the guard would be dropped before the answer.
    fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.requested(&self.method, self.status);
    }
}

impl<S, A, B> Service<Request<A>> for RequestCountService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Boxed<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let mut counted =
            Counted { metrics: self.metrics.clone(), method: request.method().clone(), status: None };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            counted.answered(response.status());
            Ok(response)
        })
    }
}

/// A request without a complete answer in time. The client reports it as `kube::Error::Service`.
#[derive(Debug, thiserror::Error)]
#[error(
    "{method} {path} was not answered within {} s: the API server or the network is slow; the outcome of a write is \
     unknown",
    deadline.as_secs_f64()
)]
pub struct DeadlineExceeded {
    /// The HTTP method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The exceeded deadline.
    pub deadline: Duration,
}

/// Gives every request a deadline for its whole answer, body included. Without it, a silently broken connection would block a
/// reconcile for ever.
///
/// The deadline of a watch ends with its first byte. kube notes the verb on its requests.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    deadline: Duration,
}

impl DeadlineLayer {
    /// The deadline of a list, and of the start of a watch. Pages of a large cluster take a busy API server longer than a
    /// single object.
    pub const LIST: Duration = Duration::from_secs(30);

    /// Returns a layer with the given deadline for single objects.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, deadline: self.deadline }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    deadline: Duration,
}

impl<S, A, B> Service<Request<A>> for DeadlineService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = BoxError;
    type Future = Boxed<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let verb = request.extensions().get::<&'static str>().copied().unwrap_or_default();
        let stream = verb.starts_with("watch") || verb == "log_stream";
        let deadline = if stream || verb.starts_with("list") {
            self.deadline.max(DeadlineLayer::LIST)
        } else {
            self.deadline
        };
        let late = DeadlineExceeded {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            deadline,
        };
        let answer = self.inner.call(request);
        let whole = async move {
            let (head, body) = answer.await.map_err(Into::into)?.into_parts();
            if stream {
                return Ok(Response::from_parts(head, Either::Left(body)));
            }
            let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
            Ok(Response::from_parts(head, Either::Right(Full::new(bytes))))
        };
        Box::pin(async move {
            tokio::time::timeout(deadline, whole).await.unwrap_or_else(|_| Err(BoxError::from(late)))
        })
    }
}
