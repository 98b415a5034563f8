//! The annotations and labels of an object that come from the spec. Other clients may add more, and a merge patch leaves
//! unnamed keys alone. So the operator records the keys of the spec and removes only keys that the spec dropped.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Strings;
use api::names::APPLIED_KEYS;

/// The prefix of a label in the list of keys.
const LABEL: &str = "label:";

/// Returns the annotation with the keys of the spec; `None` if the spec has none.
pub fn keys(annotations: &Strings, labels: &Strings) -> Option<(String, String)> {
    let labels = labels.keys().map(|key| format!("{LABEL}{key}"));
    let names: Vec<String> = annotations.keys().cloned().chain(labels).collect();
    (!names.is_empty()).then(|| (APPLIED_KEYS.to_owned(), names.join(" ")))
}

/// Returns the annotations and labels that the spec dropped, as `null` values of a merge patch.
pub fn dropped(applied: Option<&str>, wanted: Option<&str>) -> (Map<String, Value>, Map<String, Value>) {
    let names = |text: Option<&str>| -> BTreeSet<String> {
        text.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let (applied, kept) = (names(applied), names(wanted));
    let (mut annotations, mut labels) = (Map::new(), Map::new());
    for name in applied.difference(&kept) {
        match name.strip_prefix(LABEL) {
            Some(label) => labels.insert(label.to_owned(), Value::Null),
            None => annotations.insert(name.clone(), Value::Null),
        };
    }
    if wanted.is_none() && !applied.is_empty() {
        annotations.insert(APPLIED_KEYS.to_owned(), Value::Null);
    }
    (annotations, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_spec_dropped_are_removed() {
        let strings =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        let (_, before) = keys(&strings(&["a/x", "b"]), &strings(&["tier", "b"])).unwrap();
        assert_eq!(before, "a/x b label:b label:tier");
        let (_, after) = keys(&strings(&["b"]), &strings(&["tier"])).unwrap();
        let (annotations, labels) = dropped(Some(&before), Some(&after));
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["a/x"]);
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["b"]);
        let (annotations, labels) = dropped(Some(&after), None);
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["b", APPLIED_KEYS]);
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["tier"]);
        assert_eq!(keys(&Strings::new(), &Strings::new()), None);
        assert_eq!(dropped(None, None), (Map::new(), Map::new()));
    }
}
