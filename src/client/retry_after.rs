//! The `Retry-After` header of a busy API server.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, response::Parts};
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use serde_json::json;
use tower::{Layer, Service};

/// Moves the seconds of `Retry-After` in a 429 into a `Status` in the body, the only place where the client's errors keep
/// them. API Priority and Fairness sends only the header and a line of text.
#[derive(Clone, Copy, Debug)]
pub struct RetryAfterLayer;

impl<S> Layer<S> for RetryAfterLayer {
    type Service = RetryAfterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryAfterService { inner }
    }
}

/// The service of [`RetryAfterLayer`].
#[derive(Clone, Debug)]
pub struct RetryAfterService<S> {
    inner: S,
}

impl<S, A, B> Service<Request<A>> for RetryAfterService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move {
            let (mut head, body) = answer.await?.into_parts();
            Ok(match retry_after(&head) {
                Some(seconds) => {
                    let body = status(&mut head, seconds);
                    Response::from_parts(head, Either::Right(body))
                }
                None => Response::from_parts(head, Either::Left(body)),
            })
        })
    }
}

/// Returns the seconds of `Retry-After` in a 429.
fn retry_after(head: &Parts) -> Option<u32> {
    let value = head.headers.get(RETRY_AFTER).filter(|_| head.status == StatusCode::TOO_MANY_REQUESTS)?;
    value.to_str().ok()?.trim().parse().ok()
}

/// Replaces the body of a 429 by a `Status` with the seconds.
fn status(head: &mut Parts, seconds: u32) -> Full<Bytes> {
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let text = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 429,
        "reason": "TooManyRequests", "details": {"retryAfterSeconds": seconds},
        "message": format!("the API server is overloaded; retry after {seconds} s"),
    });
    Full::new(Bytes::from(text.to_string()))
}
