//! Compares the CRD with each released CRD: resources of users stay valid (contract C53, design D17).

// A test fails by unwrapping, indexing or panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use api::crd::crd;
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the incompatible changes: values and fields of `old` that `new` refuses or drops.
fn broken(old: &Value, new: &Value) -> Vec<String> {
    let mut found = vec![];
    for before in old["spec"]["versions"].as_array().unwrap() {
        let name = before["name"].as_str().unwrap();
        let after = new["spec"]["versions"].as_array().unwrap();
        let Some(after) = after.iter().find(|version| version["name"] == name && version["served"] == true)
        else {
            found.push(format!("version {name} is no longer served"));
            continue;
        };
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        compare(&schema(before), &schema(after), name, &mut found);
    }
    for part in ["/spec/group", "/spec/scope", "/spec/names/kind", "/spec/names/plural"] {
        if old.pointer(part) != new.pointer(part) {
            found.push(format!("{part} changed"));
        }
    }
    found
}

fn compare(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    let kept = |node: &Value| node["x-kubernetes-preserve-unknown-fields"] == true;
    if kept(old) && !kept(new) {
        found.push(format!("{path} no longer keeps unknown fields"));
    }
    for key in ["type", "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"]
    {
        if old.get(key) != new.get(key) {
            found.push(format!("{path}: {key} changed"));
        }
    }
    tightened(old, new, path, found);
    let none = serde_json::Map::new();
    let fields = |node: &Value| node["properties"].as_object().unwrap_or(&none).clone();
    let after = fields(new);
    for (name, before) in fields(old) {
        match after.get(&name) {
            Some(after) => compare(&before, after, &format!("{path}.{name}"), found),
            None if kept(new) => {}
            None => found.push(format!("{path}.{name} was removed")),
        }
    }
    for key in ["items", "additionalProperties"] {
        if old[key].is_object() {
            compare(&old[key], &new[key], &format!("{path}.{key}"), found);
        }
    }
}

/// Adds the bounds that `new` tightens: a valid value must stay valid.
fn tightened(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    let all = |node: &Value, key: &str| node[key].as_array().cloned().unwrap_or_default();
    for name in all(new, "required") {
        if !all(old, "required").contains(&name) {
            found.push(format!("{path}.{} is required now", name.as_str().unwrap_or_default()));
        }
    }
    let values = all(new, "enum");
    if !values.is_empty()
        && (all(old, "enum").is_empty() || all(old, "enum").iter().any(|one| !values.contains(one)))
    {
        found.push(format!("{path} allows fewer values"));
    }
    for key in ["pattern", "format"] {
        if new.get(key).is_some() && old.get(key) != new.get(key) {
            found.push(format!("{path}: another {key}"));
        }
    }
    for key in ["maxLength", "maxItems", "maxProperties", "maximum"] {
        if let Some(limit) = new[key].as_f64()
            && old[key].as_f64().is_none_or(|before| before > limit)
        {
            found.push(format!("{path}: {key} is lower"));
        }
    }
    for key in ["minLength", "minItems", "minProperties", "minimum"] {
        if let Some(limit) = new[key].as_f64()
            && old[key].as_f64().is_none_or(|before| before < limit)
        {
            found.push(format!("{path}: {key} is higher"));
        }
    }
    let rules = |node: &Value| {
        all(node, "x-kubernetes-validations").iter().map(|one| one["rule"].clone()).collect::<Vec<_>>()
    };
    for rule in rules(new) {
        if !rules(old).contains(&rule) {
            found.push(format!("{path}: a new rule {rule}"));
        }
    }
}

#[test]
fn nothing_of_a_released_crd_is_broken() {
    let now = serde_json::to_value(crd()).unwrap();
    for entry in fs::read_dir(root().join("crds/released")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            assert_eq!(broken(&read(&path), &now), Vec::<String>::new(), "{}", path.display());
        }
    }
}

/// The only source for version 0.1.0 is its documentation, which does not contain the bounds.
#[test]
fn the_fields_that_0_1_0_documents_are_there() {
    let now = serde_json::to_value(crd()).unwrap();
    let mut found = broken(&read(&root().join("tests/data/crd-v0.1.0.yaml")), &now);
    found.retain(|one| one.contains("removed") || one.contains(": type changed") || one.contains("served"));
    assert_eq!(found, Vec::<String>::new());
}

/// The comparison finds each kind of incompatible change.
#[test]
fn damage_is_found() {
    let old = serde_json::to_value(crd()).unwrap();
    assert_eq!(broken(&old, &old), Vec::<String>::new());
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let damage = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(&format!("{spec}{pointer}")).unwrap() = value;
        broken(&old, &new)
    };
    let storage = old.pointer(&format!("{spec}/properties/storage")).unwrap();
    let with = |key: &str, value: Value| {
        let mut tag = storage["properties"]["imageTag"].clone();
        tag[key] = value;
        damage("/properties/storage/properties/imageTag", tag)
    };
    assert_eq!(with("type", json!("integer")), ["v1alpha1.spec.storage.imageTag: type changed"]);
    assert_eq!(with("maxLength", json!(7)), ["v1alpha1.spec.storage.imageTag: maxLength is lower"]);
    assert_eq!(with("minLength", json!(70)), ["v1alpha1.spec.storage.imageTag: minLength is higher"]);
    assert_eq!(with("pattern", json!("^x$")), ["v1alpha1.spec.storage.imageTag: another pattern"]);
    assert_eq!(with("enum", json!(["x"])), ["v1alpha1.spec.storage.imageTag allows fewer values"]);
    let rule = json!([{"rule": "self == 'x'", "message": "no"}]);
    assert_eq!(
        with("x-kubernetes-validations", rule),
        [r#"v1alpha1.spec.storage.imageTag: a new rule "self == 'x'""#]
    );
    let mut fewer = storage["properties"].clone();
    fewer.as_object_mut().unwrap().remove("replicas");
    assert_eq!(
        damage("/properties/storage/properties", fewer),
        ["v1alpha1.spec.storage.replicas was removed"]
    );
    let more = json!(["imageTag", "replicas"]);
    assert_eq!(
        damage("/properties/storage/required", more),
        ["v1alpha1.spec.storage.replicas is required now"]
    );
    let mut gone = old.clone();
    gone["spec"]["versions"][0]["name"] = json!("v2");
    assert_eq!(broken(&old, &gone), ["version v1alpha1 is no longer served"]);
}
