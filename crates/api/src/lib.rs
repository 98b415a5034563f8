//! The custom resource: its types, its schema, its rules, and what of it makes a release.

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

/// Whether a value is its type's default: then it is left out, so that a hash sees only what the user wrote.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
