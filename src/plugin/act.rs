//! What the plugin asks for, as changes of the resource. Pure: resource in, change out.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Error, Subject, say};
use api::names::{RESTART, RETRY, ROLLBACK_TO};
use api::status::RecordStatus;
use api::{MetadataServices, MetadataServicesStatus};

/// A merge patch, and what it means.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// The patch; it carries the resourceVersion that it was decided on.
    pub patch: Value,
    /// What it means, for people.
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
        Error::Refused("the operator has not looked at this resource yet; is it running?".into())
    })
}

/// Goes back to a release that served: the one asked for, else the one that the history's last but one record names
/// (the serving one while another is on its way or has failed, the one before it otherwise).
pub(super) fn rollback(resource: &MetadataServices, to: Option<&str>) -> Result<Change, Error> {
    let status = status(resource)?;
    let served = status.release_history.iter().filter(|record| record.activated_at.is_some());
    let choices = || {
        let versions: Vec<&str> = served.clone().map(|record| record.version.as_str()).collect();
        if versions.is_empty() {
            "none served yet".to_owned()
        } else {
            format!("there are: {}", versions.join(", "))
        }
    };
    let record = match to {
        Some(version) => status.record(version),
        None => status.release_history.iter().rev().nth(1),
    };
    let record = record.filter(|record| record.activated_at.is_some()).ok_or_else(|| {
        let which = to.map_or_else(
            || "there is no release to go back to".into(),
            |version| format!("{version} is no release that served"),
        );
        Error::Refused(format!("{which}; {}", choices()))
    })?;
    let version = &record.version;
    let tags = format!("storage {}, schema {}", record.storage_tag, record.schema_tag);
    let meaning = if record.status == RecordStatus::Active {
        format!("staying on {version} ({tags}): whatever else is on its way or has failed is given up")
    } else {
        format!("rolling back to {version} ({tags})")
    };
    Ok(Change::annotate(resource, ROLLBACK_TO, version, meaning))
}

/// Tries the release that is blocked again.
pub(super) fn retry(resource: &MetadataServices) -> Result<Change, Error> {
    let applied = status(resource)?.condition("SpecApplied");
    let blocked = applied.is_some_and(|condition| condition.reason == "RolledBack");
    if !blocked {
        return Err(Error::Refused("nothing to retry: no failed release is held back".into()));
    }
    Ok(Change::annotate(resource, RETRY, "now", "trying the failed release again".into()))
}

/// Deploys the serving release anew.
pub(super) fn restart(resource: &MetadataServices) -> Result<Change, Error> {
    let version = status(resource)?.active_release_version.as_ref();
    let version =
        version.ok_or_else(|| Error::Refused("nothing to restart: no release serves yet".into()))?;
    Ok(Change::annotate(resource, RESTART, "now", format!("replacing every pod of {version}, blue-green")))
}

/// Holds new releases back, or lets them go.
pub(super) fn pause(resource: &MetadataServices, paused: bool) -> Result<Change, Error> {
    if resource.spec.rollout.paused() == paused {
        let already = if paused { "paused already" } else { "not paused" };
        return Err(Error::Refused(format!("{} is {already}", resource.name_any())));
    }
    let value = if paused { Value::Bool(true) } else { Value::Null };
    let version = resource.resource_version();
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"rollout": {"paused": value}}});
    let meaning =
        if paused { "no new release starts until it is resumed" } else { "new releases start again" };
    Ok(Change { patch, meaning: meaning.into() })
}

/// The annotation of a request that the operator has not acted on yet.
pub(super) fn open_request(resource: &MetadataServices) -> Option<&'static str> {
    [ROLLBACK_TO, RETRY, RESTART].into_iter().find(|key| resource.annotations().contains_key(*key))
}

/// Two requests at once would leave it open which comes first.
pub(super) fn refuse_a_second(resource: &MetadataServices) -> Result<(), Error> {
    match open_request(resource) {
        Some(key) => Err(Error::Refused(format!(
            "an earlier request ({key}) has not been acted on yet; see kubectl mds status, or remove the annotation"
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
                say(&format!("{}: {}\n", self.name, change.meaning));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Error::Refused(format!(
                "{} changed in the same moment; look at it (kubectl mds status) and ask again",
                self.name
            ))),
            Err(source) => Err(self.failed("changing", source)),
        }
    }
}
