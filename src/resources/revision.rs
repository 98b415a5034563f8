//! The record of a release, as a `ControllerRevision` (design D6): what a rollback restores, and what history is
//! rebuilt from if the status is lost.

use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::runtime::RawExtension};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Defaults, common_labels, meta, strings};
use crate::{
    api::template::{HASH_VERSION, ReleaseHash, ReleaseTemplate},
    names::{self, Owner},
};

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
    /// Whether the template is all that was recorded. False if a newer operator recorded fields or a hash format
    /// that this one does not know: then it must not be restored.
    pub faithful: bool,
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

/// Reads a record; the error says what is wrong with it.
pub fn read(revision: &ControllerRevision) -> Result<Record, String> {
    let data = revision.data.as_ref().map(|data| &data.0).ok_or("it has no data")?;
    let text = |key: &str| data.get(key).and_then(Value::as_str).ok_or(format!("its {key} is missing"));
    let hash = ReleaseHash::parse(text("hash")?).ok_or("its hash is malformed")?;
    let recorded = data.get("template").ok_or("its template is missing")?;
    let template = ReleaseTemplate::from_value(recorded).map_err(|error| format!("its template: {error}"))?;
    let defaults = data.get("defaults").map(Defaults::deserialize).transpose();
    let annotations = revision.metadata.annotations.as_ref();
    let annotation = |key: &str| annotations.and_then(|annotations| annotations.get(key)).cloned();
    let failed = annotation(names::OUTCOME).is_some_and(|outcome| outcome == FAILED);
    Ok(Record {
        version: text("version")?.to_owned(),
        defaults: defaults.map_err(|error| format!("its defaults: {error}"))?,
        faithful: template.hash() == hash,
        failed: failed.then(|| annotation(names::OUTCOME_REASON).unwrap_or_default()),
        number: revision.revision,
        hash,
        template,
    })
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
        assert!(record.faithful);
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
        assert!(!read(&written).unwrap().faithful);
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
