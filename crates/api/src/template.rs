//! The release template: the part of a spec that shapes Pods, and its hash (design D3, D4).

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ComponentSpec, MetadataServicesSpec};
use crate::names::Component;

/// Version of the hash input and of the renderer's defaults. It is raised only when an unchanged template must become
/// another release.
pub const HASH_VERSION: i64 = 1;

/// Fields of a spec that shape the Pods of a release, without the fields that are applied in place.
///
/// A field that is added to the spec belongs to the template unless [`copy_in_place`] lists it. A forgotten field can
/// therefore cause a needless release, but never a change of running Pods.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseTemplate(MetadataServicesSpec);

impl ReleaseTemplate {
    /// Returns the template of a spec.
    pub fn of(spec: &MetadataServicesSpec) -> Self {
        let mut template = spec.clone();
        copy_in_place(&MetadataServicesSpec::default(), &mut template);
        Self(template)
    }

    /// Returns the template as a revision stores it.
    pub fn to_value(&self) -> Value {
        // Cannot fail, since every map has string keys. The fallback still differs for different templates.
        serde_json::to_value(&self.0).unwrap_or_else(|_| Value::String(format!("{:?}", self.0)))
    }

    /// Reads the template from a revision. Fields that only a newer operator version knows are lost; the caller
    /// compares the hash with the stored one.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        serde::Deserialize::deserialize(value).map(|spec| Self::of(&spec))
    }

    /// Returns the identity of the template: SHA-256 over canonical JSON.
    pub fn hash(&self) -> ReleaseHash {
        let input = canonical(&json!({"hashVersion": HASH_VERSION, "template": self.to_value()}));
        ReleaseHash(format!("{:x}", Sha256::digest(input.as_bytes())))
    }

    /// Returns the spec that describes this release: the template with the in-place fields of `current`.
    pub fn restore_into(&self, current: &MetadataServicesSpec) -> MetadataServicesSpec {
        let mut spec = self.0.clone();
        copy_in_place(current, &mut spec);
        spec
    }

    /// Returns the template as a spec. Its in-place fields are unset.
    pub const fn spec(&self) -> &MetadataServicesSpec {
        &self.0
    }

    /// Returns the fields of one component.
    pub const fn component(&self, component: Component) -> &ComponentSpec {
        self.0.component(component)
    }
}

/// Copies the fields that are applied in place.
fn copy_in_place(from: &MetadataServicesSpec, to: &mut MetadataServicesSpec) {
    to.rollout = from.rollout.clone();
    to.release_version.clone_from(&from.release_version);
    to.service_account.annotations.clone_from(&from.service_account.annotations);
    for component in Component::ALL {
        let (from, to) = (from.component(component), to.component_mut(component));
        to.replicas = from.replicas;
        to.min_ready_seconds = from.min_ready_seconds;
        to.progress_deadline_seconds = from.progress_deadline_seconds;
        to.service = from.service.clone();
        to.pod_disruption_budget = from.pod_disruption_budget.clone();
    }
}

/// Identity of a release template: 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseHash(String);

impl ReleaseHash {
    /// Reads a stored hash; `None` if the text is no hash.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 64 && digits).then(|| Self(text.to_owned()))
    }

    /// Returns all 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 7 digits, which are part of a generated version.
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

