//! The CRD files match the code, the schema is structural, bounded and described, and the samples are valid.

// A test fails by unwrapping or indexing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use api::{
    MetadataServices, MetadataServicesSpec,
    crd::{self, crd, files, legacy, lost_fields, missing_fields, next, schema_of, to_yaml},
    template::ReleaseTemplate,
    validate::Validator,
};
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn check_generated(path: &str, generated: &str) {
    let full = root().join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(&full, generated).unwrap();
    }
    let committed = fs::read_to_string(&full).unwrap_or_default();
    assert!(
        committed == generated,
        "{path} is not what the code generates: run `make generate` and commit it"
    );
}

fn full_spec() -> Value {
    serde_json::from_str(include_str!("data/full-spec.json")).unwrap()
}

#[test]
fn generated_files_are_committed() {
    for (path, crd) in files() {
        check_generated(path, &to_yaml(&crd).unwrap());
    }
}

#[test]
fn the_files_are_read_back() {
    for (_, crd) in files() {
        let text = to_yaml(&crd).unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, serde_json::to_value(&crd).unwrap());
    }
}

#[test]
fn the_crd_fits_into_the_annotation_of_kubectl_apply() {
    for (path, crd) in files() {
        let size = serde_json::to_string(&crd).unwrap().len();
        assert!(size < 200 * 1024, "{path} is {size} bytes as compact JSON: over 200 KiB");
    }
}

#[test]
fn names_are_those_of_the_guide() {
    let crd = crd();
    assert_eq!(crd.metadata.name.as_deref(), Some("metadataservices.e6data.io"));
    assert_eq!(crd.spec.names.short_names, Some(vec!["mds".into(), "metadata".into()]));
    assert_eq!(crd.spec.versions.len(), 1);
    let version = &crd.spec.versions[0];
    assert!(version.name == "v1alpha1" && version.served && version.storage);
    assert!(version.subresources.as_ref().unwrap().status.is_some());
    let columns: Vec<_> = version.additional_printer_columns.iter().flatten().collect();
    let narrow: Vec<_> = columns.iter().filter(|c| c.priority.is_none()).map(|c| c.name.as_str()).collect();
    let wide: Vec<_> = columns.iter().filter(|c| c.priority == Some(1)).map(|c| c.name.as_str()).collect();
    assert_eq!(narrow, ["Phase", "Active", "Release", "Storage", "Schema", "Age"]);
    assert_eq!(wide, ["Pending", "DeploymentPhase", "Ready"]);
}

#[test]
fn a_grep_for_the_version_finds_it() {
    for (path, crd) in files() {
        let yaml = to_yaml(&crd).unwrap();
        let lines: Vec<_> = yaml.lines().filter(|line| line.contains("version:")).collect();
        let wanted = format!("e6data.io/crd-version: v{}", env!("CARGO_PKG_VERSION"));
        assert!(lines.iter().any(|line| line.trim() == wanted), "{path}: {lines:?}");
    }
}

/// Calls `f` on every node of a schema.
fn visit(node: &Value, path: &str, f: &mut impl FnMut(&Value, &str)) {
    f(node, path);
    for (name, child) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        visit(child, &format!("{path}.{name}"), f);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = node.get(key) {
            visit(child, &format!("{path}.{key}"), f);
        }
    }
}

#[test]
fn the_schema_is_structural_and_bounded() {
    let schema = schema_of(&crd()).unwrap();
    visit(&schema, "", &mut |node, path| {
        let int_or_string = node.get("x-kubernetes-int-or-string").is_some();
        assert!(node.get("type").is_some() || int_or_string, "{path} has no type");
        for key in ["nullable", "title", "anyOf", "oneOf", "$ref", "default", "minimum", "maximum"] {
            assert!(node.get(key).is_none(), "{path} has {key}");
        }
        for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.len() > 20 && !message.contains('\n'), "{path}: {message:?}");
            assert!(!message.contains("  "), "{path}: {message:?} has two spaces");
            let bounded =
                ["maxLength", "maxItems", "maxProperties"].iter().any(|key| node.get(key).is_some());
            let scalar = node["type"] == "integer" || node["type"] == "object" || int_or_string;
            assert!(bounded || scalar, "{path} has a rule and no bound");
        }
    });
}

#[test]
fn fields_of_our_own_are_described() {
    let schema = schema_of(&crd()).unwrap();
    for pointer in ["/properties/spec", "/properties/spec/properties/storage", "/properties/status"] {
        for (name, field) in schema.pointer(pointer).unwrap()["properties"].as_object().unwrap() {
            let text = field["description"].as_str().unwrap_or_default();
            assert!(text.len() > 10 && text.ends_with('.'), "{pointer}/{name}: {text:?}");
        }
    }
}

