//! Failures of a reconcile, classified by their consequence for the next one.

use std::time::Duration;

use rollout::health::shorten;

/// A failed reconcile. The next reconcile finds and completes every partial write.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A read failed; the objects never count as absent.
    #[error("reading {what} {name}: {}", describe(source))]
    Read {
        /// The kind.
        what: String,
        /// The name or the label selector.
        name: String,
        /// The answer of the API server, or the lack of one.
        #[source]
        source: Box<kube::Error>,
    },
    /// A write failed.
    #[error("{action}: {}", describe(source))]
    Write {
        /// The attempted write and its object.
        action: String,
        /// The answer of the API server, or the lack of one.
        #[source]
        source: Box<kube::Error>,
    },
    /// This replica may no longer write.
    #[error("this replica does not lead; skipped: {0}")]
    NotLeading(String),
    /// The API server has not sent its time yet.
    #[error("the time of the API server is not known yet")]
    NoClock,
    /// An object changed or vanished after the decision.
    #[error("{0} changed after it was read")]
    Stale(String),
    /// A write was rejected that the rollout does not depend on; the rest of the reconcile is complete.
    #[error("{error}")]
    Deferred {
        /// The rejection.
        error: Box<Error>,
        /// Time until the rest of the resource needs the next reconcile.
        due: Duration,
    },
    /// The reconcile panicked, which is a bug. Other resources are not affected.
    #[error("a bug in the operator: {0}; please report it with the resource and the log")]
    Panic(String),
    /// The release template cannot be rendered.
    #[error("rendering {object}: {reason}")]
    Render {
        /// The object.
        object: String,
        /// The cause.
        reason: String,
    },
}

impl Error {
    /// Builds the error of a failed read.
    pub fn read(what: &str, name: &str, source: kube::Error) -> Self {
        Self::Read { what: what.to_owned(), name: name.to_owned(), source: Box::new(source) }
    }

    /// Builds the error of a failed change to an object that was read. An object that no longer exists is stale.
    pub fn change(action: impl Into<String>, object: String, source: kube::Error) -> Self {
        match source {
            kube::Error::Api(status) if status.code == 404 => Self::Stale(object),
            source => Self::write(action, source),
        }
    }

    /// Builds the error of a failed write.
    pub fn write(action: impl Into<String>, source: kube::Error) -> Self {
        Self::Write { action: action.into(), source: Box::new(source) }
    }

    /// Returns the error that decides when to retry: an error with `Retry-After`, else the first that is no conflict.
    pub fn most_severe(failed: Vec<Self>) -> Option<Self> {
        failed.into_iter().rev().max_by_key(|error| (error.retry_after().is_some(), !error.is_conflict()))
    }

    /// Splits a deferred error into its cause and the time until the next reconcile; other errors have no such time.
    pub fn split_deadline(&self) -> (&Self, Duration) {
        match self {
            Self::Deferred { error, due } => (error, *due),
            other => (other, Duration::MAX),
        }
    }

    /// Returns the text, shortened for a condition.
    pub fn brief(&self) -> String {
        shorten(&self.to_string())
    }

    /// Returns the HTTP status of the answer, if there was one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Deferred { error, .. } => error.code(),
            Self::NotLeading(_) | Self::NoClock | Self::Stale(_) | Self::Panic(_) | Self::Render { .. } => {
                None
            }
        }
    }

    /// Returns the seconds of `Retry-After` in a 429.
    pub fn retry_after(&self) -> Option<Duration> {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self else { return None };
        let kube::Error::Api(status) = source.as_ref() else { return None };
        let details = status.details.as_ref().filter(|_| status.code == 429)?;
        Some(Duration::from_secs(details.retry_after_seconds.into()))
    }

    /// Returns whether another client wrote first. A conflict is no failure and is retried soon.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Stale(_)) || (self.code() == Some(409) && matches!(self, Self::Write { .. }))
    }

    /// Returns whether the API server rejected a write because the namespace is terminating.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Write { source, .. } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Returns whether the API server will reject the same request until a user acts.
    pub fn is_permanent(&self) -> bool {
        matches!(self.code(), Some(400 | 403 | 404 | 422))
    }

    /// Returns whether the API server failed (5xx). Such errors are retried until the deploy timeout.
    pub fn is_server_error(&self) -> bool {
        matches!(self.code(), Some(500..=599))
    }

    /// Returns whether the error ends without action of a user: the API server is busy, unreachable or slow.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoClock | Self::NotLeading(_) => true,
            Self::Deferred { error, .. } => error.is_transient(),
            Self::Stale(_) | Self::Panic(_) | Self::Render { .. } => false,
            Self::Read { source, .. } | Self::Write { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => matches!(status.code, 429 | 500..=599),
                // The connection broke or the deadline passed.
                _ => true,
            },
        }
    }
}

/// Returns the message and code of the API server, or the reason why there was no answer.
fn describe(source: &kube::Error) -> String {
    match source {
        kube::Error::Api(status) if !status.message.is_empty() => {
            format!("{} ({})", status.message, status.code)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, wait: u32) -> Error {
        let details = serde_json::from_value(serde_json::json!({"retryAfterSeconds": wait})).unwrap();
        let status = kube::core::Status { code, details: Some(details), ..Default::default() };
        Error::write(format!("{code}"), kube::Error::Api(Box::new(status)))
    }

    /// A conflict must not hide a `Retry-After` of a write beside it.
    #[test]
    fn the_most_severe_of_parallel_failures_decides() {
        let most_severe = |codes: &[u16]| {
            let failed = codes.iter().map(|code| refused(*code, u32::from(*code == 429)));
            Error::most_severe(failed.collect()).and_then(|error| error.code())
        };
        assert_eq!(most_severe(&[409, 429, 500]), Some(429));
        assert_eq!(most_severe(&[409, 403, 500]), Some(403), "the first of equals");
        assert_eq!(most_severe(&[409, 409]), Some(409));
        assert_eq!(most_severe(&[]), None);
    }

    #[test]
    fn the_message_of_the_api_server_occurs_once() {
        let status = kube::core::Status {
            code: 422,
            message: "Deployment.apps \"a\" is invalid: spec: wrong".into(),
            reason: "Invalid".into(),
            ..Default::default()
        };
        let error = Error::write("creating Deployment a", kube::Error::Api(Box::new(status)));
        let text = "creating Deployment a: Deployment.apps \"a\" is invalid: spec: wrong (422)";
        assert_eq!((error.to_string().as_str(), error.brief().as_str()), (text, text));
        let status = kube::core::Status { message: "x".repeat(9_000), ..Default::default() };
        let error = Error::write("creating Deployment a", kube::Error::Api(Box::new(status)));
        assert!(error.brief().len() < 400);
    }
}
