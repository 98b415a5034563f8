//! The connection between client and API server: it can fail, and the clock of the API server can be wrong.

use std::path::Path;
use std::time::Instant;

use http::header::DATE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response};
use hyper::body::Bytes;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use jiff::{SignedDuration, Timestamp};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{Body, Cut, Proxy, Shared};
use crate::error::Result;

/// The connection to the API server: a client that sends each request once. Clones share connections.
#[derive(Clone)]
pub struct Upstream(pub(super) Client);

impl Upstream {
    /// Returns a connection with the identity of a kubeconfig.
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

/// The requests that fail. Open connections that need them break.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outage {
    /// None.
    #[default]
    None,
    /// Requests for Leases fail.
    Leases,
    /// All requests fail, and open watches break.
    All,
}

/// The state of the connection, and the Leases written through it.
#[derive(Debug, Default)]
pub(super) struct Transport {
    outage: Outage,
    /// Seconds added to the `Date` of answers.
    skew: i64,
    /// Arrival times of successful writes of Leases.
    renewals: Vec<Instant>,
}

impl Transport {
    /// Returns whether connections break.
    pub fn is_gone(&self) -> bool {
        self.outage == Outage::All
    }

    /// Changes the `Date` of an answer, as an API server with a wrong clock would.
    pub fn date(&self, headers: &mut HeaderMap) {
        let said = headers.get(DATE).filter(|_| self.skew != 0).and_then(|value| value.to_str().ok());
        let date = said.and_then(|text| DateTimeParser::new().parse_timestamp(text).ok());
        let moved = date.and_then(|date| date.checked_add(SignedDuration::from_secs(self.skew)).ok());
        if let Some(value) = moved.and_then(printed) {
            headers.insert(DATE, value);
        }
    }
}

fn printed(date: Timestamp) -> Option<HeaderValue> {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).ok()?;
    HeaderValue::from_str(&text).ok()
}

impl Proxy {
    /// Returns the arrival times of the successful writes of Leases, in order.
    pub fn renewals(&self) -> Vec<Instant> {
        self.shared.state().transport.renewals.clone()
    }

    /// Starts or ends an outage.
    pub fn outage(&self, outage: Outage) {
        self.shared.state().transport.outage = outage;
        self.shared.changed.send_replace(());
    }

    /// Adds seconds to the clock of the API server.
    pub fn skew(&self, seconds: i64) {
        self.shared.state().transport.skew = seconds;
    }
}

impl Shared {
    /// Forwards a request for a Lease, and notes its arrival.
    pub(super) async fn renew(&self, head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        let (at, writes) = (Instant::now(), head.method != Method::GET);
        if self.state().transport.outage == Outage::Leases {
            return Err(Cut);
        }
        let answer = self.forward(head, body).await?;
        if writes && answer.status().is_success() {
            self.state().transport.renewals.push(at);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_moved_and_nonsense_stays() {
        let mut headers = HeaderMap::new();
        let mut transport = Transport { skew: 300, ..Transport::default() };
        headers.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        transport.date(&mut headers);
        assert_eq!(headers[DATE], "Sun, 06 Nov 1994 08:54:37 GMT");
        transport.skew = -600;
        transport.date(&mut headers);
        assert_eq!(headers[DATE], "Sun, 06 Nov 1994 08:44:37 GMT");
        headers.insert(DATE, HeaderValue::from_static("yesterday"));
        transport.date(&mut headers);
        assert_eq!(headers[DATE], "yesterday");
    }
}
