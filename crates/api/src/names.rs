//! Names that the operator puts on the cluster: colors, components, labels, annotations, objects.
//!
//! Everything here is part of the product's interface (design D1): a name that changed would orphan what an
//! earlier version created.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// API group of the custom resource.
pub const GROUP: &str = "e6data.io";
/// Field manager of every write, and value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "e6-operator";
/// Longest name of a resource: the longest child name, `<name>-storage-config-green`, must stay a DNS label.
pub const NAME_MAX: usize = 39;

/// Label (and selector key): the name of the resource.
pub const LABEL_APP: &str = "app";
/// Label (and selector key): `storage` or `schema`.
pub const LABEL_COMPONENT: &str = "component";
/// Label (and selector key): `blue` or `green`; on a front Service that serves nothing yet, `none`.
pub const LABEL_STRATEGY: &str = "strategy";
/// Label by which the operator's watches find its objects.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Annotation on objects: the version of the release they belong to (on a front Service: that it serves).
pub const RELEASE_VERSION: &str = "e6data.io/release-version";
/// Annotation on objects: the full hash of that release's template.
pub const RELEASE_HASH: &str = "e6data.io/release-hash";
/// Annotation on objects: the epoch of the decision that created (on a front Service: switched) them.
pub const EPOCH: &str = "e6data.io/epoch";
/// Annotation on a front Service: when it was last switched, RFC 3339.
pub const SWITCHED_AT: &str = "e6data.io/switched-at";
/// Annotation on a Deployment: the `replicas` of the spec that was last applied to it, so that another hand's
/// scaling (an autoscaler's, say) is not reverted.
pub const APPLIED_REPLICAS: &str = "e6data.io/replicas";
/// Annotation on an object with settings that follow the spec in place: a digest of what was last applied.
pub const APPLIED_SETTINGS: &str = "e6data.io/settings";
/// Annotation with the names of the annotations and labels that the spec asked for when its settings were last applied:
/// those that it does not ask for any more are taken away.
pub const APPLIED_KEYS: &str = "e6data.io/applied-keys";
/// Annotation on a ControllerRevision: `Failed` while its release is blocked.
pub const OUTCOME: &str = "e6data.io/outcome";
/// Annotation on a ControllerRevision: why its release failed.
pub const OUTCOME_REASON: &str = "e6data.io/outcome-reason";

/// A user asks for the recorded release of this version.
pub const ROLLBACK_TO: &str = "e6data.io/rollback-to";
/// A user asks for another try of the release that failed (any value).
pub const RETRY: &str = "e6data.io/retry";
/// A user asks for the serving release to be deployed anew (any value).
pub const RESTART: &str = "e6data.io/restart";

/// One of the two sides of a blue-green deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
// Inlined as a string, or kube's rewriting of optional enums would drop the descriptions of fields of this type.
#[schemars(with = "String", extend("enum" = ["blue", "green"]))]
pub enum Color {
    /// The side of the first release.
    Blue,
    /// The other one.
    Green,
}

impl Color {
    /// Both, in a fixed order.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// The opposite side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// The value of the `strategy` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }

    /// Reads a `strategy` label; anything but the two colors is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|color| color.as_str() == text)
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of the two services that make a release together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Table metadata, port 9005.
    Storage,
    /// Schema inference, port 9006.
    Schema,
}

impl Component {
    /// Both, in a fixed order.
    pub const ALL: [Self; 2] = [Self::Storage, Self::Schema];

    /// The value of the `component` label, and the name of container and port.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Schema => "schema",
        }
    }

    /// The port its pods listen on, and the default port of its Services.
    pub const fn port(self) -> i32 {
        match self {
            Self::Storage => 9005,
            Self::Schema => 9006,
        }
    }

    /// Reads a `component` label.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.as_str() == text)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value for each component, so that a match on a component cannot forget one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerComponent<T> {
    /// The storage service's.
    pub storage: T,
    /// The schema service's.
    pub schema: T,
}

impl<T> PerComponent<T> {
    /// Builds one from a function of the component.
    pub fn from_fn(mut f: impl FnMut(Component) -> T) -> Self {
        Self { storage: f(Component::Storage), schema: f(Component::Schema) }
    }

    /// The value of one component.
    pub const fn get(&self, component: Component) -> &T {
        match component {
            Component::Storage => &self.storage,
            Component::Schema => &self.schema,
        }
    }

    /// The value of one component, to be changed.
    pub const fn get_mut(&mut self, component: Component) -> &mut T {
        match component {
            Component::Storage => &mut self.storage,
            Component::Schema => &mut self.schema,
        }
    }

    /// Both values, with their components, storage first.
    pub fn iter(&self) -> impl Iterator<Item = (Component, &T)> {
        Component::ALL.into_iter().map(|component| (component, self.get(component)))
    }

