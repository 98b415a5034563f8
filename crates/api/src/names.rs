//! Names in the cluster: colors, components, labels, annotations, objects.
//!
//! The names are part of the interface (design D1): a changed name would orphan the objects of an older operator
//! version.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// API group of the resource.
pub const GROUP: &str = "e6data.io";
/// Field manager of every write, and value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "e6-operator";
/// Maximum length of a resource name. The longest child name, `<name>-storage-config-green`, must be a DNS label.
pub const NAME_MAX: usize = 39;

/// Label and selector key: name of the resource.
pub const LABEL_APP: &str = "app";
/// Label and selector key: `storage` or `schema`.
pub const LABEL_COMPONENT: &str = "component";
/// Label and selector key: `blue` or `green`; `none` in a front Service before the first switch.
pub const LABEL_STRATEGY: &str = "strategy";
/// Label that selects the objects of the operator in its watches.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Annotation of an object: version of its release. On a front Service: version of the release that receives traffic.
pub const RELEASE_VERSION: &str = "e6data.io/release-version";
/// Annotation of an object: full hash of the template of its release.
pub const RELEASE_HASH: &str = "e6data.io/release-hash";
/// Annotation of an object: epoch of the decision that created it. On a front Service: epoch of its last switch.
pub const EPOCH: &str = "e6data.io/epoch";
/// Annotation of a front Service: time of its last switch, RFC 3339.
pub const SWITCHED_AT: &str = "e6data.io/switched-at";
/// Annotation of a Deployment: the `replicas` of the spec that the operator last applied. It distinguishes a change of
/// the spec from a replica count that another client, such as an autoscaler, sets.
pub const APPLIED_REPLICAS: &str = "e6data.io/replicas";
/// Annotation of an object with in-place settings: digest of the settings that the operator last applied.
pub const APPLIED_SETTINGS: &str = "e6data.io/settings";
/// Annotation of an object with in-place settings: names of the annotations and labels of the spec that the operator
/// last applied. The operator removes the ones that the spec no longer lists.
pub const APPLIED_KEYS: &str = "e6data.io/applied-keys";
/// Annotation of a Deployment that an earlier operator made and this one adopted: the image that it ran.
pub const ADOPTED: &str = "e6data.io/adopted";
/// Annotation of a ControllerRevision: `Failed` while its release is blocked.
pub const OUTCOME: &str = "e6data.io/outcome";
/// Annotation of a ControllerRevision: reason of the failure.
pub const OUTCOME_REASON: &str = "e6data.io/outcome-reason";

/// Annotation of the resource that requests a rollback; its value is the version of a recorded release.
pub const ROLLBACK_TO: &str = "e6data.io/rollback-to";
/// Annotation of the resource that requests another attempt of the failed release; it can have any value.
pub const RETRY: &str = "e6data.io/retry";
/// Annotation of the resource that requests a new deployment of the active release; it can have any value.
pub const RESTART: &str = "e6data.io/restart";

/// Set of objects of one release in a blue-green deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
// Inlined as a string, because kube's rewriting of optional enums drops the descriptions of fields of this type.
#[schemars(with = "String", extend("enum" = ["blue", "green"]))]
pub enum Color {
    /// The color of the first release.
    Blue,
    /// The color of the second release.
    Green,
}

impl Color {
    /// Both colors in a fixed order.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// Returns the other color.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// Returns the value of the `strategy` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }

    /// Reads a `strategy` label; `None` for any value but the two colors.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|color| color.as_str() == text)
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Service that is part of every release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The storage service: table metadata, port 9005.
    Storage,
    /// The schema service: schema inference, port 9006.
    Schema,
}

impl Component {
    /// Both components in a fixed order.
    pub const ALL: [Self; 2] = [Self::Storage, Self::Schema];

    /// Returns the value of the `component` label, which is also the name of the container and its port.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Schema => "schema",
        }
    }

    /// Returns the container port, which is also the default port of the Services.
    pub const fn port(self) -> i32 {
        match self {
            Self::Storage => 9005,
            Self::Schema => 9006,
        }
    }

    /// Reads a `component` label; `None` for any other value.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.as_str() == text)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value for each component. A `match` on a component cannot forget one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerComponent<T> {
    /// Value of the storage service.
    pub storage: T,
    /// Value of the schema service.
    pub schema: T,
}

