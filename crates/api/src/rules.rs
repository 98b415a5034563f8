//! Building blocks of the CEL rules.
//!
//! Each rule exists once, as CEL on the Rust type (design D16). The API server enforces it, and [`crate::validate`]
//! evaluates the same text. Patterns contain no backslashes, so that the text of a rule is the same in Rust, JSON and
//! YAML. Rules avoid functions that Kubernetes below 1.30 lacks.

use kube::core::{Message, Reason, Rule};

/// Pattern of a label value that is not empty.
pub const LABEL_VALUE: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// Pattern of a label value, which may be empty.
pub const LABEL_VALUE_OR_EMPTY: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
/// Pattern of the key of a label or annotation.
pub const QUALIFIED_NAME: &str =
    "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// Pattern of a DNS-1123 subdomain, which is the name of most Kubernetes objects.
pub const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$";
/// Pattern of an image tag.
pub const IMAGE_TAG: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$";
/// Pattern of an image digest.
pub const IMAGE_DIGEST: &str = "^sha256:[a-f0-9]{64}$";
/// Pattern of a registry with an optional path, to which the name of an image can be appended.
pub const IMAGE_PREFIX: &str =
    "^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$";
/// Pattern of a full repository without tag and digest.
pub const IMAGE_REPOSITORY: &str = "^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$";

/// Returns a rule that a string matches a pattern.
pub fn matches(pattern: &str, message: &str) -> Rule {
    invalid(format!("self.matches('{pattern}')"), message)
}

/// Returns a rule that a number is within `low..=high`. `remedy` is the end of its message.
pub fn range(field: &str, low: i64, high: i64, remedy: &str) -> Rule {
    invalid(
        format!("self >= {low} && self <= {high}"),
        &format!("{field} must be between {low} and {high}: {remedy}"),
    )
}

/// Returns a rule that every value of a map is a label value.
pub fn label_values(field: &str) -> Rule {
    invalid(
        format!("self.all(key, self[key].matches('{LABEL_VALUE_OR_EMPTY}'))"),
        &format!(
            "{field} must have valid label values: use at most 63 letters, digits, '-', '_', '.', and begin and end with a letter or digit"
        ),
    )
}

/// Returns a rule that every key of a map is a valid key of a label or annotation.
pub fn label_keys(field: &str) -> Rule {
    invalid(
        format!("self.all(key, key.matches('{QUALIFIED_NAME}'))"),
        &format!(
            "{field} must have valid keys: use [prefix/]name, with at most 63 letters, digits, '-', '_', '.' in the name"
        ),
    )
}

/// Returns a rule that a map of labels has no key that the operator sets.
pub fn no_reserved_labels(field: &str) -> Rule {
    forbidden(
        "self.all(key, !(key in ['app', 'component', 'strategy', 'pod-template-hash']) \
         && !key.startsWith('e6data.io/') && !key.startsWith('app.kubernetes.io/'))",
        &format!(
            "{field} must not have the keys app, component, strategy, pod-template-hash, e6data.io/* and app.kubernetes.io/*, since the operator sets them: use another key"
        ),
    )
}

/// Returns a rule that a map of annotations has no key that the operator sets.
pub fn no_reserved_annotations(field: &str) -> Rule {
    forbidden(
        "self.all(key, !key.startsWith('e6data.io/'))",
        &format!(
            "{field} must not have keys with the prefix e6data.io/, since the operator sets them: use another prefix"
        ),
    )
}

/// Returns a rule with the reason `FieldValueInvalid`. `message` has the form `<field> <problem>: <remedy>`.
pub fn invalid(rule: impl Into<String>, message: &str) -> Rule {
    Rule::new(rule).message(Message::Message(message.to_owned())).reason(Reason::FieldValueInvalid)
}

/// Returns a rule with the reason `FieldValueForbidden`. `message` has the form `<field> <problem>: <remedy>`.
pub fn forbidden(rule: impl Into<String>, message: &str) -> Rule {
    Rule::new(rule).message(Message::Message(message.to_owned())).reason(Reason::FieldValueForbidden)
}
