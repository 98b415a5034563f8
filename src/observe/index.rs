//! What the watches saw last, by resource: the operator's cache. It only triggers and shows; nothing is written or
//! deleted on its word (design D15).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::watcher::Event;

use super::views::Meta;
use api::names::LABEL_APP;

/// Namespace and name of a resource.
pub type Key = (String, String);

type Objects<T> = HashMap<Key, BTreeMap<String, Arc<T>>>;

/// Objects of one kind, by the resource that their `app` label names.
#[derive(Debug)]
pub struct Index<T> {
    inner: RwLock<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    objects: Objects<T>,
    /// Collects a list in progress; it replaces `objects` when it is complete.
    incoming: Option<Objects<T>>,
    complete: bool,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { inner: RwLock::new(Inner { objects: HashMap::new(), incoming: None, complete: false }) }
    }
}

impl<T: Meta> Inner<T> {
    /// Under which resource an object is kept: another hand may have changed its label since.
    fn key_of(&self, object: &T) -> Option<Key> {
        let name = object.object_name();
        let holds = |key: &Key| self.objects.get(key).is_some_and(|objects| objects.contains_key(name));
        key(object).filter(holds).or_else(|| {
            let namespace = object.object_meta().namespace.as_ref()?;
            self.objects.keys().find(|key| key.0 == *namespace && holds(key)).cloned()
        })
    }

    fn remove(&mut self, key: &Key, object: &T) {
        if let Some(objects) = self.objects.get_mut(key) {
            objects.remove(object.object_name());
            if objects.is_empty() {
                self.objects.remove(key);
            }
        }
    }
}

impl<T: Meta> Index<T> {
    /// Takes in an event and answers which resources it concerns, those included whose objects vanished while the
    /// watch was broken, or were given to another by their label.
    pub fn apply(&self, event: Event<T>) -> Vec<Key> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                inner.incoming = Some(HashMap::new());
                vec![]
            }
            Event::InitApply(object) => {
                if let (Some(incoming), Some(key)) = (inner.incoming.as_mut(), key(&object)) {
                    insert(incoming, key, object);
                }
                vec![]
            }
            Event::InitDone => {
                let incoming = inner.incoming.take().unwrap_or_default();
                let before = std::mem::replace(&mut inner.objects, incoming);
                inner.complete = true;
                let mut touched: HashSet<Key> = before.into_keys().collect();
                touched.extend(inner.objects.keys().cloned());
                touched.into_iter().collect()
            }
            Event::Apply(object) => {
                let (is, was) = (key(&object), inner.key_of(&object));
                let moved =
                    was.filter(|was| is.as_ref() != Some(was)).inspect(|was| inner.remove(was, &object));
                if let Some(key) = is.clone() {
                    insert(&mut inner.objects, key, object);
                }
                is.into_iter().chain(moved).collect()
            }
            Event::Delete(object) => {
                let was = inner.key_of(&object).inspect(|was| inner.remove(was, &object));
                was.or_else(|| key(&object)).into_iter().collect()
            }
        }
    }

    /// The objects of a resource, by name.
    pub fn of(&self, key: &Key) -> Vec<Arc<T>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.objects.get(key).map_or_else(Vec::new, |objects| objects.values().cloned().collect())
    }

    /// Whether the first list is complete.
    pub fn is_complete(&self) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).complete
    }
}

fn key<T: Meta>(object: &T) -> Option<Key> {
    Some((object.object_meta().namespace.clone()?, object.label(LABEL_APP)?.to_owned()))
}

fn insert<T: Meta>(objects: &mut Objects<T>, key: Key, object: T) {
    objects.entry(key).or_default().insert(object.object_name().to_owned(), Arc::new(object));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::views::ConfigMapView;

    fn object(name: &str, app: &str) -> ConfigMapView {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"app": app}}
        }))
        .unwrap()
    }

    #[test]
    fn a_relist_touches_what_vanished_meanwhile() {
        let index = Index::default();
        index.apply(Event::Init);
        index.apply(Event::InitApply(object("a-1", "a")));
        index.apply(Event::InitApply(object("b-1", "b")));
        assert!(!index.is_complete());
        index.apply(Event::InitDone);
        assert!(index.is_complete());
        index.apply(Event::Init);
        index.apply(Event::InitApply(object("a-1", "a")));
        assert_eq!(
            index.of(&("n".into(), "b".into())).len(),
            1,
            "the old list stands until the new is complete"
        );
        let mut touched = index.apply(Event::InitDone);
        touched.sort();
        assert_eq!(touched, [("n".to_owned(), "a".to_owned()), ("n".to_owned(), "b".to_owned())]);
        assert!(index.of(&("n".into(), "b".into())).is_empty());
        assert_eq!(index.apply(Event::Delete(object("a-1", "a"))), [("n".to_owned(), "a".to_owned())]);
        assert!(index.of(&("n".into(), "a".into())).is_empty());
    }
    /// The label by which an object is found is changed, taken away and put back: who lost it hears of it.
    #[test]
    fn a_changed_label_concerns_both_resources() {
        let (index, a, b) =
            (Index::default(), ("n".to_owned(), "a".to_owned()), ("n".to_owned(), "b".to_owned()));
        let holders = |index: &Index<ConfigMapView>| (index.of(&a).len(), index.of(&b).len());
        assert_eq!(index.apply(Event::Apply(object("a-1", "a"))), std::slice::from_ref(&a));
        assert_eq!(index.apply(Event::Apply(object("a-1", "b"))), [b.clone(), a.clone()]);
        assert_eq!(holders(&index), (0, 1));
        assert_eq!(index.apply(Event::Apply(object("a-1", "a"))), [a.clone(), b.clone()]);
        let mut bare = object("a-1", "a");
        bare.metadata.labels = None;
        assert_eq!(index.apply(Event::Apply(bare.clone())), std::slice::from_ref(&a));
        assert_eq!(holders(&index), (0, 0));
        index.apply(Event::Apply(object("a-1", "a")));
        assert_eq!(
            index.apply(Event::Delete(bare)),
            std::slice::from_ref(&a),
            "deleted with the label already gone"
        );
        assert_eq!(holders(&index), (0, 0));
        let mut elsewhere = object("a-1", "b");
        elsewhere.metadata.namespace = Some("m".into());
        index.apply(Event::Apply(object("a-1", "a")));
        assert_eq!(index.apply(Event::Apply(elsewhere)), [("m".to_owned(), "b".to_owned())]);
        assert_eq!(holders(&index), (1, 0), "another namespace is another object");
    }
}
