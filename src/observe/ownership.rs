//! Ownership of objects (design D5).

use std::sync::Arc;

use super::views::Meta;
use api::names::{APPLIED_SETTINGS, EPOCH, LABEL_APP, LABEL_MANAGED_BY, MANAGER, Owner, RELEASE_VERSION};

/// The relation of an object to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The resource is its controller.
    Ours,
    /// It has the labels of the resource, an annotation of the operator, and no controller.
    Adoptable,
    /// Every other object.
    Foreign,
}

/// Judges an object by its controller reference, labels and annotations.
pub fn ownership<T: Meta>(object: &T, owner: &Owner) -> Ownership {
    match object.controller() {
        Some(reference) if reference.uid == owner.uid => Ownership::Ours,
        Some(_) => Ownership::Foreign,
        None => {
            let labelled = object.label(LABEL_MANAGED_BY) == Some(MANAGER)
                && object.label(LABEL_APP) == Some(owner.name.as_str());
            // Every object that the operator creates carries at least one of these.
            let marks = [RELEASE_VERSION, EPOCH, APPLIED_SETTINGS];
            let marked = marks.iter().any(|mark| object.annotation(mark).is_some());
            if labelled && marked { Ownership::Adoptable } else { Ownership::Foreign }
        }
    }
}

/// Describes a foreign object whose name the resource needs, for a condition.
pub fn describe_foreign<T: Meta>(kind: &str, object: &T) -> String {
    let holder = object.controller().map_or_else(
        || "it has no controller".to_owned(),
        |reference| format!("controlled by {} {} (uid {})", reference.kind, reference.name, reference.uid),
    );
    format!("{kind} {} ({holder})", object.object_name())
}

/// An object that a resource owns or may adopt.
#[derive(Debug)]
pub struct OwnedObject<'a, T> {
    /// The object.
    pub object: &'a T,
    /// True if the owner reference is missing.
    pub is_adoptable: bool,
}

impl<T> Clone for OwnedObject<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OwnedObject<'_, T> {}

/// The objects of one kind that a resource owns or may adopt. Foreign objects count as absent.
#[derive(Debug)]
pub struct Owned<'a, T>(Vec<OwnedObject<'a, T>>);

impl<'a, T: Meta> Owned<'a, T> {
    /// Judges each object.
    pub fn of(objects: &'a [Arc<T>], owner: &Owner) -> Self {
        let judged = objects.iter().filter_map(|object| {
            let object = object.as_ref();
            match ownership(object, owner) {
                Ownership::Ours => Some(OwnedObject { object, is_adoptable: false }),
                Ownership::Adoptable => Some(OwnedObject { object, is_adoptable: true }),
                Ownership::Foreign => None,
            }
        });
        Self(judged.collect())
    }

    /// Iterates over all objects, in the order of the snapshot.
    pub fn iter(&self) -> impl Iterator<Item = OwnedObject<'a, T>> {
        self.0.iter().copied()
    }

    /// Finds an object by name.
    pub fn find(&self, name: &str) -> Option<OwnedObject<'a, T>> {
        self.iter().find(|found| found.object.object_name() == name)
    }

    /// Finds an object by name, provided that its owner reference is present.
    pub fn ours(&self, name: &str) -> Option<&'a T> {
        self.find(name).filter(|found| !found.is_adoptable).map(|found| found.object)
    }

    /// Iterates over the objects whose owner reference is present.
    pub fn all_ours(&self) -> impl Iterator<Item = &'a T> {
        self.iter().filter(|found| !found.is_adoptable).map(|found| found.object)
    }
}
