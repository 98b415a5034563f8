//! The `MetadataServices` resource: types, schema, CEL rules, CRD, release template, and names.

pub mod component;
pub mod crd;
pub mod embed;
pub mod names;
pub mod policy;
pub mod rules;
pub mod schema;
pub mod spec;
pub mod status;
pub mod template;
pub mod validate;

pub use component::ComponentSpec;
pub use policy::RolloutPolicy;
pub use spec::{MetadataServices, MetadataServicesSpec};
pub use status::MetadataServicesStatus;

/// Returns whether a value is the default of its type. Such values are not serialized, so that a hash covers only the
/// values that the user set.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
