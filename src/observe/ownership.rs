//! Ownership of objects (design D5).

use std::sync::Arc;

use super::views::Meta;
use api::names::{
    APPLIED_SETTINGS, EPOCH, LABEL_APP, LABEL_MANAGED_BY, MANAGER, Owner, RELEASE_HASH, RELEASE_VERSION,
};

/// The annotations that show that the operator made or adopted an object. Every object carries at least one of them.
const STAMPS: [&str; 4] = [RELEASE_VERSION, RELEASE_HASH, EPOCH, APPLIED_SETTINGS];

/// The relation of an object to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The resource is its controller, and it carries a stamp of the operator.
    Ours,
    /// The resource is its controller, but an earlier operator made it (design D28).
    Unstamped,
    /// It has the labels of the resource, an annotation of the operator, and no controller.
    Adoptable,
    /// Every other object.
    Foreign,
}

/// Judges an object by its controller reference, labels and annotations.
pub fn ownership<T: Meta>(object: &T, owner: &Owner) -> Ownership {
    let stamped = STAMPS.iter().any(|stamp| object.annotation(stamp).is_some());
    match object.controller() {
        Some(reference) if reference.uid == owner.uid && stamped => Ownership::Ours,
        Some(reference) if reference.uid == owner.uid => Ownership::Unstamped,
        Some(_) => Ownership::Foreign,
        None => {
            let labelled = object.label(LABEL_MANAGED_BY) == Some(MANAGER)
                && object.label(LABEL_APP) == Some(owner.name.as_str());
            if labelled && stamped { Ownership::Adoptable } else { Ownership::Foreign }
        }
    }
}

/// Describes a foreign object whose name the resource needs, for a condition.
pub fn describe_foreign<T: Meta>(kind: &str, object: &T, owner: &Owner) -> String {
    let holder = match object.controller() {
        None => "it has no controller".to_owned(),
        Some(reference) if reference.uid == owner.uid => "an earlier operator made it".to_owned(),
        Some(reference) => {
            format!("controlled by {} {} (uid {})", reference.kind, reference.name, reference.uid)
        }
    };
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

/// The objects of one kind that a resource owns or may adopt. Foreign objects and objects without a stamp count as absent,
/// so nothing deletes or changes them.
#[derive(Debug)]
pub struct Owned<'a, T> {
    found: Vec<OwnedObject<'a, T>>,
    unstamped: Vec<&'a T>,
}

impl<'a, T: Meta> Owned<'a, T> {
    /// Judges each object.
    pub fn of(objects: &'a [Arc<T>], owner: &Owner) -> Self {
        let (mut found, mut unstamped) = (vec![], vec![]);
        for object in objects.iter().map(Arc::as_ref) {
            match ownership(object, owner) {
                Ownership::Ours => found.push(OwnedObject { object, is_adoptable: false }),
                Ownership::Adoptable => found.push(OwnedObject { object, is_adoptable: true }),
                Ownership::Unstamped => unstamped.push(object),
                Ownership::Foreign => {}
            }
        }
        Self { found, unstamped }
    }

    /// Finds an object that an earlier operator made, by name.
    pub fn unstamped(&self, name: &str) -> Option<&'a T> {
        self.unstamped.iter().find(|object| object.object_name() == name).copied()
    }

    /// Iterates over all objects, in the order of the snapshot.
    pub fn iter(&self) -> impl Iterator<Item = OwnedObject<'a, T>> {
        self.found.iter().copied()
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
