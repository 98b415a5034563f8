//! OpenAPI schemas of fields whose Rust type implies another schema.
//!
//! Kubernetes types are embedded without their descriptions. The descriptions would make the CRD too large for the
//! annotation of client-side `kubectl apply` (contract C27). Lists, maps and strings have a maximum size, so that the
//! API server can limit the cost of the CEL rules.

use k8s_openapi::api::core::v1 as core;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Maximum length of a label value, annotation or node selector in the schema. The rules check the exact limit.
const MAX_VALUE: u32 = 253;

/// Removes all descriptions below a node.
pub fn strip_descriptions(node: &mut Value) {
    match node {
        Value::Object(map) => {
            // The value is a schema, not a text, if a property has the name `description`.
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(strip_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_descriptions),
        _ => {}
    }
}

/// Returns the schema of a Kubernetes type without descriptions.
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

/// Returns the schema of a list whose items have a unique key. Server-side apply merges such a list item by item.
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

/// Returns the schema of labels and of `nodeSelector`.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    string_map(64, MAX_VALUE)
}

/// Returns the schema of annotations, whose values may be long.
pub fn annotations(_: &mut SchemaGenerator) -> Schema {
    string_map(64, 8192)
}

/// Returns the schema of the settings of `config.properties`.
pub fn config(_: &mut SchemaGenerator) -> Schema {
    string_map(128, 4096)
}

/// Returns the schema of `command` and `args`.
pub fn arguments(_: &mut SchemaGenerator) -> Schema {
    list(&json!({"type": "string", "maxLength": 4096}), 64)
}

/// Returns the schema of `imagePullSecrets`: a list of `{name}`.
pub fn pull_secrets(_: &mut SchemaGenerator) -> Schema {
    let item = json!({
        "type": "object", "required": ["name"],
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": MAX_VALUE}},
    });
    keyed(&item, 16, "name")
}

/// Returns the schema of `env`, keyed by name.
pub fn env(generator: &mut SchemaGenerator) -> Schema {
    let mut item = embedded::<core::EnvVar>(generator);
    bound(&mut item, "name", 512);
    keyed(&item, 128, "name")
}

/// Returns the schema of `envFrom`.
pub fn env_from(generator: &mut SchemaGenerator) -> Schema {
    list(&embedded::<core::EnvFromSource>(generator), 32)
}

/// Returns the schema of `tolerations`.
pub fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    list(&embedded::<core::Toleration>(generator), 32)
}

/// Returns the schema of `topologySpreadConstraints`.
pub fn topology_spread(generator: &mut SchemaGenerator) -> Schema {
    list(&embedded::<core::TopologySpreadConstraint>(generator), 8)
}

/// Returns the schema of a probe.
pub fn probe(generator: &mut SchemaGenerator) -> Schema {
    object::<core::Probe>(generator)
}

/// Returns the schema of the security context of a container.
pub fn security_context(generator: &mut SchemaGenerator) -> Schema {
    object::<core::SecurityContext>(generator)
}

/// Returns the schema of the security context of a Pod.
pub fn pod_security_context(generator: &mut SchemaGenerator) -> Schema {
    object::<core::PodSecurityContext>(generator)
}

/// Returns the schema of `extraVolumeMounts`, keyed by path.
pub fn volume_mounts(generator: &mut SchemaGenerator) -> Schema {
    let mut item = embedded::<core::VolumeMount>(generator);
    bound(&mut item, "name", 63);
    bound(&mut item, "mountPath", 1024);
    keyed(&item, 32, "mountPath")
}

/// Returns the schema of `extraVolumes`, keyed by name. The API server validates the other fields of a volume when
/// the operator creates the Deployment.
pub fn volumes(_: &mut SchemaGenerator) -> Schema {
    let item = json!({
        "type": "object", "required": ["name"], "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 63}},
    });
    keyed(&item, 32, "name")
}

/// Returns the schema of an object with any fields.
pub fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Returns the schema of resource quantities: `cpu: 1` is as valid as `cpu: "1"`.
pub fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "pattern": "^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
        },
    })
}

/// Returns the schema of a number or a percentage.
pub fn int_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// Returns the schema of `cloud`: an enumeration here, but a plain string in Rust, so that a value of a newer version
/// stays readable (design D18).
pub fn cloud(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["AWS", "GCP", "AZURE"]})
}

/// Returns the schema of `imagePullPolicy`.
pub fn pull_policy(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Always", "IfNotPresent", "Never"]})
}

/// Returns the schema of the type of a front Service. `ExternalName` is excluded, since it has no selector.
pub fn service_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["ClusterIP", "NodePort", "LoadBalancer"]})
}

/// Returns the schema of a string with a maximum length. A rule checks the exact limit and names the remedy.
pub fn text<const MAX: u32>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": MAX})
}

fn bound(item: &mut Value, property: &str, max: u32) {
    if let Some(map) = item.pointer_mut(&format!("/properties/{property}")).and_then(Value::as_object_mut) {
        map.insert("maxLength".into(), max.into());
    }
}
