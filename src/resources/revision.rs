//! The record of a release, as a `ControllerRevision` (design D6): what a rollback restores, and what history is
//! rebuilt from if the status is lost.

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Defaults, common_labels, meta, strings};

use api::names::{self, Owner};
use api::template::{HASH_VERSION, ReleaseHash, ReleaseTemplate};

/// Value of the outcome annotation of a release that failed.
pub const FAILED: &str = "Failed";

/// A recorded release.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name.
    pub version: String,
    /// Its identity, as recorded.
    pub hash: ReleaseHash,
    /// What shapes its pods.
    pub template: ReleaseTemplate,
    /// What the operator added to it; `None` in a record of a version that did not record this.
    pub defaults: Option<Defaults>,
    /// Orders the history: raised when a release is activated again.
    pub number: i64,
    /// Why it failed; `None` if it did not.
    pub failed: Option<String>,
}

/// Renders the record of a release.
pub fn controller_revision(
    owner: &Owner,
    template: &ReleaseTemplate,
    defaults: &Defaults,
    version: &str,
    number: i64,
    failed: Option<&str>,
) -> ControllerRevision {
    let hash = template.hash();
    let mut annotations = strings([(names::RELEASE_VERSION, version), (names::RELEASE_HASH, hash.as_str())]);
    if let Some(reason) = failed {
        annotations.extend(strings([(names::OUTCOME, FAILED), (names::OUTCOME_REASON, reason)]));
    }
    ControllerRevision {
        metadata: meta(owner, names::revision(&owner.name, version), common_labels(&owner.name), annotations),
        data: Some(RawExtension(json!({
            "hashVersion": HASH_VERSION,
            "version": version,
            "hash": hash.as_str(),
            "template": template.to_value(),
            "defaults": defaults,
        }))),
        revision: number,
    }
}

/// The version that an object records: the one that its name is made of, since what else it says may have been edited.
pub fn version_of(revision: &ControllerRevision) -> Option<String> {
    let ObjectMeta { name, labels, annotations, .. } = &revision.metadata;
    let (name, owner) = (name.as_ref()?, labels.as_ref()?.get(names::LABEL_APP)?);
    let annotated = annotations.as_ref().and_then(|all| all.get(names::RELEASE_VERSION)).map(String::as_str);
    let recorded = revision.data.as_ref().and_then(|data| data.0.get("version")).and_then(Value::as_str);
    let named = |version: &&str| names::revision(owner, version) == *name;
    annotated.into_iter().chain(recorded).find(named).map(str::to_owned)
}

/// Reads a record; the error says why its release cannot be restored from it.
pub fn read(revision: &ControllerRevision) -> Result<Record, String> {
    let data = revision.data.as_ref().map(|data| &data.0).ok_or("it has no data")?;
    let text = |key: &str| data.get(key).and_then(Value::as_str).ok_or(format!("its {key} is missing"));
    let version = version_of(revision).ok_or("its name is not that of the version that it says")?;
    if text("version")? != version {
        return Err(format!("it is a copy of the record of {}", text("version")?));
    }
    let hash = ReleaseHash::parse(text("hash")?).ok_or("its hash is malformed")?;
    let recorded = data.get("template").ok_or("its template is missing")?;
    let template = ReleaseTemplate::from_value(recorded).map_err(|error| format!("its template: {error}"))?;
    if template.hash() != hash {
        // A newer operator may have recorded fields, or a format of the hash, that this one does not know.
        return Err("its template is not the one that its hash was made of: it was edited, or a newer operator wrote \
                    it"
            .into());
    }
    let defaults = data.get("defaults").map(Defaults::deserialize).transpose();
    let defaults = defaults.map_err(|error| format!("its defaults: {error}"))?;
    Ok(Record { version, hash, template, defaults, number: revision.revision, failed: failed(revision) })
}

/// Why the release failed, if it did; the mark counts even if the rest cannot be read.
pub fn failed(revision: &ControllerRevision) -> Option<String> {
    let annotation = |key: &str| revision.metadata.annotations.as_ref()?.get(key).cloned();
    let failed = annotation(names::OUTCOME).is_some_and(|outcome| outcome == FAILED);
    failed.then(|| annotation(names::OUTCOME_REASON).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> ReleaseTemplate {
        let value: Value = serde_json::from_str(include_str!("../../tests/data/full-spec.json")).unwrap();
        ReleaseTemplate::from_value(&value).unwrap()
    }

    fn owner() -> Owner {
        Owner { name: "sample1".into(), namespace: "autoscalingv2".into(), uid: "u".into() }
    }

    fn defaults() -> Defaults {
        Defaults { image_repository: "registry.example/e6".into(), sleep_action: true }
    }

    #[test]
    fn a_record_is_read_back() {
        let written =
            controller_revision(&owner(), &template(), &defaults(), "v1", 4, Some("ImagePullBackOff"));
        let record = read(&written).unwrap();
        assert_eq!(record.template, template());
        assert_eq!(record.defaults, Some(defaults()));
        assert_eq!((record.version.as_str(), record.number), ("v1", 4));
        assert_eq!(record.failed.as_deref(), Some("ImagePullBackOff"));
        let good = controller_revision(&owner(), &template(), &defaults(), "v1", 4, None);
        assert_eq!(read(&good).unwrap().failed, None);
    }

    #[test]
    fn a_record_of_a_newer_operator_is_not_restored() {
        let mut written = controller_revision(&owner(), &template(), &defaults(), "v1", 1, None);
        let data = &mut written.data.as_mut().unwrap().0;
        data["template"]["storage"]["fieldOfTomorrow"] = json!(1);
        data["hash"] = json!("0".repeat(64));
        assert!(read(&written).unwrap_err().contains("a newer operator"));
    }

    #[test]
    fn a_broken_record_says_what_is_wrong() {
        let mut written = controller_revision(&owner(), &template(), &defaults(), "v1", 1, None);
        written.data.as_mut().unwrap().0["hash"] = json!("abc");
        assert!(read(&written).unwrap_err().contains("hash"));
        let mut written = controller_revision(&owner(), &template(), &defaults(), "v1", 1, None);
        written.data.as_mut().unwrap().0["defaults"] = json!({"imageRepository": 1});
        assert!(read(&written).unwrap_err().contains("defaults"));
        written.data = None;
        assert!(read(&written).is_err());
    }
}
