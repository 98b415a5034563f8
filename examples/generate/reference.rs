//! The API reference `docs/api-reference.md`, generated from the schema of the CRD.

use serde_json::{Map, Value};

use api::crd::{crd, schema_of};

const INTRODUCTION: &str = "\
# API reference: MetadataServices

Generated from the schema by `make generate`; do not edit.

- API: `apiVersion: e6data.io/v1alpha1`, `kind: MetadataServices`, namespaced; short names `mds` and `metadata`.
- Required fields: only `spec.storage.imageTag` and `spec.schema.imageTag`.
- Defaults: the schema holds none. An unset field stays absent, and the operator uses the default that its text names.
- Changes: a change of a field starts a blue-green release of both services, unless its text says \"Applied in place\".
- On the command line: `kubectl explain mds.spec --recursive`.
";

/// Returns the reference as Markdown.
pub fn api_reference() -> String {
    let schema = schema_of(&crd()).unwrap_or_default();
    let part = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
    let spec = part("/properties/spec");
    let component = part("/properties/spec/properties/storage");

    let mut text = INTRODUCTION.to_owned();
    section(&mut text, "spec", &spec, &["storage", "schema"]);
    section(&mut text, "spec.storage, spec.schema", &component, &[]);
    section(&mut text, "status", &part("/properties/status"), &[]);

    text.push_str("\n## Rules\n\nThe API server rejects a resource that violates a rule, and returns the message of the rule:\n\n");
    let mut messages = Vec::new();
    collect_messages(&schema, &mut messages);
    messages.sort();
    messages.dedup();
    text.extend(messages.iter().map(|message| format!("- {message}\n")));
    text
}

/// Appends a heading and a table. The properties in `without` have their own tables.
fn section(text: &mut String, title: &str, schema: &Value, without: &[&str]) {
    text.extend(["\n## ", title, "\n\n| field | type | meaning |\n|---|---|---|\n"]);
    rows(text, "", schema, without);
}

fn rows(text: &mut String, prefix: &str, schema: &Value, without: &[&str]) {
    let required = schema.get("required").and_then(Value::as_array);
    for (name, property) in properties(schema).into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let must = required.is_some_and(|names| names.iter().any(|other| other == name));
        let mark = if must { " (required)" } else { "" };
        let meaning = description(property).replace("\n\n", " ").replace('|', "\\|");
        text.extend([format!("| `{path}`{mark} | {} | {meaning} |\n", type_of(property))]);
        if without.contains(&name.as_str()) {
            continue;
        }
        let items = property.get("items").unwrap_or(&Value::Null);
        if documented(property) {
            rows(text, &format!("{path}."), property, &[]);
        } else if documented(items) {
            rows(text, &format!("{path}[]."), items, &[]);
        }
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// Returns whether the fields of a type have descriptions. The fields of Kubernetes types have none in the CRD.
fn documented(schema: &Value) -> bool {
    properties(schema).is_some_and(|parts| parts.values().any(|part| !description(part).is_empty()))
}

fn type_of(schema: &Value) -> String {
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    if flag("x-kubernetes-int-or-string") {
        return "number or string".into();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<_> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    if let Some(items) = schema.get("items") {
        return format!("list of {}", plural(items));
    }
    if let Some(values) = schema.get("additionalProperties") {
        return format!("map of {}", plural(values));
    }
    let name = schema.get("type").and_then(Value::as_str).unwrap_or("any");
    let foreign = name == "object" && !documented(schema);
    let timestamp = schema.get("format").and_then(Value::as_str) == Some("date-time");
    match (foreign, timestamp) {
        (true, _) => "Kubernetes object".into(),
        (_, true) => "time".into(),
        _ => name.into(),
    }
}

fn plural(schema: &Value) -> String {
    let one = type_of(schema);
    one.split(" or ").map(|name| format!("{name}s")).collect::<Vec<_>>().join(" or ")
}

fn collect_messages(node: &Value, messages: &mut Vec<String>) {
    match node {
        Value::Object(map) => {
            let rules = map.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                messages.extend(rule.get("message").and_then(Value::as_str).map(str::to_owned));
            }
            map.values().for_each(|child| collect_messages(child, messages));
        }
        Value::Array(items) => items.iter().for_each(|child| collect_messages(child, messages)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_lists_nested_fields_by_their_path() {
        let schema = json!({"required": ["a"], "properties": {
            "a": {"type": "object", "description": "First | text.", "properties": {
                "b": {"type": "array", "items": {"type": "string"}, "description": "Second text."},
            }},
        }});
        let mut text = String::new();
        section(&mut text, "spec", &schema, &[]);
        assert!(text.contains("| `a` (required) | object | First \\| text. |\n"), "{text}");
        assert!(text.contains("| `a.b` | list of strings | Second text. |\n"), "{text}");
    }
}