impl<T> PerComponent<T> {
    /// Returns the values that a function of the component returns.
    pub fn from_fn(mut f: impl FnMut(Component) -> T) -> Self {
        Self { storage: f(Component::Storage), schema: f(Component::Schema) }
    }

    /// Returns the value of one component.
    pub const fn get(&self, component: Component) -> &T {
        match component {
            Component::Storage => &self.storage,
            Component::Schema => &self.schema,
        }
    }

    /// Returns the value of one component for modification.
    pub const fn get_mut(&mut self, component: Component) -> &mut T {
        match component {
            Component::Storage => &mut self.storage,
            Component::Schema => &mut self.schema,
        }
    }

    /// Iterates over the components and their values, storage first.
    pub fn iter(&self) -> impl Iterator<Item = (Component, &T)> {
        Component::ALL.into_iter().map(|component| (component, self.get(component)))
    }

    /// Returns whether `f` holds for both values.
    pub fn all(&self, f: impl Fn(&T) -> bool) -> bool {
        f(&self.storage) && f(&self.schema)
    }

    /// Returns whether `f` holds for at least one value.
    pub fn any(&self, f: impl Fn(&T) -> bool) -> bool {
        f(&self.storage) || f(&self.schema)
    }
}

/// A value for each color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerColor<T> {
    /// Value of color blue.
    pub blue: T,
    /// Value of color green.
    pub green: T,
}

impl<T> PerColor<T> {
    /// Returns the values that a function of the color returns.
    pub fn from_fn(mut f: impl FnMut(Color) -> T) -> Self {
        Self { blue: f(Color::Blue), green: f(Color::Green) }
    }

    /// Returns the value of one color.
    pub const fn get(&self, color: Color) -> &T {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }

    /// Returns the value of one color for modification.
    pub const fn get_mut(&mut self, color: Color) -> &mut T {
        match color {
            Color::Blue => &mut self.blue,
            Color::Green => &mut self.green,
        }
    }
}

/// Returns the name of a front Service, which is also the name of the component's PodDisruptionBudget.
pub fn front(name: &str, component: Component) -> String {
    format!("{name}-{component}")
}

/// Returns the name of a Deployment, which is also the name of the color Service.
pub fn workload(name: &str, component: Component, color: Color) -> String {
    format!("{name}-{component}-{color}")
}

/// Returns the name of a ConfigMap.
pub fn config(name: &str, component: Component, color: Color) -> String {
    format!("{name}-{component}-config-{color}")
}

/// Returns the name of the ControllerRevision of a version. Different versions have different names.
pub fn revision(name: &str, version: &str) -> String {
    let digest = format!("{:x}", Sha256::digest(version.as_bytes()));
    let short = digest.get(..10).unwrap_or(&digest);
    format!("{name}-{short}")
}

/// The resource that owns the objects of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the resource.
    pub name: String,
    /// Namespace of the resource.
    pub namespace: String,
    /// UID of the resource. A resource that is created later under the same name has another UID.
    pub uid: String,
}

impl Owner {
    /// Returns the controller ownerReference that every owned object has (design D5).
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

    /// Generates valid names, often with words that child names contain.
    fn owner() -> impl Strategy<Value = String> {
        let word =
            prop::sample::select(vec!["a", "storage", "schema", "blue", "green", "config", "0a1b2c3d4e"]);
        let words = prop::collection::vec(word, 1..5).prop_map(|words| words.join("-"));
        let name = prop_oneof![words, "[a-z]([-a-z0-9]{0,37}[a-z0-9])?"];
        name.prop_filter("invalid name", |name| {
            name.len() <= NAME_MAX && name.starts_with(|c: char| c.is_ascii_lowercase())
        })
    }

    /// Returns the names of all objects of a resource, by kind.
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

        /// Also objects of two resources have different names.
        #[test]
        fn names_of_objects_are_unique_dns_labels(
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
    fn values_of_labels_are_parsed() {
        for color in Color::ALL {
            assert_eq!(Color::parse(color.as_str()), Some(color));
            assert_ne!(color.other(), color);
        }
        assert_eq!(Color::parse("none"), None);
        assert_eq!(Component::parse("schema"), Some(Component::Schema));
    }
}
