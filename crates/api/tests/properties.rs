//! Properties of every spec and status: an API server stores them without loss, and the release hash depends on the
//! values of the spec, not on its notation.

// Tests fail by unwrapping, indexing and panics.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use api::template::{ReleaseTemplate, canonical};
use api::{MetadataServicesSpec, MetadataServicesStatus};
use simulator::arbitrary::{part, spec, status};

fn read(value: &Value) -> MetadataServicesSpec {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// Returns a value as an API server stores it: without fields that the schema lacks, and without null.
fn pruned(value: &Value, schema: &Value) -> Value {
    if schema["x-kubernetes-preserve-unknown-fields"] == json!(true) {
        return value.clone();
    }
    match value {
        Value::Object(map) => {
            let field =
                |name: &str| schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            let kept = kept.filter_map(|(name, value)| Some((name.clone(), pruned(value, field(name)?))));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(|item| pruned(item, &schema["items"])).collect(),
        scalar => scalar.clone(),
    }
}

/// Removes members that equal an unset one: null, empty objects and empty lists. Quantities are read as strings.
fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(name, value)| (name.clone(), without_empty(value)));
            let empty =
                |value: &Value| matches!(value, Value::Null) || *value == json!({}) || *value == json!([]);
            Value::Object(kept.filter(|(_, value)| !empty(value)).collect())
        }
        Value::Array(items) => items.iter().map(without_empty).collect(),
        // Quantities are read as strings.
        Value::Number(number) => Value::String(number.to_string()),
        scalar => scalar.clone(),
    }
}

/// Returns the JSON text of a value with its keys in another order.
fn shuffled(value: &Value, seed: &mut u64) -> String {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            for at in (1..members.len()).rev() {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                members.swap(at, usize::try_from(*seed >> 33).unwrap() % (at + 1));
            }
            let members: Vec<_> = members
                .into_iter()
                .map(|(key, value)| format!("{}: {}", json!(key), shuffled(value, seed)))
                .collect();
            format!("{{{}}}", members.join(" , "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| shuffled(item, seed)).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// Sets the unset fields of our own types explicitly: null, or empty if that is the default.
fn with_unset_fields(value: &mut Value) {
    let ours = ["", "/serviceAccount", "/rollout", "/rollout/autoRollback"].map(str::to_owned);
    let parts = ["", "/resources", "/service", "/podDisruptionBudget"];
    let components =
        ["/storage", "/schema"].into_iter().flat_map(|of| parts.map(|part| format!("{of}{part}")));
    for folder in ours.into_iter().chain(components) {
        let schema = part("spec").pointer(&folder.replace('/', "/properties/")).unwrap();
        let Some(Value::Object(map)) = value.pointer_mut(&folder) else { continue };
        for (name, field) in schema["properties"].as_object().unwrap() {
            let is_map = field.get("additionalProperties").is_some();
            let unset = match name.as_str() {
                "serviceAccount"
                | "rollout"
                | "autoRollback"
                | "resources"
                | "service"
                | "podDisruptionBudget" => json!({}),
                _ if field["type"] == "array" => json!([]),
                _ if is_map => json!({}),
                _ => Value::Null,
            };
            map.entry(name).or_insert(unset);
        }
    }
}

/// Returns `spec` with the in-place fields of `other`.
fn in_place_of(spec: &Value, other: &Value) -> Value {
    let mut spec = spec.clone();
    let mut copy = |folder: &str, names: &[&str]| {
        let from = other.pointer(folder).cloned().unwrap_or_default();
        if let Some(Value::Object(to)) = spec.pointer_mut(folder) {
            for name in names {
                to.remove(*name);
                to.extend(from.get(*name).map(|value| ((*name).to_owned(), value.clone())));
            }
        }
    };
    copy("", &["releaseVersion", "rollout"]);
    copy("/serviceAccount", &["annotations"]);
    for component in ["/storage", "/schema"] {
        copy(
            component,
            &["replicas", "minReadySeconds", "progressDeadlineSeconds", "service", "podDisruptionBudget"],
        );
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None,
        max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_stored_spec_is_read_unchanged(value in spec()) {
        let spec = read(&value);
        let written = serde_json::to_value(&spec).unwrap();
        prop_assert_eq!(&pruned(&written, part("spec")), &written, "the API server would drop some of this");
        prop_assert_eq!(without_empty(&written), without_empty(&value), "reading lost something");
        prop_assert_eq!(read(&written), spec);
    }

    #[test]
    fn a_stored_status_is_read_unchanged(value in status(&["Stable", "Active", "True"])) {
        let status: MetadataServicesStatus = serde_json::from_value(value).unwrap();
        let written = serde_json::to_value(&status).unwrap();
        prop_assert_eq!(&pruned(&written, part("status")), &written, "the API server would drop some of this");
        let read: MetadataServicesStatus = serde_json::from_value(written).unwrap();
        prop_assert_eq!(read, status);
    }

    /// These do not change the hash: the order of keys, explicit unset fields, in-place fields, storage by an API server,
    /// storage in a revision.
    #[test]
    fn specs_with_the_same_values_have_the_same_hash(value in spec(), other in spec(), mut seed in any::<u64>()) {
        let template = ReleaseTemplate::of(&read(&value));
        let hash = template.hash();
        let text = shuffled(&value, &mut seed);
        let again: MetadataServicesSpec = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(ReleaseTemplate::of(&again).hash(), hash.clone(), "keys in another order: {}", text);
        let mut whole = value.clone();
        with_unset_fields(&mut whole);
        prop_assert_eq!(ReleaseTemplate::of(&read(&whole)).hash(), hash.clone(), "explicit unset fields: {}", whole);
        let stored = pruned(&value, part("spec"));
        prop_assert_eq!(ReleaseTemplate::of(&read(&stored)).hash(), hash.clone(), "stored by an API server");
        let moved = in_place_of(&value, &other);
        prop_assert_eq!(ReleaseTemplate::of(&read(&moved)).hash(), hash.clone(), "other in-place settings");
        let recorded = ReleaseTemplate::from_value(&template.to_value()).unwrap();
        prop_assert_eq!(recorded.hash(), hash.clone(), "read from its revision");
        let restored = template.restore_into(&read(&other));
        prop_assert_eq!(ReleaseTemplate::of(&restored).hash(), hash, "restored over another spec");
    }

    #[test]
    fn different_templates_have_different_hashes(value in spec(), at in any::<prop::sample::Index>(), other in spec()) {
        let (one, two) = (ReleaseTemplate::of(&read(&value)), ReleaseTemplate::of(&read(&other)));
        prop_assert_eq!(one.hash() == two.hash(), one == two);
        let fields: Vec<String> = value["storage"].as_object().unwrap().keys().cloned().collect();
        let name = &fields[at.index(fields.len())];
        let mut changed = value.clone();
        changed["storage"][name] = other["storage"].get(name).cloned().unwrap_or_default();
        if let Ok(changed) = serde_json::from_value::<MetadataServicesSpec>(changed) {
            let changed = ReleaseTemplate::of(&changed);
            prop_assert_eq!(changed.hash() == one.hash(), changed == one, "storage.{}", name);
        }
    }

    #[test]
    fn canonical_json_keeps_all_values_but_null(value in simulator::arbitrary::json_of(&["a", "b", "\u{0}", "\""])) {
        let text = canonical(&value);
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(canonical(&read), text);
        prop_assert_eq!(set(&read), set(&value));
    }
}

/// Removes members that are null.
fn set(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), set(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(set).collect(),
        scalar => scalar.clone(),
    }
}
