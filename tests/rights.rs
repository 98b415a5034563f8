//! Least privilege: the scenarios used all rights of the shipped roles, and the API server refused none of their requests.
//! Run this test after them: `cargo test --test scenarios && cargo test --test rights -- --ignored`.

// A test fails by unwrapping, indexing or panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Rights that no request of the operator uses. In some clusters the admission plugin OwnerReferencesPermissionEnforcement
/// checks them when an owner reference blocks the deletion of the owner.
const ASKED_BY_ADMISSION: &[&str] = &["update e6data.io metadataservices/finalizers"];

fn granted() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rbac/role.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let words = |rule: &Value, key: &str| -> Vec<String> {
        rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in documents.iter().filter_map(|document| document["rules"].as_array()).flatten() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                all.extend(words(rule, "verbs").iter().map(|verb| format!("{verb} {group} {resource}")));
            }
        }
    }
    all
}

#[test]
#[ignore = "reads what the scenarios left: run them first"]
fn every_right_is_used_and_none_is_missing() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rights");
    let files = std::fs::read_dir(&dir)
        .unwrap_or_else(|_| panic!("run the scenarios first: cargo test --test scenarios"));
    let used: BTreeSet<String> = files
        .flat_map(|entry| {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let granted = granted();
    let unused: Vec<_> =
        granted.difference(&used).filter(|right| !ASKED_BY_ADMISSION.contains(&right.as_str())).collect();
    let missing: Vec<_> = used.difference(&granted).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:#?}");
    assert!(missing.is_empty(), "used and not granted: {missing:#?}");
    assert!(!used.iter().any(|right| right.contains("secrets")));
}
