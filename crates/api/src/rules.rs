//! Building blocks of the CEL rules.
//!
//! A rule lives once, on the Rust type, as CEL (design D16): the API server enforces it, and
//! [`crate::validate`] evaluates the same text. Patterns avoid backslashes, so that the text of a rule is the
//! same in Rust, JSON and YAML, and avoid functions that servers before 1.30 lack.

use kube::core::{Message, Reason, Rule};

/// What Kubernetes accepts as the value of a label (not empty).
pub const LABEL_VALUE: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// The same, or empty.
pub const LABEL_VALUE_OR_EMPTY: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
/// What Kubernetes accepts as the key of a label or annotation.
pub const QUALIFIED_NAME: &str =
    "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// DNS-1123 subdomain: the name of most Kubernetes objects.
pub const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$";
/// Grammar of an image tag.
pub const IMAGE_TAG: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$";
/// Grammar of an image digest.
pub const IMAGE_DIGEST: &str = "^sha256:[a-f0-9]{64}$";
/// A registry, or a registry and a path: what an image name can be appended to.
pub const IMAGE_PREFIX: &str =
    "^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$";
/// A whole repository without tag and digest.
pub const IMAGE_REPOSITORY: &str = "^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$";

/// The value matches a pattern; `message` says what to do.
pub fn matches(pattern: &str, message: &str) -> Rule {
    invalid(format!("self.matches('{pattern}')"), message)
}

/// A number is within `low..=high`; the message names the field and the range, and ends with `advice`.
pub fn range(field: &str, low: i64, high: i64, advice: &str) -> Rule {
    invalid(
        format!("self >= {low} && self <= {high}"),
        &format!("{field} must be between {low} and {high}: {advice}"),
    )
}

/// Every value of a map is the value of a label.
pub fn label_values(field: &str) -> Rule {
    invalid(
        format!("self.all(key, self[key].matches('{LABEL_VALUE_OR_EMPTY}'))"),
        &format!(
            "{field} has a value that is no label value: use at most 63 letters, digits, '-', '_', '.', beginning and ending with a letter or digit"
        ),
    )
}

/// Every key of a map is the key of a label or annotation.
pub fn label_keys(field: &str) -> Rule {
    invalid(
        format!("self.all(key, key.matches('{QUALIFIED_NAME}'))"),
        &format!(
            "{field} has a key that Kubernetes refuses: use [prefix/]name, the name at most 63 letters, digits, '-', '_', '.'"
        ),
    )
}

/// No key of a map of labels is one that the operator sets itself.
pub fn no_reserved_labels(field: &str) -> Rule {
    forbidden(
        "self.all(key, !(key in ['app', 'component', 'strategy', 'pod-template-hash']) \
         && !key.startsWith('e6data.io/') && !key.startsWith('app.kubernetes.io/'))",
        &format!(
            "{field} must not set app, component, strategy, pod-template-hash, e6data.io/* or app.kubernetes.io/*: the operator selects by them; use another key"
        ),
    )
}

/// No key of a map of annotations is the operator's own.
pub fn no_reserved_annotations(field: &str) -> Rule {
    forbidden(
        "self.all(key, !key.startsWith('e6data.io/'))",
        &format!(
            "{field} must not set e6data.io/*: the operator keeps its own records there; use another prefix"
        ),
    )
}

/// A rule whose violation is an illegal value.
pub fn invalid(rule: impl Into<String>, message: &str) -> Rule {
    Rule::new(rule).message(Message::Message(message.to_owned())).reason(Reason::FieldValueInvalid)
}

/// A rule whose violation is a value that is not permitted here.
pub fn forbidden(rule: impl Into<String>, message: &str) -> Rule {
    Rule::new(rule).message(Message::Message(message.to_owned())).reason(Reason::FieldValueForbidden)
}