impl fmt::Display for ReleaseHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns canonical JSON: sorted keys, no white space, and no members that are null, since Kubernetes treats null as
/// unset.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            members.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> MetadataServicesSpec {
        serde_json::from_value(value).unwrap()
    }

    fn minimal() -> Value {
        json!({"storage": {"imageTag": "1.0.437"}, "schema": {"imageTag": "1.0.547"}})
    }

    fn full() -> Value {
        serde_json::from_str(include_str!("../../../tests/data/full-spec.json")).unwrap()
    }

    fn hash(value: Value) -> String {
        ReleaseTemplate::of(&spec(value)).hash().to_string()
    }

    /// A changed hash starts a release in every installed resource: raise [`HASH_VERSION`] on purpose, or undo the change.
    #[test]
    fn the_hash_of_a_known_template_does_not_change() {
        assert_eq!(hash(minimal()), "e994e904652eddfd29b99304004abda77fc4eff65884acfb4a639ac776631e85");
        assert_eq!(hash(full()), "0a9097e281b1be33bec51ea52e4613c36729ac3e56a815b7a93f601d827232d9");
    }

    #[test]
    fn in_place_fields_do_not_change_the_hash() {
        let mut value = minimal();
        value["releaseVersion"] = json!("v7");
        value["rollout"] = json!({"paused": true, "gracePeriodSeconds": 5});
        value["serviceAccount"] = json!({"annotations": {"a": "b"}});
        for component in ["storage", "schema"] {
            value[component]["replicas"] = json!(5);
            value[component]["minReadySeconds"] = json!(5);
            value[component]["progressDeadlineSeconds"] = json!(90);
            value[component]["service"] = json!({"type": "LoadBalancer", "port": 80});
            value[component]["podDisruptionBudget"] = json!({"enabled": true});
        }
        assert_eq!(hash(value), hash(minimal()));
    }

    #[test]
    fn unset_and_empty_fields_have_the_same_hash() {
        let mut value = minimal();
        value["tolerations"] = json!([]);
        value["nodeSelector"] = json!({});
        value["serviceAccount"] = json!({});
        value["tenant"] = Value::Null;
        value["storage"]["resources"] = json!({"requests": {}});
        value["storage"]["command"] = json!([]);
        assert_eq!(hash(value), hash(minimal()));
    }

    #[test]
    fn an_empty_security_context_changes_the_hash() {
        let mut value = minimal();
        value["podSecurityContext"] = json!({});
        assert_ne!(hash(value), hash(minimal()));
    }

    #[test]
    fn every_other_field_changes_the_hash() {
        let base = full();
        let pointers = ["", "/storage", "/schema", "/serviceAccount"];
        let in_place = [
            "releaseVersion",
            "rollout",
            "annotations",
            "replicas",
            "minReadySeconds",
            "progressDeadlineSeconds",
            "service",
            "podDisruptionBudget",
            "storage",
            "schema",
            "serviceAccount",
            "imageTag",
        ];
        for pointer in pointers {
            for key in base.pointer(pointer).unwrap().as_object().unwrap().keys() {
                let mut changed = base.clone();
                changed.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key);
                let is_in_place = in_place.contains(&key.as_str());
                if key != "storage" && key != "schema" && key != "imageTag" && key != "serviceAccount" {
                    assert_eq!(hash(changed) == hash(base.clone()), is_in_place, "{pointer}/{key}");
                }
            }
        }
    }

    #[test]
    fn a_stored_template_is_read_unchanged() {
        let template = ReleaseTemplate::of(&spec(full()));
        let again = ReleaseTemplate::from_value(&template.to_value()).unwrap();
        assert_eq!(again, template);
        assert_eq!(again.hash(), template.hash());
        assert_eq!(ReleaseHash::parse(template.hash().as_str()), Some(template.hash()));
        assert_eq!(ReleaseHash::parse("abc"), None);
    }

    #[test]
    fn restoring_a_template_keeps_the_in_place_fields() {
        let recorded = ReleaseTemplate::of(&spec(minimal()));
        let current = spec(full());
        let restored = recorded.restore_into(&current);
        assert_eq!(ReleaseTemplate::of(&restored), recorded);
        assert_eq!(restored.rollout, current.rollout);
        assert_eq!(restored.storage.replicas, current.storage.replicas);
        assert_eq!(restored.storage.service, current.storage.service);
        assert_eq!(restored.service_account.annotations, current.service_account.annotations);
        assert_eq!(restored.storage.image_tag, "1.0.437");
        // Restoring a spec's own template changes nothing.
        assert_eq!(ReleaseTemplate::of(&current).restore_into(&current), current);
    }
}
