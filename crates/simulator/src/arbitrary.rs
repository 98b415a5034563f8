//! Random specs and statuses, generated from the schema of the CRD. They include every value that the schema accepts,
//! also values that the CEL rules reject. A new field of the schema is included automatically.

use std::sync::LazyLock;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use api::crd::{crd, schema_of};

/// Returns random specs as JSON.
pub fn spec() -> BoxedStrategy<Value> {
    within(part("spec"), &[])
}

/// Returns random statuses as JSON. Half of their texts are taken from `words`, so that fields refer to each other.
pub fn status(words: &[&str]) -> BoxedStrategy<Value> {
    within(part("status"), words)
}

/// Returns the schema of a part of the resource.
pub fn part(name: &str) -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema_of(&crd()).unwrap());
    &SCHEMA["properties"][name]
}

/// Returns any JSON value, with texts from `words`.
pub fn json_of(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::from),
        text(words, 12).prop_map(Value::from),
        (-1e12..1e12_f64).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let key = text(words, 6);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Returns integers, with the limits at which sums overflow.
pub fn number() -> BoxedStrategy<i64> {
    prop_oneof![
        4 => -2..12_i64,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, i64::from(i32::MAX), i64::from(i32::MIN), 1 << 53]),
    ]
    .boxed()
}

/// Returns values that fit a structural schema.
fn within(schema: &Value, words: &[&str]) -> BoxedStrategy<Value> {
    let flag = |name: &str| schema[name] == json!(true);
    if flag("x-kubernetes-int-or-string") {
        let quantity = schema.get("pattern").is_some();
        let texts = if quantity { "[1-9][0-9]{0,3}(m|Mi|Gi)?" } else { "[a-z]{1,8}|[1-9][0-9]?%" };
        return prop_oneof![(0..1000_i64).prop_map(Value::from), texts.prop_map(Value::from)].boxed();
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return prop::sample::select(values.clone()).boxed();
    }
    match schema["type"].as_str().unwrap_or("object") {
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" if schema["format"] == "int32" => {
            prop_oneof![4 => -2..12_i32, 1 => any::<i32>()].prop_map(Value::from).boxed()
        }
        "integer" => number().prop_map(Value::from).boxed(),
        "number" => (-1e6..1e6_f64).prop_map(Value::from).boxed(),
        "string" if schema["format"] == "date-time" => time().prop_map(Value::from).boxed(),
        "string" => {
            let most = schema["maxLength"].as_u64().unwrap_or(64).min(12);
            text(words, usize::try_from(most).unwrap()).prop_map(Value::from).boxed()
        }
        "array" => vec(within(&schema["items"], words), 0..3).prop_map(Value::from).boxed(),
        _ => object(schema, words),
    }
}

fn object(schema: &Value, words: &[&str]) -> BoxedStrategy<Value> {
    if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
        let key = "[a-zA-Z][a-zA-Z0-9._-]{0,8}";
        return btree_map(key, within(values, words), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
            .boxed();
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let fields: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    let known: Vec<_> = fields
        .into_iter()
        .map(|(name, field)| {
            let (name, value) = (name.clone(), within(field, words));
            let always = required.contains(&json!(name));
            let value = if always {
                value.prop_map(Some).boxed()
            } else {
                prop::option::weighted(0.4, value).boxed()
            };
            value.prop_map(move |value| value.map(|value| (name.clone(), value))).boxed()
        })
        .collect();
    let free = schema["x-kubernetes-preserve-unknown-fields"] == json!(true);
    let more =
        if free { btree_map("[a-z]{1,6}", json_of(&[]), 0..3).boxed() } else { Just([].into()).boxed() };
    (more, known)
        .prop_map(|(more, known)| {
            Value::Object(more.into_iter().chain(known.into_iter().flatten()).collect::<Map<_, _>>())
        })
        .boxed()
}

fn text(words: &[&str], most: usize) -> BoxedStrategy<String> {
    let any = prop_oneof![3 => "[a-zA-Z0-9_.-]{1,12}", 1 => "\\PC{1,8}"]
        .prop_map(move |text| text.chars().take(most).collect::<String>());
    if words.is_empty() {
        return any.boxed();
    }
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    prop_oneof![prop::sample::select(words), any].boxed()
}

/// Returns times near the start of the simulator, and times at the limits of the format.
fn time() -> BoxedStrategy<String> {
    let near = (-9_000..9_000_i64)
        .prop_map(|seconds| jiff::Timestamp::from_second(1_790_000_000 + seconds).unwrap().to_string());
    let far =
        prop::sample::select(vec!["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-30T22:00:00Z"]);
    prop_oneof![4 => near, 1 => far.prop_map(str::to_owned)].boxed()
}

/// A change of one place in a value.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Replaces the value.
    Put(Value),
    /// Replaces the value by the value of another place.
    Copy(Index),
    /// Removes the value.
    Cut,
}

/// Returns random changes that another client may make, with texts from `words`.
pub fn edit(words: &'static [&'static str]) -> impl Strategy<Value = (Index, Edit)> {
    let value = prop_oneof![
        3 => text(words, 12).prop_map(Value::from),
        1 => number().prop_map(Value::from),
        1 => number().prop_map(|number| number.to_string().into()),
        1 => time().prop_map(Value::from),
        1 => json_of(words),
    ];
    let edit = prop_oneof![
        4 => value.prop_map(Edit::Put),
        2 => any::<Index>().prop_map(Edit::Copy),
        1 => Just(Edit::Cut),
    ];
    (any::<Index>(), edit)
}

/// Changes a value at one of the allowed places.
pub fn change(value: &mut Value, (at, edit): &(Index, Edit), may: impl Fn(&str) -> bool) {
    let mut all = vec![];
    places(value, "", &mut all);
    all.retain(|path| may(path));
    if all.is_empty() {
        return;
    }
    let path = at.get(&all);
    let put = match edit {
        Edit::Put(value) => Some(value.clone()),
        Edit::Copy(from) => value.pointer(from.get(&all).as_str()).cloned(),
        Edit::Cut => None,
    };
    if let Some(put) = put {
        *value.pointer_mut(path).unwrap() = put;
        return;
    }
    let (parent, name) = path.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.remove(&name.replace("~1", "/"))),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        _ => {}
    }
}

/// Collects the places of a value as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            let named = map.iter().filter(|(name, _)| !name.contains('~'));
            named.map(|(name, child)| (name.replace('/', "~1"), child)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(at, child)| (at.to_string(), child)).collect(),
        _ => vec![],
    };
    for (name, child) in children {
        let path = format!("{at}/{name}");
        found.push(path.clone());
        places(child, &path, found);
    }
}
