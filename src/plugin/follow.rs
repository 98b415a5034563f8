//! Waiting: each change of the resource as a line, until what the spec asks for serves or cannot.

use std::time::Duration;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use tokio::time::timeout;

use super::act::open_request;
use super::{Error, Subject, say, view};
use api::MetadataServices;

/// How long to wait when nothing is said, in seconds: the deploy timeout, grace, dwell, cleanup and some.
pub(super) const PATIENCE: u64 = 900;

/// How far a resource has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not there yet.
    Under,
    /// What the spec asks for serves.
    Done,
    /// It will not get there by itself; why.
    Stuck(String),
}

/// How far it has got, by its status alone.
pub(super) fn progress(resource: &MetadataServices) -> Progress {
    let Some(status) = &resource.status else { return Progress::Under };
    if open_request(resource).is_some() || status.observed_generation != resource.metadata.generation {
        return Progress::Under;
    }
    let stalled = status.condition("Stalled").filter(|condition| condition.status == "True");
    if let Some(why) = stalled.filter(|_| matches!(status.phase.as_deref(), Some("Failed" | "Pending"))) {
        return Progress::Stuck(why.message.clone());
    }
    if status.deployment_phase.as_deref() != Some("Stable") {
        return Progress::Under;
    }
    match (status.condition("SpecApplied"), status.condition("Progressing")) {
        (Some(applied), _) if applied.status != "True" => Progress::Stuck(applied.message.clone()),
        (_, Some(progressing)) if progressing.reason == "RequestRefused" => {
            Progress::Stuck(progressing.message.clone())
        }
        (Some(_), _) => Progress::Done,
        (None, _) => Progress::Under,
    }
}

impl Subject {
    /// Prints each change, until the end or for so many seconds.
    pub(super) async fn follow(&self, seconds: u64) -> Result<(), Error> {
        let mut last = String::new();
        let ended = timeout(Duration::from_secs(seconds), self.watch(&mut last)).await;
        ended.unwrap_or_else(|_| {
            let state = if last.is_empty() { "the API server did not answer" } else { last.trim_end() };
            Err(Error::Outcome(format!("not done within {seconds} s; last seen: {state}")))
        })
    }

    async fn watch(&self, last: &mut String) -> Result<(), Error> {
        let mut changes = std::pin::pin!(watch_object(self.api.clone(), &self.name).default_backoff());
        while let Some(change) = changes.next().await {
            let resource = match change {
                Ok(Some(resource)) => resource,
                Ok(None) => return Err(self.absent()),
                // The watcher begins anew by itself; what is denied stays denied.
                Err(error) if is_denied(&error) => return Err(Error::Outcome(error.to_string())),
                Err(_) => continue,
            };
            let line = view::line(&resource);
            if line != *last {
                say(&line);
                *last = line;
            }
            match progress(&resource) {
                Progress::Under => {}
                Progress::Done => return Ok(()),
                Progress::Stuck(why) => return Err(Error::Outcome(why)),
            }
        }
        Ok(())
    }
}

fn is_denied(error: &kube::runtime::watcher::Error) -> bool {
    use kube::runtime::watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 401 | 403 | 404)
        }
        Error::InitialListFailed(_)
        | Error::WatchStartFailed(_)
        | Error::WatchError(_)
        | Error::WatchFailed(_)
        | Error::NoResourceVersion => false,
    }
}
