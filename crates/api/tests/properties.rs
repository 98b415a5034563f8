//! Properties of every spec and status: what is stored is read, nothing that is written is pruned, and a release's
//! identity depends on what the user wants, not on how it is spelt.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use api::template::{ReleaseTemplate, canonical};
use api::{MetadataServicesSpec, MetadataServicesStatus};
use simulator::arbitrary::{part, spec, status};

fn read(value: &Value) -> MetadataServicesSpec {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// What an API server keeps of a value: fields that the schema does not have are dropped, and null is unset.
pub fn pruned(value: &Value, schema: &Value) -> Value {
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

/// Without what is as good as left out: empty objects and lists of fields that have a default.
fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(name, value)| (name.clone(), without_empty(value)));
            let empty =
                |value: &Value| matches!(value, Value::Null) || *value == json!({}) || *value == json!([]);
            Value::Object(kept.filter(|(_, value)| !empty(value)).collect())
        }
        Value::Array(items) => items.iter().map(without_empty).collect(),
        // Quantities are read as texts.
        Value::Number(number) => Value::String(number.to_string()),
        scalar => scalar.clone(),
    }
}

/// The same JSON, as text with its keys in another order.
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

/// Fields of our own types that are not set, written out as unset: null, or empty where that is the default.
fn spelt_out(value: &mut Value) {
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

/// The parts of a spec that are applied in place, taken from another.
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

    /// A spec that the schema lets pass is read whole; what is written of it is in the schema, and is read as the same.
    #[test]
    fn a_spec_survives_being_written_and_read(value in spec()) {
        let spec = read(&value);
        let written = serde_json::to_value(&spec).unwrap();
        prop_assert_eq!(&pruned(&written, part("spec")), &written, "the API server would drop some of this");
        prop_assert_eq!(without_empty(&written), without_empty(&value), "reading lost something");
        prop_assert_eq!(read(&written), spec);
    }

    #[test]
    fn a_status_survives_being_written_and_read(value in status(&["Stable", "Active", "True"])) {
        let status: MetadataServicesStatus = serde_json::from_value(value).unwrap();
        let written = serde_json::to_value(&status).unwrap();
        prop_assert_eq!(&pruned(&written, part("status")), &written, "the API server would drop some of this");
        let read: MetadataServicesStatus = serde_json::from_value(written).unwrap();
        prop_assert_eq!(read, status);
    }

    /// A release is what the user wants: the order of keys, unset fields written out, what is applied in place, and what
    /// an API server or a record does with it change nothing.
    #[test]
    fn a_release_is_known_however_it_is_spelt(value in spec(), other in spec(), mut seed in any::<u64>()) {
        let template = ReleaseTemplate::of(&read(&value));
        let hash = template.hash();
        let text = shuffled(&value, &mut seed);
        let again: MetadataServicesSpec = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(ReleaseTemplate::of(&again).hash(), hash.clone(), "keys in another order: {}", text);
        let mut whole = value.clone();
        spelt_out(&mut whole);
        prop_assert_eq!(ReleaseTemplate::of(&read(&whole)).hash(), hash.clone(), "unset written out: {}", whole);
        let stored = pruned(&value, part("spec"));
        prop_assert_eq!(ReleaseTemplate::of(&read(&stored)).hash(), hash.clone(), "stored by an API server");
        let moved = in_place_of(&value, &other);
        prop_assert_eq!(ReleaseTemplate::of(&read(&moved)).hash(), hash.clone(), "other in-place settings");
        let recorded = ReleaseTemplate::from_value(&template.to_value()).unwrap();
        prop_assert_eq!(recorded.hash(), hash.clone(), "read from its record");
        let restored = template.restore_into(&read(&other));
        prop_assert_eq!(ReleaseTemplate::of(&restored).hash(), hash, "restored over another spec");
    }

    /// Two specs are one release only if their templates are equal.
    #[test]
    fn another_template_is_another_release(value in spec(), at in any::<prop::sample::Index>(), other in spec()) {
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
    fn canonical_json_says_the_same(value in simulator::arbitrary::json_of(&["a", "b", "\u{0}", "\""])) {
        let text = canonical(&value);
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(canonical(&read), text);
        prop_assert_eq!(set(&read), set(&value));
    }
}

/// Without members that are null.
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
