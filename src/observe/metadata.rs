//! Metadata as the operator decodes it. Fields that any user can write are decoded leniently.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use serde::de::IgnoredAny;

use api::names::{GROUP, MANAGER};

/// Metadata as the API server sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    owner_references: Vec<OwnerReference>,
    deletion_timestamp: Option<Time>,
    creation_timestamp: Option<Time>,
    #[serde(default, deserialize_with = "or_default")]
    managed_fields: Vec<RawManager>,
}

/// An entry of the managed fields: the manager, the time of its last change, and whether it set a field of the pod template.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManager {
    manager: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    time: Option<Time>,
    fields_v1: Option<RawFields>,
}

#[derive(Deserialize)]
struct RawFields {
    #[serde(rename = "f:spec")]
    spec: Option<RawSpecFields>,
}

#[derive(Deserialize)]
struct RawSpecFields {
    #[serde(rename = "f:template")]
    template: Option<IgnoredAny>,
}

impl RawMeta {
    /// Returns when the operator last changed the object, in whole seconds of the API server's clock, rounded down.
    pub fn changed(&self) -> Option<Time> {
        let ours = self.managed_fields.iter().filter(|entry| entry.manager.as_deref() == Some(MANAGER));
        ours.filter_map(|entry| entry.time.clone()).max_by_key(|time| time.0)
    }

    /// Lists the other field managers that set a field of the pod template.
    pub fn template_managers(&self) -> Vec<String> {
        let mut managers: Vec<String> = self
            .managed_fields
            .iter()
            .filter(|entry| {
                let spec = entry.fields_v1.as_ref().and_then(|fields| fields.spec.as_ref());
                spec.is_some_and(|spec| spec.template.is_some())
            })
            .filter_map(|entry| entry.manager.clone())
            .filter(|manager| manager != MANAGER)
            .collect();
        managers.sort();
        managers.dedup();
        managers
    }
}

impl From<RawMeta> for ObjectMeta {
    fn from(raw: RawMeta) -> Self {
        let ours = format!("{GROUP}/");
        let annotations: BTreeMap<_, _> =
            raw.annotations.into_iter().filter(|(key, _)| key.starts_with(&ours)).collect();
        Self {
            name: raw.name,
            namespace: raw.namespace,
            uid: raw.uid,
            resource_version: raw.resource_version,
            generation: raw.generation,
            labels: Some(raw.labels),
            annotations: Some(annotations),
            owner_references: Some(raw.owner_references),
            deletion_timestamp: raw.deletion_timestamp,
            creation_timestamp: raw.creation_timestamp,
            ..Self::default()
        }
    }
}

/// Reads `null` as the default: Go programs write an empty list so.
pub fn or_default<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a time that another client wrote. An unreadable time, such as one in the year 10000, counts as absent, so that it
/// does not hide the object.
pub fn if_readable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()).map(Time))
}

/// Reads metadata and drops managed fields and the annotations of other clients.
pub fn trimmed_meta<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    RawMeta::deserialize(deserializer).map(ObjectMeta::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_change_is_the_operators_own_and_odd_times_hide_nothing() {
        let read = |fields| {
            serde_json::from_value::<RawMeta>(json!({"name": "a", "managedFields": fields})).unwrap()
        };
        let entry = |manager: &str, time: &str| json!({"manager": manager, "time": time});
        let raw = read(json!([
            entry(MANAGER, "2026-09-21T14:13:20Z"),
            entry("kubectl", "2026-09-21T15:00:00Z"),
            entry(MANAGER, "2026-09-21T14:13:25Z"),
            entry(MANAGER, "10000-01-01T11:59:59Z"),
            {"manager": MANAGER},
        ]));
        assert_eq!(raw.changed().map(|time| time.0.to_string()).as_deref(), Some("2026-09-21T14:13:25Z"));
        assert_eq!(read(json!(null)).changed(), None);
        assert_eq!(read(json!([entry("kubectl", "2026-09-21T15:00:00Z")])).changed(), None);
    }
}
