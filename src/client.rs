//! Clients of the API server.
//!
//! The work and the Lease have separate clients and connections, so that a renewal never waits behind other requests. Neither retries by itself: a repeated write could carry an outdated decision, and the caller decides
//! when to retry. Every answer feeds the [`ServerClock`] and is counted; every request of the work client has a
//! deadline.

mod layers;
mod retry_after;

use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
};

pub use self::layers::{
    DeadlineExceeded, DeadlineLayer, DeadlineService, RequestCountLayer, RequestCountService,
};
pub use self::retry_after::{RetryAfterLayer, RetryAfterService};
use crate::{
    clock::{ClockLayer, ClockService, ServerClock},
    metrics::Metrics,
};

/// The user agent of the operator, which audit logs contain.
pub const AGENT: &str = concat!("e6-operator/", env!("CARGO_PKG_VERSION"));

/// The deadline of a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The cause of a missing client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account is usable.
    #[error(
        "no Kubernetes cluster is configured: outside a cluster set KUBECONFIG to a readable kubeconfig whose current \
         context exists; in a pod mount a service account token (automountServiceAccountToken: true): {0}"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The configuration is invalid.
    #[error(
        "the Kubernetes client configuration is not usable (certificates, key, token command or proxy-url): {0}"
    )]
    Client(#[source] Box<kube::Error>),
}

/// Returns the configuration of the cluster: `KUBECONFIG`, `~/.kube/config`, or the Pod's service account, in this order.
/// Retries of the client are off, and the user agent names the operator.
///
/// # Errors
/// [`Error::Config`] if none of them is usable.
pub async fn config() -> Result<Config, Error> {
    Config::infer().await.map(prepared).map_err(|error| Error::Config(Box::new(error)))
}

/// Applies the operator's settings to a configuration.
pub fn prepared(mut config: Config) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.headers.retain(|(name, _)| *name != USER_AGENT);
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config
}

/// Returns the client for everything but the Lease. A request fails with [`DeadlineExceeded`] after `deadline`, a list
/// after [`DeadlineLayer::LIST`]. Must be called inside a tokio runtime.
///
/// # Errors
/// [`Error::Client`] if the configuration's certificates, key or proxy cannot be used.
pub fn work_client(
    config: &Config,
    clock: &ServerClock,
    metrics: &Metrics,
    deadline: Duration,
) -> Result<Client, Error> {
    let builder = stack(config, clock, metrics)?;
    Ok(builder.with_layer(&RetryAfterLayer).with_layer(&DeadlineLayer::new(deadline)).build())
}

/// Returns the client for the Lease; the election sets the deadline of each request. Must be called inside a tokio
/// runtime.
///
/// # Errors
/// [`Error::Client`] if the configuration's certificates, key or proxy cannot be used.
pub fn lease_client(config: &Config, clock: &ServerClock, metrics: &Metrics) -> Result<Client, Error> {
    Ok(stack(config, clock, metrics)?.build())
}

type Base =
    tower::util::BoxService<http::Request<kube::client::Body>, http::Response<Box<DynBody>>, tower::BoxError>;
type Stack = ClientBuilder<RequestCountService<ClockService<Base>>>;

fn stack(config: &Config, clock: &ServerClock, metrics: &Metrics) -> Result<Stack, Error> {
    let builder =
        ClientBuilder::try_from(prepared(config.clone())).map_err(|error| Error::Client(Box::new(error)))?;
    // The clock layer is innermost, so that a slow body does not delay the time of an answer.
    Ok(builder
        .with_layer(&ClockLayer::new(clock.clone()))
        .with_layer(&RequestCountLayer::new(metrics.clone())))
}

#[cfg(test)]
mod tests;
