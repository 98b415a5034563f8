//! Waiting: prints each change of the resource until the release in the spec is active or has failed.

use std::time::Duration;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use tokio::time::timeout;

use super::requests::open_request;
use super::{Error, Subject, print, view};
use api::MetadataServices;
use rollout::EventReason;

/// The default of the longest wait, in seconds: the default times of all steps of a rollout, and a margin.
pub(super) const TIMEOUT: u64 = 900;

/// The progress of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The rollout is not complete.
    Incomplete,
    /// The release in the spec is active.
    Done,
    /// The rollout needs the action in the message.
    Stuck(String),
}

/// Judges the progress by the status alone.
pub(super) fn progress(resource: &MetadataServices) -> Progress {
    let Some(status) = &resource.status else { return Progress::Incomplete };
    if open_request(resource).is_some() || status.observed_generation != resource.metadata.generation {
        return Progress::Incomplete;
    }
    let stalled = status.condition("Stalled").filter(|condition| condition.status == "True");
    if let Some(why) = stalled.filter(|_| matches!(status.phase.as_deref(), Some("Failed" | "Pending"))) {
        return Progress::Stuck(why.message.clone());
    }
    if status.deployment_phase.as_deref() != Some("Stable") {
        return Progress::Incomplete;
    }
    match (status.condition("SpecApplied"), status.condition("Progressing")) {
        (Some(applied), _) if applied.status != "True" => Progress::Stuck(applied.message.clone()),
        (_, Some(progressing)) if progressing.reason == EventReason::RequestRefused.as_str() => {
            Progress::Stuck(progressing.message.clone())
        }
        (Some(_), _) => Progress::Done,
        (None, _) => Progress::Incomplete,
    }
}

impl Subject {
    /// Prints each change until the rollout ends or `seconds` have passed.
    pub(super) async fn follow(&self, seconds: u64) -> Result<(), Error> {
        let mut last = String::new();
        let ended = timeout(Duration::from_secs(seconds), self.watch(&mut last)).await;
        ended.unwrap_or_else(|_| {
            let state = if last.is_empty() { "the API server did not answer" } else { last.trim_end() };
            Err(Error::Outcome(format!("not complete after {seconds} s; last state: {state}")))
        })
    }

    async fn watch(&self, last: &mut String) -> Result<(), Error> {
        let mut changes = std::pin::pin!(watch_object(self.api.clone(), &self.name).default_backoff());
        while let Some(change) = changes.next().await {
            let resource = match change {
                Ok(Some(resource)) => resource,
                Ok(None) => return Err(self.absent()),
                // The watcher retries other errors; a denied request stays denied.
                Err(error) if is_denied(&error) => return Err(Error::Outcome(error.to_string())),
                Err(_) => continue,
            };
            let line = view::line(&resource);
            if line != *last {
                print(&line);
                *last = line;
            }
            match progress(&resource) {
                Progress::Incomplete => {}
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
