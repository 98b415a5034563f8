//! The key of a resource in maps, queues and log lines.

use kube::ResourceExt;
use kube::runtime::reflector::{Lookup, ObjectRef};

/// Namespace and name of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl NamespacedName {
    /// Builds the key of `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Returns the key of an object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: ResourceExt::namespace(object).unwrap_or_default(), name: object.name_any() }
    }

    /// Returns the reference by which kube's reflector and controller know the resource.
    pub fn object_ref<K: Lookup<DynamicType = ()>>(&self) -> ObjectRef<K> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

impl<K: Lookup<DynamicType = ()>> From<&ObjectRef<K>> for NamespacedName {
    fn from(object: &ObjectRef<K>) -> Self {
        Self { namespace: object.namespace.clone().unwrap_or_default(), name: object.name.clone() }
    }
}