    /// Whether `f` holds for both.
    pub fn all(&self, f: impl Fn(&T) -> bool) -> bool {
        f(&self.storage) && f(&self.schema)
    }

    /// Whether `f` holds for at least one.
    pub fn any(&self, f: impl Fn(&T) -> bool) -> bool {
        f(&self.storage) || f(&self.schema)
    }
}

/// A value for each color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerColor<T> {
    /// The blue side's.
    pub blue: T,
    /// The green side's.
    pub green: T,
}

impl<T> PerColor<T> {
    /// Builds one from a function of the color.
    pub fn from_fn(mut f: impl FnMut(Color) -> T) -> Self {
        Self { blue: f(Color::Blue), green: f(Color::Green) }
    }

    /// The value of one color.
    pub const fn get(&self, color: Color) -> &T {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }

    /// The value of one color, to be changed.
    pub const fn get_mut(&mut self, color: Color) -> &mut T {
        match color {
            Color::Blue => &mut self.blue,
            Color::Green => &mut self.green,
        }
    }
}

/// Name of a component's front Service, which clients use; also of its `PodDisruptionBudget`.
pub fn front(name: &str, component: Component) -> String {
    format!("{name}-{component}")
}

/// Name of a color's Deployment and of its Service.
pub fn workload(name: &str, component: Component, color: Color) -> String {
    format!("{name}-{component}-{color}")
}

/// Name of a color's `ConfigMap`.
pub fn config(name: &str, component: Component, color: Color) -> String {
    format!("{name}-{component}-config-{color}")
}

/// Name of the `ControllerRevision` that records a release: injective in the version.
pub fn revision(name: &str, version: &str) -> String {
    let digest = format!("{:x}", Sha256::digest(version.as_bytes()));
    let short = digest.get(..10).unwrap_or(&digest);
    format!("{name}-{short}")
}

/// The resource that owns the objects rendered for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID: a resource of the same name created later is another owner.
    pub uid: String,
}

impl Owner {
    /// The controller reference that every owned object carries (design D5).
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{GROUP}/v1alpha1"),
            kind: "MetadataServices".into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A legal name, often made of the words that child names are made of.
    fn owner() -> impl Strategy<Value = String> {
        let word =
            prop::sample::select(vec!["a", "storage", "schema", "blue", "green", "config", "0a1b2c3d4e"]);
        let words = prop::collection::vec(word, 1..5).prop_map(|words| words.join("-"));
        let name = prop_oneof![words, "[a-z]([-a-z0-9]{0,37}[a-z0-9])?"];
        name.prop_filter("illegal", |name| {
            name.len() <= NAME_MAX && name.starts_with(|c: char| c.is_ascii_lowercase())
        })
    }

    /// All names that a resource's objects have, by kind.
    fn all(name: &str, versions: &[String]) -> Vec<(&'static str, String)> {
        let mut names = vec![];
        for component in Component::ALL {
            names.extend([
                ("Service", front(name, component)),
                ("PodDisruptionBudget", front(name, component)),
            ]);
            for color in Color::ALL {
                let of_color = workload(name, component, color);
                names.extend([("Deployment", of_color.clone()), ("Service", of_color)]);
                names.push(("ConfigMap", config(name, component, color)));
            }
        }
        names.extend(versions.iter().map(|version| ("ControllerRevision", revision(name, version))));
        names
    }

    fn is_label(name: &str) -> bool {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        name.len() <= 63 && name.chars().all(legal) && !name.starts_with('-') && !name.ends_with('-')
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// No two objects of a kind, of one resource or of two, have one name; and each is a DNS label.
        #[test]
        fn names_of_objects_are_dns_labels_and_never_meet(
            one in owner(), two in owner(),
            versions in prop::collection::btree_set("[a-zA-Z0-9._-]{1,20}", 1..5),
        ) {
            let versions: Vec<String> = versions.into_iter().collect();
            let owners: BTreeSet<&String> = [&one, &two].into();
            let names: Vec<_> = owners.iter().flat_map(|owner| all(owner, &versions)).collect();
            let distinct: BTreeSet<_> = names.iter().collect();
            prop_assert_eq!(distinct.len(), names.len(), "{:?}", names);
            for (kind, name) in &names {
                prop_assert!(is_label(name), "{kind} {name}");
            }
        }
    }

    #[test]
    fn the_longest_child_names_are_dns_labels() {
        let names = all(&"x".repeat(NAME_MAX), &["v20260101-000000-abcdef0".into()]);
        assert!(names.iter().all(|(_, name)| is_label(name)));
    }

    #[test]
    fn labels_are_read_back() {
        for color in Color::ALL {
            assert_eq!(Color::parse(color.as_str()), Some(color));
            assert_ne!(color.other(), color);
        }
        assert_eq!(Color::parse("none"), None);
        assert_eq!(Component::parse("schema"), Some(Component::Schema));
    }
}
