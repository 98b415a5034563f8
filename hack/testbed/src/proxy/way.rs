//! The way between client and API server: it can be taken away, and the API server's clock can look wrong on it.

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

/// The way to the API server: a client that sends each request once. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Upstream(pub(super) Client);

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

/// Which part of the way is gone. Connections that need it break, and new ones too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outage {
    /// None.
    #[default]
    None,
    /// Requests for Leases are cut off, everything else works.
    Leases,
    /// Everything is cut off, open watches included.
    All,
}

/// What the way is like, and which Leases went over it.
#[derive(Debug, Default)]
pub(super) struct Way {
    outage: Outage,
    /// By how many seconds the `Date` of answers is moved.
    skew: i64,
    /// When requests came in by which a Lease was written.
    renewals: Vec<Instant>,
}

impl Way {
    /// Whether connections break.
    pub fn is_gone(&self) -> bool {
        self.outage == Outage::All
    }

    /// Moves the `Date` of an answer, as an API server whose clock is wrong would.
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
    /// When the requests came in by which the client wrote a Lease with success, in their order.
    pub fn renewals(&self) -> Vec<Instant> {
        self.shared.state().way.renewals.clone()
    }

    /// Takes a part of the way to the API server away, or gives it back.
    pub fn outage(&self, outage: Outage) {
        self.shared.state().way.outage = outage;
        self.shared.changed.send_replace(());
    }

    /// Lets the API server's clock look wrong by so many seconds.
    pub fn skew(&self, seconds: i64) {
        self.shared.state().way.skew = seconds;
    }
}

impl Shared {
    /// Sends a request for a Lease on, and notes when it came in.
    pub(super) async fn renew(&self, head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        let (at, writes) = (Instant::now(), head.method != Method::GET);
        if self.state().way.outage == Outage::Leases {
            return Err(Cut);
        }
        let answer = self.forward(head, body).await?;
        if writes && answer.status().is_success() {
            self.state().way.renewals.push(at);
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
        let mut way = Way { skew: 300, ..Way::default() };
        headers.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        way.date(&mut headers);
        assert_eq!(headers[DATE], "Sun, 06 Nov 1994 08:54:37 GMT");
        way.skew = -600;
        way.date(&mut headers);
        assert_eq!(headers[DATE], "Sun, 06 Nov 1994 08:44:37 GMT");
        headers.insert(DATE, HeaderValue::from_static("yesterday"));
        way.date(&mut headers);
        assert_eq!(headers[DATE], "yesterday");
    }
}
