//! What can go wrong in a pass, sorted by what it means for the next one.

use std::time::Duration;

use rollout::health::shorten;

/// A failed pass. Nothing is half done that the next pass would not find and finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read; that never counts as absent.
    #[error("reading {what} {name}: {}", said(source))]
    Read {
        /// The kind.
        what: String,
        /// Its name or selector.
        name: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Something could not be written.
    #[error("{action}: {}", said(source))]
    Write {
        /// What was tried, on which object.
        action: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
    /// This instance may not write any more.
    #[error("not leading: {0} was not done")]
    NotLeading(String),
    /// The API server has not told its time yet.
    #[error("the API server's time is not known yet")]
    NoClock,
    /// An object that ought to be in the snapshot is not: it changed meanwhile.
    #[error("{0} changed meanwhile")]
    Moved(String),
    /// Something failed that what is under way need not wait for.
    #[error("{error}")]
    PutOff {
        /// What.
        error: Box<Error>,
        /// When the rest is due.
        due: Duration,
    },
    /// A bug: the pass panicked. Other resources go on.
    #[error("a bug in the operator: {0}; please report it with the resource and the log")]
    Panic(String),
    /// A template cannot be rendered.
    #[error("rendering {object}: {reason}")]
    Render {
        /// The object.
        object: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// A failed read.
    pub fn read(what: &str, name: &str, source: kube::Error) -> Self {
        Self::Read { what: what.to_owned(), name: name.to_owned(), source: Box::new(source) }
    }

    /// A failed change of an object that was read: one that is gone by now has moved on.
    pub fn change(action: impl Into<String>, object: String, source: kube::Error) -> Self {
        match source {
            kube::Error::Api(status) if status.code == 404 => Self::Moved(object),
            source => Self::write(action, source),
        }
    }

    /// A failed write.
    pub fn write(action: impl Into<String>, source: kube::Error) -> Self {
        Self::Write { action: action.into(), source: Box::new(source) }
    }

    /// Of what failed side by side, the one that says most about when to try again: a busy API server's, then any that does
    /// not only mean that the world moved on.
    pub fn worst(failed: Vec<Self>) -> Option<Self> {
        failed.into_iter().rev().max_by_key(|error| (error.retry_after().is_some(), !error.is_conflict()))
    }

    /// What failed, and when the resource has to be looked at again at the latest.
    pub fn and_due(&self) -> (&Self, Duration) {
        match self {
            Self::PutOff { error, due } => (error, *due),
            other => (other, Duration::MAX),
        }
    }

    /// For people who read it in a condition: at most so long that it can be read.
    pub fn brief(&self) -> String {
        shorten(&self.to_string())
    }

    /// The HTTP status, if the server answered with one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::PutOff { error, .. } => error.code(),
            Self::NotLeading(_) | Self::NoClock | Self::Moved(_) | Self::Panic(_) | Self::Render { .. } => {
                None
            }
        }
    }

    /// How long the API server asks to be left alone, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self else { return None };
        let kube::Error::Api(status) = source.as_ref() else { return None };
        let details = status.details.as_ref().filter(|_| status.code == 429)?;
        Some(Duration::from_secs(details.retry_after_seconds.into()))
    }

    /// Whether it only means that the world moved on: look again soon, and count nothing.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Moved(_)) || (self.code() == Some(409) && matches!(self, Self::Write { .. }))
    }

    /// Whether the namespace is on its way out: then nothing can be created in it any more, and nothing need be.
    pub fn is_namespace_leaving(&self) -> bool {
        let Self::Write { source, .. } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Whether the API server will answer the same until a person acts.
    pub fn is_lasting(&self) -> bool {
        matches!(self.code(), Some(400 | 403 | 404 | 422))
    }

    /// Whether the API server could not do it, which may pass: but a release is not waited for longer than it may take.
    pub fn is_ill(&self) -> bool {
        matches!(self.code(), Some(500..=599))
    }

    /// Whether it passes by itself: the server is busy, away or slow.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoClock | Self::NotLeading(_) => true,
            Self::PutOff { error, .. } => error.is_transient(),
            Self::Moved(_) | Self::Panic(_) | Self::Render { .. } => false,
            Self::Read { source, .. } | Self::Write { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => matches!(status.code, 429 | 500..=599),
                // No answer, or half of one: the connection broke, or the deadline passed.
                _ => true,
            },
        }
    }
}

/// What the API server said, once and with its code, or how it could not be asked.
fn said(source: &kube::Error) -> String {
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

    /// A sibling that lost its compare-and-swap must not hide that the API server asked to be left alone.
    #[test]
    fn of_what_failed_side_by_side_the_one_that_asks_for_time_counts() {
        let worst = |codes: &[u16]| {
            let failed = codes.iter().map(|code| refused(*code, u32::from(*code == 429)));
            Error::worst(failed.collect()).and_then(|error| error.code())
        };
        assert_eq!(worst(&[409, 429, 500]), Some(429));
        assert_eq!(worst(&[409, 403, 500]), Some(403), "the first of equals");
        assert_eq!(worst(&[409, 409]), Some(409));
        assert_eq!(worst(&[]), None);
    }

    #[test]
    fn what_the_api_server_said_is_told_once() {
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
