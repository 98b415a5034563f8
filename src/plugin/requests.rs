//! The requests of a user as changes of the resource. Pure: resource in, change out.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Error, Subject, print};
use api::names::{RESTART, RETRY, ROLLBACK_TO};
use api::status::RecordStatus;
use api::{MetadataServices, MetadataServicesStatus};

/// A merge patch with its explanation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// The patch, with the resourceVersion of the read.
    pub patch: Value,
    /// The effect of the patch, for people.
    pub meaning: String,
}

impl Change {
    fn annotate(resource: &MetadataServices, key: &str, value: &str, meaning: String) -> Self {
        let version = resource.resource_version();
        Self {
            patch: json!({"metadata": {"resourceVersion": version, "annotations": {key: value}}}),
            meaning,
        }
    }
}

fn status(resource: &MetadataServices) -> Result<&MetadataServicesStatus, Error> {
    resource.status.as_ref().ok_or_else(|| {
        Error::Refused("the operator has not reconciled this resource yet; is it running?".into())
    })
}

/// Rolls back to a release that was active before: the given one, else the last but one in the history. That is the active
/// release while another one is pending or has failed, and otherwise the previous release.
pub(super) fn rollback(resource: &MetadataServices, to: Option<&str>) -> Result<Change, Error> {
    let status = status(resource)?;
    let targets = status.release_history.iter().filter(|record| record.activated_at.is_some());
    let choices = || {
        let versions: Vec<&str> = targets.clone().map(|record| record.version.as_str()).collect();
        if versions.is_empty() {
            "no release was active yet".to_owned()
        } else {
            format!("possible versions: {}", versions.join(", "))
        }
    };
    let record = match to {
        Some(version) => status.record(version),
        None => status.release_history.iter().rev().nth(1),
    };
    let record = record.filter(|record| record.activated_at.is_some()).ok_or_else(|| {
        let problem = to.map_or_else(
            || "there is no release to roll back to".into(),
            |version| format!("{version} was never the active release"),
        );
        Error::Refused(format!("{problem}; {}", choices()))
    })?;
    let version = &record.version;
    let tags = format!("storage {}, schema {}", record.storage_tag, record.schema_tag);
    let meaning = if record.status == RecordStatus::Active {
        format!("keeping {version} ({tags}); cancelling the pending release and clearing the failed one")
    } else {
        format!("rolling back to {version} ({tags})")
    };
    Ok(Change::annotate(resource, ROLLBACK_TO, version, meaning))
}

/// Retries the failed release of the spec.
pub(super) fn retry(resource: &MetadataServices) -> Result<Change, Error> {
    let applied = status(resource)?.condition("SpecApplied");
    let blocked = applied.is_some_and(|condition| condition.reason == "RolledBack");
    if !blocked {
        return Err(Error::Refused("nothing to retry: the release in the spec has not failed".into()));
    }
    Ok(Change::annotate(resource, RETRY, "now", "retrying the failed release".into()))
}

/// Deploys the active release again.
pub(super) fn restart(resource: &MetadataServices) -> Result<Change, Error> {
    let version = status(resource)?.active_release_version.as_ref();
    let version =
        version.ok_or_else(|| Error::Refused("nothing to restart: there is no active release yet".into()))?;
    Ok(Change::annotate(resource, RESTART, "now", format!("replacing every Pod of {version}, blue-green")))
}

/// Pauses or resumes new releases.
pub(super) fn pause(resource: &MetadataServices, paused: bool) -> Result<Change, Error> {
    if resource.spec.rollout.paused() == paused {
        let state = if paused { "already paused" } else { "not paused" };
        return Err(Error::Refused(format!("{} is {state}", resource.name_any())));
    }
    let value = if paused { Value::Bool(true) } else { Value::Null };
    let version = resource.resource_version();
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"rollout": {"paused": value}}});
    let meaning = if paused { "paused: no new release starts" } else { "resumed: new releases start" };
    Ok(Change { patch, meaning: meaning.into() })
}

/// Returns the annotation of a request that the operator has not handled yet.
pub(super) fn open_request(resource: &MetadataServices) -> Option<&'static str> {
    [ROLLBACK_TO, RETRY, RESTART].into_iter().find(|key| resource.annotations().contains_key(*key))
}

/// Rejects a request while another one is open, since their order would be undefined.
pub(super) fn reject_second(resource: &MetadataServices) -> Result<(), Error> {
    match open_request(resource) {
        Some(key) => Err(Error::Refused(format!(
            "the operator has not handled an earlier request ({key}) yet; see kubectl mds status, or remove the annotation"
        ))),
        None => Ok(()),
    }
}

impl Subject {
    pub(super) async fn change(&self, change: &Change) -> Result<(), Error> {
        let params = PatchParams { field_manager: Some(super::NAME.into()), ..PatchParams::default() };
        let patched = self.api.patch(&self.name, &params, &Patch::Merge(&change.patch)).await;
        match patched {
            Ok(_) => {
                print(&format!("{}: {}\n", self.name, change.meaning));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Error::Refused(format!(
                "another client changed {} at the same time; check it with kubectl mds status and send the request again",
                self.name
            ))),
            Err(source) => Err(self.failed("changing", source)),
        }
    }
}
