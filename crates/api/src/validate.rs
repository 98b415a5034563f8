//! Evaluates the CEL rules of the CRD.
//!
//! The API server enforces the rules on every write. The operator evaluates them as well, for objects that no API
//! server checked: on Kubernetes below 1.25, objects that are older than a rule, and templates that a rollback would
//! restore.

use std::{fmt, sync::OnceLock};

use k8s_openapi::api::core::v1::{Affinity, Volume};
use kube::core::cel::{self, CompiledSchema, ErrorKind, compile_schema};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    crd::{crd, schema_of},
    embed::typed,
    spec::{MetadataServices, MetadataServicesSpec},
};
use crate::names::Component;

/// A field that violates a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path of the field, such as `spec.storage.replicas`.
    pub field: String,
    /// Problem and remedy: `<problem>: <remedy>`.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Result of an evaluation of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Rules that the object violates, sorted.
    pub violations: Vec<Violation>,
    /// Rules that cannot be evaluated here. They block nothing, since the API server evaluates them.
    pub unevaluated: Vec<String>,
}

/// The compiled rules.
pub struct Validator {
    schema: CompiledSchema,
    engine: cel::Validator,
}

impl Validator {
    /// Returns the validator of the process. It is shared, because compilation takes longer than an evaluation.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Validator> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    fn new() -> Self {
        let schema = schema_of(&crd()).unwrap_or_default();
        Self { schema: compile_schema(&schema), engine: cel::Validator::new() }
    }

    /// Validates a resource. Returns the violations as an error.
    pub fn validate(&self, resource: &MetadataServices) -> Result<(), Vec<Violation>> {
        let name = resource.metadata.name.as_deref().unwrap_or_default();
        self.validate_spec(name, &resource.spec)
    }

    /// Validates a spec, such as the one that a rollback would write. Returns the violations as an error.
    pub fn validate_spec(&self, name: &str, spec: &MetadataServicesSpec) -> Result<(), Vec<Violation>> {
        let mut findings = self.rules(&document(name, spec));
        findings.violations.extend(unreadable(spec));
        if findings.violations.is_empty() { Ok(()) } else { Err(findings.violations) }
    }

    /// Validates a spec whose fields may have wrong types. Returns the violations as an error.
    pub fn validate_spec_value(&self, name: &str, spec: &Value) -> Result<(), Vec<Violation>> {
        match MetadataServicesSpec::deserialize_from(spec) {
            Ok(spec) => self.validate_spec(name, &spec),
            Err(error) => {
                Err(vec![Violation { field: "spec".into(), message: format!("{error}: correct the value") }])
            }
        }
    }

    /// Evaluates only the CEL rules, on a whole object.
    pub fn rules(&self, object: &Value) -> Findings {
        let mut findings = Findings::default();
        let errors = self.engine.validate_compiled(&self.schema, object, None).err();
        for error in errors.into_iter().flatten() {
            if error.kind == ErrorKind::ValidationFailure {
                findings.violations.push(Violation { field: error.field_path, message: error.message });
            } else {
                findings.unevaluated.push(format!("{}: {}", error.field_path, error.message));
            }
        }
        findings.violations.sort();
        findings.unevaluated.sort();
        findings
    }
}

impl MetadataServicesSpec {
    fn deserialize_from(value: &Value) -> Result<Self, serde_json::Error> {
        serde::Deserialize::deserialize(value)
    }
}

fn document(name: &str, spec: &impl Serialize) -> Value {
    json!({"metadata": {"name": name}, "spec": serde_json::to_value(spec).unwrap_or_default()})
}

/// Returns the free-form fields that Kubernetes would not accept. CEL rules cannot read these fields.
fn unreadable(spec: &MetadataServicesSpec) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut check = |field: String, result: Result<(), String>| {
        found.extend(result.err().map(|message| Violation { field, message }));
    };
    if let Some(affinity) = &spec.affinity {
        check("spec.affinity".into(), typed::<Affinity>(affinity).map(drop));
    }
    for component in Component::ALL {
        let part = spec.component(component);
        if let Some(affinity) = &part.affinity {
            check(format!("spec.{component}.affinity"), typed::<Affinity>(affinity).map(drop));
        }
        for (index, volume) in part.extra_volumes.iter().enumerate() {
            check(format!("spec.{component}.extraVolumes[{index}]"), typed::<Volume>(volume).map(drop));
        }
    }
    found
}