#[test]
fn the_legacy_crd_has_the_same_fields_and_no_rules() {
    let text = serde_json::to_string(&legacy()).unwrap();
    assert!(!text.contains("x-kubernetes-validations"));
    assert!(!text.contains("selectableFields"));
    assert_eq!(missing_fields(&legacy()), Vec::<String>::new());
}

#[test]
fn the_next_crd_is_one_schema_under_two_names() {
    let next = next();
    let [first, second] = next.spec.versions.as_slice() else { panic!("two versions") };
    assert_eq!((first.name.as_str(), second.name.as_str()), ("v1alpha1", "v1beta1"));
    assert_eq!(first.schema, second.schema);
    assert_eq!((first.served, first.storage, second.served, second.storage), (true, true, true, false));
    assert_eq!(next.spec.conversion.unwrap().strategy, "None");
}

#[test]
fn missing_fields_of_an_older_crd_are_named() {
    let mut old = crd();
    let schema = old.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
    let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
    let storage = spec.properties.as_mut().unwrap().get_mut("storage").unwrap();
    storage.properties.as_mut().unwrap().remove("imageDigest");
    assert_eq!(missing_fields(&old), ["spec.storage.imageDigest"]);
    let (ours, theirs) = (schema_of(&crd()).unwrap(), schema_of(&old).unwrap());
    assert_eq!(lost_fields(&theirs, &ours), Vec::<String>::new());
    old.spec.versions.clear();
    assert_eq!(missing_fields(&old), [format!("version {}", crd::STORED)]);
}

#[test]
fn samples_are_valid() {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(root().join("config/samples")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name == "kustomization.yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        let resource: MetadataServices = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(Validator::shared().validate(&resource), Ok(()), "{}", path.display());
        // The types know all fields of the sample. They would drop a misspelt field.
        let kept = serde_json::to_value(&resource.spec).unwrap();
        assert_eq!(leaves(&kept), leaves(&value["spec"]), "{}", path.display());
        seen.insert(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    assert!(seen.is_superset(&["minimal.yaml", "production.yaml", "aws.yaml"].map(str::to_owned).into()));
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.values().map(leaves).sum(),
        Value::Array(items) => items.iter().map(leaves).sum(),
        _ => 1,
    }
}

#[test]
fn an_older_type_reads_a_newer_object() {
    let mut spec = full_spec();
    spec["fieldOfTomorrow"] = json!({"a": 1});
    spec["storage"]["service"]["type"] = json!("Gateway");
    spec["storage"]["imagePullPolicy"] = json!("Sometimes");
    let read: MetadataServicesSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(read.storage.service.type_.as_deref(), Some("Gateway"));
    assert_eq!(ReleaseTemplate::of(&read).component(api::names::Component::Storage).image_tag, "1.0.500-new");
}

/// An API server with the CRD of 0.1.0 drops fields of a status. The status then counts as lost, but the resource stays
/// readable.
#[test]
fn a_status_with_lost_fields_is_read() {
    let record = json!({"version": "v1", "strategy": "blue", "storageTag": "1", "schemaTag": "1",
        "timestamp": "2026-01-01T00:00:00Z", "status": "Active"});
    let resource = |status: Value| -> MetadataServices {
        let spec = json!({"storage": {"imageTag": "1"}, "schema": {"imageTag": "1"}});
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec, "status": status})).unwrap()
    };
    let status = json!({"phase": "Stable", "activeReleaseVersion": "v1", "releaseHistory": [&record],
        "rollout": {"step": "Stable"}, "conditions": [{"type": "Ready"}], "lastRollback": {}});
    let read = resource(status).status.unwrap();
    assert_eq!(read.active_release_version.as_deref(), Some("v1"));
    assert!(read.rollout.is_none() && read.conditions.is_empty());
    assert_eq!(read.release_history.len(), 1, "a record of an earlier operator has no hash");
    let mut without_time = record.clone();
    without_time.as_object_mut().unwrap().remove("timestamp");
    assert!(resource(json!({"releaseHistory": [without_time]})).status.unwrap().release_history.is_empty());
    let odd = json!({"activeStrategy": "", "storage": "ready", "endpoints": [], "phase": "Ready"});
    assert_eq!(
        resource(odd).status.unwrap().active_strategy,
        None,
        "fields of another shape count as absent"
    );
}
