//! `OpenAPI` schemas of fields whose Rust type says too little or too much.
//!
//! Types of Kubernetes are embedded without their descriptions: these would be most of the CRD, which client-side
//! `kubectl apply` must be able to keep in an annotation (contract C27). Lists, maps and strings are bounded, so
//! that the API server can bound the cost of the CEL rules over them.

use k8s_openapi::api::core::v1 as core;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Longest value of a label, annotation or node selector that the schema lets pass to the rules.
const MAX_VALUE: u32 = 253;

/// Removes all descriptions below a node.
pub fn strip_descriptions(node: &mut Value) {
    match node {
        Value::Object(map) => {
            // A property may be *named* description: then its value is a schema, not a text.
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(strip_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_descriptions),
        _ => {}
    }
}

/// Schema of a Kubernetes type, without descriptions.
fn embedded<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let mut schema = generator.subschema_for::<T>().to_value();
    strip_descriptions(&mut schema);
    schema
}

fn object<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    Schema::try_from(embedded::<T>(generator)).unwrap_or_default()
}

fn list(items: &Value, max: u32) -> Schema {
    json_schema!({"type": "array", "items": items, "maxItems": max, "x-kubernetes-list-type": "atomic"})
}

/// A list whose items have unique keys, which server-side apply merges item by item.
fn keyed(items: &Value, max: u32, key: &str) -> Schema {
    json_schema!({
        "type": "array", "items": items, "maxItems": max,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key],
    })
}

fn string_map(max: u32, max_length: u32) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": max,
        "additionalProperties": {"type": "string", "maxLength": max_length},
    })
}

/// `nodeSelector`, labels.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    string_map(64, MAX_VALUE)
}

/// Annotations, whose values may be long.
pub fn annotations(_: &mut SchemaGenerator) -> Schema {
    string_map(64, 8192)
}

/// Settings for `config.properties`.
pub fn config(_: &mut SchemaGenerator) -> Schema {
    string_map(128, 4096)
}

/// `command`, `args`.
pub fn arguments(_: &mut SchemaGenerator) -> Schema {
    list(&json!({"type": "string", "maxLength": 4096}), 64)
}

/// Pull secrets: `{name}`.
pub fn pull_secrets(_: &mut SchemaGenerator) -> Schema {
    let item = json!({
        "type": "object", "required": ["name"],
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": MAX_VALUE}},
    });
    keyed(&item, 16, "name")
}

/// `env`, by name.
pub fn env(generator: &mut SchemaGenerator) -> Schema {
    let mut item = embedded::<core::EnvVar>(generator);
    bound(&mut item, "name", 512);
    keyed(&item, 128, "name")
}

/// `envFrom`.
pub fn env_from(generator: &mut SchemaGenerator) -> Schema {
    list(&embedded::<core::EnvFromSource>(generator), 32)
}

/// `tolerations`.
pub fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    list(&embedded::<core::Toleration>(generator), 32)
}

/// `topologySpreadConstraints`.
pub fn topology_spread(generator: &mut SchemaGenerator) -> Schema {
    list(&embedded::<core::TopologySpreadConstraint>(generator), 8)
}

/// A probe.
pub fn probe(generator: &mut SchemaGenerator) -> Schema {
    object::<core::Probe>(generator)
}

/// A container's security context.
pub fn security_context(generator: &mut SchemaGenerator) -> Schema {
    object::<core::SecurityContext>(generator)
}

/// A pod's security context.
pub fn pod_security_context(generator: &mut SchemaGenerator) -> Schema {
    object::<core::PodSecurityContext>(generator)
}

/// `extraVolumeMounts`, by path.
pub fn volume_mounts(generator: &mut SchemaGenerator) -> Schema {
    let mut item = embedded::<core::VolumeMount>(generator);
    bound(&mut item, "name", 63);
    bound(&mut item, "mountPath", 1024);
    keyed(&item, 32, "mountPath")
}

/// `extraVolumes`, by name; of the rest the API server is the judge when the Deployment is created.
pub fn volumes(_: &mut SchemaGenerator) -> Schema {
    let item = json!({
        "type": "object", "required": ["name"], "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 63}},
    });
    keyed(&item, 32, "name")
}

/// An object that is passed on as it is.
pub fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Resource quantities: `cpu: 1` is as good as `cpu: "1"`.
pub fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "pattern": "^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
        },
    })
}

/// A number or a percentage.
pub fn int_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// `AWS`, `GCP`, `AZURE`. An enumeration here, but a plain string in Rust: a value that a newer version adds must
/// stay readable (design D18).
pub fn cloud(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["AWS", "GCP", "AZURE"]})
}

/// Image pull policies.
pub fn pull_policy(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Always", "IfNotPresent", "Never"]})
}

/// Service types that make sense for a front Service.
pub fn service_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["ClusterIP", "NodePort", "LoadBalancer"]})
}

/// A string of bounded length; a rule holds the exact bound and says what to do.
pub fn text<const MAX: u32>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": MAX})
}

fn bound(item: &mut Value, property: &str, max: u32) {
    if let Some(map) = item.pointer_mut(&format!("/properties/{property}")).and_then(Value::as_object_mut) {
        map.insert("maxLength".into(), max.into());
    }
}
