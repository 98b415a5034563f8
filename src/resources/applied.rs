//! Which annotations and labels of an object came from the spec. A merge patch leaves what it does not name, and others
//! have annotations of their own there: only what the spec asked for once, and does not any more, is taken away.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Strings;
use api::names::APPLIED_KEYS;

/// Before the name of a label.
const LABEL: &str = "label:";

/// The annotation that remembers the names that the spec asks for, if it asks for any.
pub fn keys(annotations: &Strings, labels: &Strings) -> Option<(String, String)> {
    let labels = labels.keys().map(|key| format!("{LABEL}{key}"));
    let names: Vec<String> = annotations.keys().cloned().chain(labels).collect();
    (!names.is_empty()).then(|| (APPLIED_KEYS.to_owned(), names.join(" ")))
}

/// What a merge patch has to say of annotations and of labels that were applied and are not wanted any more: `null`.
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
    fn what_the_spec_does_not_ask_for_any_more_is_taken_away() {
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
