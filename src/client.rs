//! Clients of the API server.
//!
//! Two clients with connections of their own: one for the work and one for the lease, so that a renewal never
//! waits behind a burst of work. Neither retries by itself: a write that is sent again after its decision is old
//! is exactly what must not happen, and the caller knows better when to try anew. Every answer feeds the
//! [`ServerClock`] and is counted; every request of the work client has a deadline.

mod layers;
mod patience;

use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
};

pub use self::layers::{
    DeadlineExceeded, DeadlineLayer, DeadlineService, RequestCountLayer, RequestCountService,
};
pub use self::patience::{RetryAfterLayer, RetryAfterService};
use crate::{
    clock::{ClockLayer, ClockService, ServerClock},
    metrics::Metrics,
};

/// How the operator names itself to the API server; it stands in audit logs.
pub const AGENT: &str = concat!("e6-operator/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account was usable.
    #[error(
        "no Kubernetes cluster is configured: outside a cluster set KUBECONFIG to a readable kubeconfig whose current \
         context exists; in a pod mount a service account token (automountServiceAccountToken: true): {0}"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The configuration was found, but no client can be made of it.
    #[error(
        "the Kubernetes client configuration is not usable (certificates, key, token command or proxy-url): {0}"
    )]
    Client(#[source] Box<kube::Error>),
}

/// The configuration of the cluster: `KUBECONFIG`, `~/.kube/config`, or the pod's service account, in this order;
/// without client-side retries and with the operator's name as user agent.
///
/// # Errors
/// [`Error::Config`] if none of them is usable.
pub async fn config() -> Result<Config, Error> {
    Config::infer().await.map(prepared).map_err(|error| Error::Config(Box::new(error)))
}

/// Applies the operator's own settings to a configuration.
pub fn prepared(mut config: Config) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.headers.retain(|(name, _)| *name != USER_AGENT);
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config
}

/// The client for everything but the lease. A request fails with [`DeadlineExceeded`] after `deadline`, a list
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

/// The client for the lease; the election sets a deadline for each request itself. Must be called inside a tokio
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
    // The clock is innermost, so that a slow body does not blur the time of an answer.
    Ok(builder
        .with_layer(&ClockLayer::new(clock.clone()))
        .with_layer(&RequestCountLayer::new(metrics.clone())))
}

#[cfg(test)]
mod tests;
