//! The final state of a run, without the values that differ between runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use testbed::{Entry, History, Kind, Verb, invariants};

use testbed::harness::NAME;

/// Fields that the API server or the time determines.
const NOISE: [&str; 7] =
    ["uid", "resourceVersion", "creationTimestamp", "clusterIP", "clusterIPs", "nodePort", "selfLink"];

/// Every object of a namespace at the end, by kind and name.
pub type End = BTreeMap<String, Value>;

/// How often an object was created and deleted.
pub type Counts = BTreeMap<String, (usize, usize)>;

/// Masks values that differ between runs: the namespace, times, versions made of times, names of Pods.
struct Mask<'a> {
    namespace: &'a str,
}

impl Mask<'_> {
    fn text(&self, text: &str) -> String {
        let versions = replace(&text.replace(self.namespace, "<namespace>"), "v########-######-", "v<time>-");
        pods_masked(&replace(&versions, "####-##-##T##:##:##", "<time>"))
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                let kept = fields.iter().filter(|(name, _)| !NOISE.contains(&name.as_str()));
                Value::Object(kept.map(|(name, value)| (name.clone(), self.value(value))).collect())
            }
            other => other.clone(),
        }
    }

    /// Returns the name of an object. The version in the name of a ControllerRevision contains a time.
    fn name(&self, entry: &Entry) -> String {
        match entry.kind {
            Kind::ControllerRevision => self
                .text(&format!("of {}", entry.annotation("e6data.io/release-version").unwrap_or_default())),
            _ => entry.name.clone(),
        }
    }
}

/// Replaces the two generated words at the end of Pod names.
fn pods_masked(text: &str) -> String {
    let mut text = text.to_owned();
    for (component, color) in
        [("storage", "blue"), ("storage", "green"), ("schema", "blue"), ("schema", "green")]
    {
        let prefix = format!("{NAME}-{component}-{color}-");
        let parts: Vec<&str> = text.split(&prefix).collect();
        let generated = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let rest: Vec<&str> = parts.iter().skip(1).map(|part| part.trim_start_matches(generated)).collect();
        text = std::iter::once(parts[0]).chain(rest).collect::<Vec<_>>().join(&format!("{prefix}<pod>"));
    }
    text
}

/// Replaces text that matches a pattern, in which `#` is any digit. A following fraction of a second is removed.
fn replace(text: &str, pattern: &str, with: &str) -> String {
    let fits = |part: &str| {
        let pairs = part.chars().zip(pattern.chars());
        part.len() >= pattern.len()
            && pairs.clone().count() == pattern.len()
            && pairs.into_iter().all(|(c, p)| if p == '#' { c.is_ascii_digit() } else { c == p })
    };
    let mut result = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if fits(rest) {
            result.push_str(with);
            rest = &rest[pattern.len()..];
            if let Some(fraction) = rest.strip_prefix('.').filter(|_| pattern.ends_with('#')) {
                rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            }
        } else {
            result.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    result
}

/// Returns whether the operator created the object.
pub fn is_ours(entry: &Entry) -> bool {
    Kind::MADE.contains(&entry.kind) && entry.label("app") == Some(NAME)
}

/// Returns the final state of a run: the resource and all objects of the operator, whole except for masked values;
/// for the status of Deployments, Pods and EndpointSlices, which other clients write, the counts.
pub fn end(history: &History, namespace: &str) -> End {
    let mask = Mask { namespace };
    let mut end = End::new();
    for kind in Kind::MADE {
        for entry in history.all_live(kind).into_iter().filter(|entry| is_ours(entry)) {
            end.insert(format!("{kind:?} {}", mask.name(entry)), whole(&mask, entry));
        }
    }
    for entry in history.all_live(Kind::MetadataServices) {
        end.insert(format!("MetadataServices {}", entry.name), mask.value(&entry.object));
    }
    end.insert("pods".into(), pods(history));
    end.insert("endpoints".into(), endpoints(history));
    end
}

/// Returns a final state without epochs.
pub fn unnumbered(end: &End) -> End {
    let mut end = end.clone();
    end.values_mut().for_each(forget_numbers);
    end
}

fn forget_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "epoch" && name != "e6data.io/epoch");
            fields.values_mut().for_each(forget_numbers);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_numbers),
        _ => {}
    }
}

