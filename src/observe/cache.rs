//! The operator's cache: the objects of each resource as the watches last showed them. The cache triggers reconciles and
//! answers whether there is work; every write is decided on live reads (design D15).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use parking_lot::RwLock;

use super::views::Meta;
use crate::namespaced_name::NamespacedName;
use api::names::LABEL_APP;

type Objects<T> = HashMap<NamespacedName, BTreeMap<String, Arc<T>>>;

/// Objects of one kind, by the resource that their `app` label names.
#[derive(Debug)]
pub struct Cache<T> {
    inner: RwLock<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    objects: Objects<T>,
    /// The list in progress; it replaces `objects` when it is complete.
    incoming: Option<Objects<T>>,
    /// True if the first list is complete.
    complete: bool,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { inner: RwLock::new(Inner { objects: HashMap::new(), incoming: None, complete: false }) }
    }
}

impl<T: Meta> Inner<T> {
    /// Returns the resource under which an object is cached. Another client may have changed the label since.
    fn key_of(&self, object: &T) -> Option<NamespacedName> {
        let name = object.object_name();
        let holds =
            |key: &NamespacedName| self.objects.get(key).is_some_and(|objects| objects.contains_key(name));
        resource_of(object).filter(holds).or_else(|| {
            let namespace = object.object_meta().namespace.as_ref()?;
            self.objects.keys().find(|key| key.namespace == *namespace && holds(key)).cloned()
        })
    }

    fn remove(&mut self, key: &NamespacedName, object: &T) {
        if let Some(objects) = self.objects.get_mut(key) {
            objects.remove(object.object_name());
            if objects.is_empty() {
                self.objects.remove(key);
            }
        }
    }
}

impl<T: Meta> Cache<T> {
    /// Applies an event and returns the affected resources. They include resources whose objects vanished while the watch
    /// was broken, and both resources when a label moves an object from one to the other.
    pub fn apply(&self, event: Event<T>) -> Vec<NamespacedName> {
        let mut inner = self.inner.write();
        match event {
            Event::Init => {
                inner.incoming = Some(HashMap::new());
                vec![]
            }
            Event::InitApply(object) => {
                if let (Some(incoming), Some(key)) = (inner.incoming.as_mut(), resource_of(&object)) {
                    insert(incoming, key, object);
                }
                vec![]
            }
            Event::InitDone => {
                let incoming = inner.incoming.take().unwrap_or_default();
                let before = std::mem::replace(&mut inner.objects, incoming);
                inner.complete = true;
                let mut touched: HashSet<NamespacedName> = before.into_keys().collect();
                touched.extend(inner.objects.keys().cloned());
                touched.into_iter().collect()
            }
            Event::Apply(object) => {
                let (is, was) = (resource_of(&object), inner.key_of(&object));
                let moved =
                    was.filter(|was| is.as_ref() != Some(was)).inspect(|was| inner.remove(was, &object));
                if let Some(key) = is.clone() {
                    insert(&mut inner.objects, key, object);
                }
                is.into_iter().chain(moved).collect()
            }
            Event::Delete(object) => {
                let was = inner.key_of(&object).inspect(|was| inner.remove(was, &object));
                was.or_else(|| resource_of(&object)).into_iter().collect()
            }
        }
    }

    /// Returns the objects of a resource, sorted by name.
    pub fn of(&self, key: &NamespacedName) -> Vec<Arc<T>> {
        let inner = self.inner.read();
        inner.objects.get(key).map_or_else(Vec::new, |objects| objects.values().cloned().collect())
    }

    /// Returns whether the first list is complete.
    pub fn is_complete(&self) -> bool {
        self.inner.read().complete
    }
}

fn resource_of<T: Meta>(object: &T) -> Option<NamespacedName> {
    Some(NamespacedName::new(object.object_meta().namespace.clone()?, object.label(LABEL_APP)?))
}

fn insert<T: Meta>(objects: &mut Objects<T>, key: NamespacedName, object: T) {
    objects.entry(key).or_default().insert(object.object_name().to_owned(), Arc::new(object));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::views::ConfigMapView;

    fn key(namespace: &str, name: &str) -> NamespacedName {
        NamespacedName::new(namespace, name)
    }

    fn object(name: &str, app: &str) -> ConfigMapView {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"app": app}}
        }))
        .unwrap()
    }

    #[test]
    fn a_relist_names_the_owners_of_vanished_objects() {
        let cache = Cache::default();
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(object("a-1", "a")));
        cache.apply(Event::InitApply(object("b-1", "b")));
        assert!(!cache.is_complete());
        cache.apply(Event::InitDone);
        assert!(cache.is_complete());
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(object("a-1", "a")));
        assert_eq!(cache.of(&key("n", "b")).len(), 1, "the old list is valid until the new one is complete");
        let mut touched = cache.apply(Event::InitDone);
        touched.sort();
        assert_eq!(touched, [key("n", "a"), key("n", "b")]);
        assert!(cache.of(&key("n", "b")).is_empty());
        assert_eq!(cache.apply(Event::Delete(object("a-1", "a"))), [key("n", "a")]);
        assert!(cache.of(&key("n", "a")).is_empty());
    }

    /// A client changes, removes and restores the label by which the operator finds an object.
    #[test]
    fn a_changed_label_affects_both_resources() {
        let (cache, a, b) = (Cache::default(), key("n", "a"), key("n", "b"));
        let holders = |cache: &Cache<ConfigMapView>| (cache.of(&a).len(), cache.of(&b).len());
        assert_eq!(cache.apply(Event::Apply(object("a-1", "a"))), std::slice::from_ref(&a));
        assert_eq!(cache.apply(Event::Apply(object("a-1", "b"))), [b.clone(), a.clone()]);
        assert_eq!(holders(&cache), (0, 1));
        assert_eq!(cache.apply(Event::Apply(object("a-1", "a"))), [a.clone(), b.clone()]);
        let mut bare = object("a-1", "a");
        bare.metadata.labels = None;
        assert_eq!(cache.apply(Event::Apply(bare.clone())), std::slice::from_ref(&a));
        assert_eq!(holders(&cache), (0, 0));
        cache.apply(Event::Apply(object("a-1", "a")));
        assert_eq!(cache.apply(Event::Delete(bare)), std::slice::from_ref(&a), "deleted without its label");
        assert_eq!(holders(&cache), (0, 0));
        let mut elsewhere = object("a-1", "b");
        elsewhere.metadata.namespace = Some("m".into());
        cache.apply(Event::Apply(object("a-1", "a")));
        assert_eq!(cache.apply(Event::Apply(elsewhere)), [key("m", "b")]);
        assert_eq!(holders(&cache), (1, 0), "another namespace is another object");
    }
}
