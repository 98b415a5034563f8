//! The `ControllerRevision` of a release (design D6). A rollback restores its template, and a lost history is rebuilt from
//! it.

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Defaults, common_labels, meta, strings};
use api::names::{self, Owner};
use api::template::{HASH_VERSION, ReleaseHash, ReleaseTemplate};

/// The value of the outcome annotation of a failed release.
pub const FAILED: &str = "Failed";

/// The content of a `ControllerRevision`.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionData {
    /// The version of the release.
    pub version: String,
    /// The hash of the template.
    pub hash: ReleaseHash,
    /// The release template.
    pub template: ReleaseTemplate,
    /// The defaults of the operator at the time; `None` if an older operator wrote the revision.
    pub defaults: Option<Defaults>,
    /// The position in the history; a release that becomes active again gets a higher number.
    pub number: i64,
    /// Why the release failed; `None` if it did not fail.
    pub failed: Option<String>,
}

/// Renders the `ControllerRevision` of a release.
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

/// Returns the version of the release. The name of the object is derived from it; other fields may have been edited.
pub fn version_of(revision: &ControllerRevision) -> Option<String> {
    let ObjectMeta { name, labels, annotations, .. } = &revision.metadata;
    let (name, owner) = (name.as_ref()?, labels.as_ref()?.get(names::LABEL_APP)?);
    let annotated = annotations.as_ref().and_then(|all| all.get(names::RELEASE_VERSION)).map(String::as_str);
    let recorded = revision.data.as_ref().and_then(|data| data.0.get("version")).and_then(Value::as_str);
    let named = |version: &&str| names::revision(owner, version) == *name;
    annotated.into_iter().chain(recorded).find(named).map(str::to_owned)
}

/// Reads a `ControllerRevision`. The error is the reason why the release cannot be restored from it.
pub fn read(revision: &ControllerRevision) -> Result<RevisionData, String> {
    let data = revision.data.as_ref().map(|data| &data.0).ok_or("it has no data")?;
    let text = |key: &str| data.get(key).and_then(Value::as_str).ok_or(format!("its {key} is missing"));
    let version = version_of(revision).ok_or("its name does not match its version")?;
    if text("version")? != version {
        return Err(format!("it is a copy of the ControllerRevision of {}", text("version")?));
    }
    let hash = ReleaseHash::parse(text("hash")?).ok_or("its hash is malformed")?;
    let recorded = data.get("template").ok_or("its template is missing")?;
    let template = ReleaseTemplate::from_value(recorded).map_err(|error| format!("its template: {error}"))?;
    if template.hash() != hash {
        // A newer operator may have written unknown fields or another hash format.
        return Err(
            "its template does not match its hash: it was edited, or a newer operator wrote it".into()
        );
    }
    let defaults = data.get("defaults").map(Defaults::deserialize).transpose();
    let defaults = defaults.map_err(|error| format!("its defaults: {error}"))?;
    Ok(RevisionData {
        version,
        hash,
        template,
        defaults,
        number: revision.revision,
        failed: failed(revision),
    })
}

/// Returns why the release failed, also if the rest of the object is unreadable.
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
    fn a_revision_is_read_back() {
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
    fn a_revision_of_a_newer_operator_is_not_restored() {
        let mut written = controller_revision(&owner(), &template(), &defaults(), "v1", 1, None);
        let data = &mut written.data.as_mut().unwrap().0;
        data["template"]["storage"]["fieldOfTomorrow"] = json!(1);
        data["hash"] = json!("0".repeat(64));
        assert!(read(&written).unwrap_err().contains("a newer operator"));
    }

    #[test]
    fn a_broken_revision_names_its_defect() {
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