fn whole(mask: &Mask, entry: &Entry) -> Value {
    let mut value = mask.value(&entry.object);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    // The name of a ControllerRevision contains its version. A changed budget takes one write or two, which changes
    // its generation.
    let chance = match entry.kind {
        Kind::ControllerRevision => Some("name"),
        Kind::PodDisruptionBudget => Some("generation"),
        _ => None,
    };
    if let (Some(field), Some(metadata)) =
        (chance, value.pointer_mut("/metadata").and_then(Value::as_object_mut))
    {
        metadata.remove(field);
    }
    if entry.kind == Kind::Deployment {
        value["status"] =
            json!({"ready": entry.number("/status/readyReplicas"), "pods": entry.number("/status/replicas")});
    }
    value
}

/// Returns the number of Pods by component, color and readiness.
fn pods(history: &History) -> Value {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    // The kubelet deletes terminating Pods at its own time.
    for pod in history.all_live(Kind::Pod).into_iter().filter(|pod| !invariants::is_terminating(pod)) {
        let side =
            format!("{}-{}", pod.label("component").unwrap_or("?"), pod.label("strategy").unwrap_or("?"));
        *counts.entry(format!("{side} ready {}", pod.condition("Ready"))).or_default() += 1;
    }
    json!(counts)
}

/// Returns the number of ready endpoints by Service.
fn endpoints(history: &History) -> Value {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for slice in history.all_live(Kind::EndpointSlice) {
        let service = slice.label("kubernetes.io/service-name").unwrap_or("?").to_owned();
        let all = slice.get("/endpoints").and_then(Value::as_array).cloned().unwrap_or_default();
        let ready = all.iter().filter(|one| one.pointer("/conditions/ready") == Some(&json!(true))).count();
        *counts.entry(service).or_default() += ready;
    }
    json!(counts)
}

/// Returns how often each object of the operator was created and deleted since the start of the run.
pub fn counts(history: &History, namespace: &str) -> Counts {
    let mask = Mask { namespace };
    let mut counts = Counts::new();
    for entry in history.entries().iter().filter(|entry| is_ours(entry) && !entry.listed) {
        let count = counts.entry(format!("{:?} {}", entry.kind, mask.name(entry))).or_default();
        count.0 += usize::from(entry.verb == Verb::Added);
        count.1 += usize::from(entry.verb == Verb::Deleted);
    }
    counts
}

/// Returns the differences between two values, by path. `left` is the expected value.
pub fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut found = vec![];
    compare("", left, right, &mut found);
    found
}

fn compare(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    let empty = Map::new();
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                compare(&format!("{path}/{name}"), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}/{at}"), a, b, found);
            }
        }
        (Value::Object(_), Value::Null) if left.as_object() == Some(&empty) => {}
        (left, right) if left == right => {}
        (left, right) => found.push(format!("{path}: {right} instead of {left}")),
    }
}

#[test]
fn values_that_differ_between_runs_are_masked() {
    assert_eq!(replace("v20260101-101010-abc at", "v########-######-", "v<time>-"), "v<time>-abc at");
    assert_eq!(replace("2026-01-01T10:10:10.123Z.", "####-##-##T##:##:##", "<time>"), "<time>Z.");
    let said = "pod mds-storage-green-7d9d95bf5c-5r4xl: of mds-storage-green; mds-schema-blue-1-x";
    assert_eq!(pods_masked(said), "pod mds-storage-green-<pod>: of mds-storage-green; mds-schema-blue-<pod>");
    assert_eq!(replace("ä1", "##", "x"), "ä1");
    let (a, b) = (json!({"a": [1, {"b": 2}], "c": 1}), json!({"a": [1, {"b": 3}], "d": 1}));
    assert_eq!(
        differences(&a, &b),
        ["/a/1/b: 3 instead of 2", "/c: null instead of 1", "/d: 1 instead of null"]
    );
    assert!(differences(&a, &a).is_empty());
}
