//! The custom resource definition in its three released forms (design D16, D17).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use kube::CustomResourceExt as _;
use serde_json::Value;

use super::{schema::strip_descriptions, spec::MetadataServices};

/// Annotation with the version of the installed CRD; contract C28 searches for `version:`.
pub const CRD_VERSION: &str = "e6data.io/crd-version";
/// API version that all 0.x operators serve and store.
pub const STORED: &str = "v1alpha1";
/// Second API version with the same schema, from 1.0 on.
pub const SECOND: &str = "v1beta1";

/// Returns the CRD with its CEL rules, for Kubernetes 1.25 and later.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = MetadataServices::crd();
    crd.metadata.labels = Some(pairs(&[
        ("app.kubernetes.io/name", "e6-operator"),
        ("app.kubernetes.io/part-of", "e6data"),
        ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
        // This label and the two Helm annotations let Helm adopt a CRD that another tool installed (contract A14).
        ("app.kubernetes.io/managed-by", "Helm"),
    ]));
    crd.metadata.annotations = Some(pairs(&[
        (CRD_VERSION, concat!("v", env!("CARGO_PKG_VERSION"))),
        ("helm.sh/resource-policy", "keep"),
        ("meta.helm.sh/release-name", "e6-operator-crds"),
        ("meta.helm.sh/release-namespace", "e6-operator-system"),
    ]));
    for version in &mut crd.spec.versions {
        edit_schema(version, tidy);
    }
    crd
}

/// Returns the CRD for Kubernetes below 1.25, without CEL rules. The operator evaluates the rules itself there.
pub fn legacy() -> CustomResourceDefinition {
    let mut crd = crd();
    for version in &mut crd.spec.versions {
        version.selectable_fields = None;
        edit_schema(version, strip_rules);
    }
    crd
}

/// Returns the CRD of 1.0: `v1beta1` beside `v1alpha1`, which stays the stored version. Both versions have one
/// schema, so the conversion strategy is `None`. A 0.x operator does not install it.
pub fn next() -> CustomResourceDefinition {
    let mut crd = crd();
    let second: Vec<_> = crd
        .spec
        .versions
        .iter()
        .map(|version| CustomResourceDefinitionVersion {
            name: SECOND.into(),
            storage: false,
            ..version.clone()
        })
        .collect();
    crd.spec.versions.extend(second);
    crd.spec.conversion = Some(CustomResourceConversion { strategy: "None".into(), webhook: None });
    crd
}

/// Returns the CRD files of the repository: path and content. A chart cannot read files outside of its folder, so
/// each chart has its own copy. The chart of the operator installs its copy if the cluster has no CRD (contract A14).
pub fn files() -> [(&'static str, CustomResourceDefinition); 6] {
    [
        ("crds/metadataservices.e6data.io.yaml", crd()),
        ("crds/legacy/metadataservices.e6data.io.yaml", legacy()),
        ("charts/e6-operator/crds/metadataservices.e6data.io.yaml", crd()),
        ("charts/e6-operator-crds/files/metadataservices.e6data.io.yaml", crd()),
        ("charts/e6-operator-crds/files/legacy.yaml", legacy()),
        ("crds/next/metadataservices.e6data.io.yaml", next()),
    ]
}

/// Returns a CRD as YAML with one value per line, so that differences are readable.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(crd, options)
}

/// Returns the schema of the stored version.
pub fn schema_of(crd: &CustomResourceDefinition) -> Option<Value> {
    let version = crd.spec.versions.iter().find(|version| version.name == STORED)?;
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    serde_json::to_value(schema).ok()
}

/// Returns the fields that this operator knows and `installed` lacks. An API server with such a CRD drops them
/// silently (design D17).
pub fn missing_fields(installed: &CustomResourceDefinition) -> Vec<String> {
    let (Some(ours), Some(theirs)) = (schema_of(&crd()), schema_of(installed)) else {
        return vec![format!("version {STORED}")];
    };
    lost_fields(&ours, &theirs)
}

/// Returns the paths of the fields of schema `of` that schema `in_` lacks.
pub fn lost_fields(of: &Value, in_: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    collect_lost(of, in_, "", &mut lost);
    lost
}

fn collect_lost(of: &Value, in_: &Value, path: &str, lost: &mut Vec<String>) {
    if in_.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    for (name, child) in of.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match in_.get("properties").and_then(|properties| properties.get(name)) {
            Some(other) => collect_lost(child, other, &path, lost),
            None => lost.push(path),
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(child) = of.get(key) {
            collect_lost(child, in_.get(key).unwrap_or(&Value::Null), &format!("{path}{suffix}"), lost);
        }
    }
}

fn pairs(entries: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn edit_schema(version: &mut CustomResourceDefinitionVersion, edit: fn(&mut Value)) {
    let Some(slot) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
        return;
    };
    // The conversions cannot fail: a schema is JSON before and after an edit. `tests/crds.rs` checks the edits.
    if let Ok(mut value) = serde_json::to_value(&*slot) {
        edit(&mut value);
        if let Ok(edited) = serde_json::from_value::<JSONSchemaProps>(value) {
            *slot = edited;
        }
    }
}

/// Removes the parts of the derived schema that the CRD must not have:
///
/// - titles
/// - defaults (design D4)
/// - `nullable`: the API server then drops null, as in core types, and rules need not handle it
/// - line breaks of the source in descriptions
/// - descriptions of Kubernetes' own types
fn tidy(schema: &mut Value) {
    tidy_node(schema);
    if let Some(conditions) = schema.pointer_mut("/properties/status/properties/conditions/items") {
        strip_descriptions(conditions);
    }
}

fn tidy_node(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if map.get("title").is_some_and(Value::is_string) {
                map.remove("title");
            }
            if map.get("nullable").is_some_and(Value::is_boolean) {
                map.remove("nullable");
            }
            // The value is a schema if a property has the name `default`.
            if map.get("default").is_some_and(|value| value.get("type").is_none()) {
                map.remove("default");
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = unwrap_lines(text);
            }
            map.values_mut().for_each(tidy_node);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy_node),
        _ => {}
    }
}

/// Joins the lines of each paragraph.
fn unwrap_lines(text: &str) -> String {
    let paragraphs: Vec<_> =
        text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    paragraphs.join("\n\n")
}

fn strip_rules(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if map.get("x-kubernetes-validations").is_some_and(Value::is_array) {
                map.remove("x-kubernetes-validations");
            }
            map.values_mut().for_each(strip_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_rules),
        _ => {}
    }
}
