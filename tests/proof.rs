//! `docs/proof.md` says by which tests each invariant is checked. This keeps it from saying what is not so.

#![allow(clippy::unwrap_used)] // a test that cannot read its own repository fails

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/proof.md")).unwrap()
}

/// Names in backticks of the form `file#test`; `file` is a path from the root of the repository.
fn references(text: &str) -> Vec<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|quoted| quoted.split_once('#'))
        .map(|(file, test)| (file.to_owned(), test.to_owned()))
        .collect()
}

/// Whether a file defines a test of this name: a function, or a row of a table of tests.
fn defines(file: &Path, test: &str) -> bool {
    let code = fs::read_to_string(file).unwrap_or_default();
    code.contains(&format!("fn {test}("))
        || code.lines().any(|line| line.trim().starts_with(&format!("{test}:")))
}

/// The rows of the table of invariants: the number, and the cells after it.
fn rows(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| I")?.split_once(" |"))
        .map(|(number, rest)| (number.to_owned(), rest.to_owned()))
        .collect()
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let references = references(&page());
    assert!(references.len() > 60, "only {} references: has their form changed?", references.len());
    let missing: Vec<_> =
        references.iter().filter(|(file, test)| !defines(&root().join(file), test)).collect();
    assert!(missing.is_empty(), "docs/proof.md names what is not there: {missing:#?}");
}

#[test]
fn every_invariant_has_one_row_with_a_test_or_a_reason() {
    let text = page();
    let rows = rows(&text);
    let numbers: BTreeSet<&str> = rows.iter().map(|(number, _)| number.as_str()).collect();
    let expected: Vec<String> = (1..=45).map(|number| number.to_string()).collect();
    let missing: Vec<_> = expected.iter().filter(|number| !numbers.contains(number.as_str())).collect();
    assert!(missing.is_empty(), "docs/proof.md has no row for I{missing:?}");
    assert_eq!(rows.len(), 45, "an invariant has two rows");
    for (number, rest) in rows {
        let checked = !references(&rest).is_empty();
        assert!(checked || rest.contains("not checked:"), "I{number} has neither a test nor a reason");
    }
}

/// Whatever breaks a law in the model or the simulator names the invariant; each that the page calls modelled is named
/// by the code that judges it.
#[test]
fn what_is_called_modelled_is_judged_by_the_model() {
    let judges = ["src/rollout/sim/laws.rs", "src/rollout/model/world.rs", "src/rollout/model/drain.rs"];
    let code: String = judges.iter().map(|file| fs::read_to_string(root().join(file)).unwrap()).collect();
    let words: BTreeSet<&str> = code.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for (number, rest) in rows(&page()) {
        let modelled = rest.split('|').nth(1).unwrap_or_default().trim() == "yes";
        let name = format!("I{number}");
        assert!(!modelled || words.contains(name.as_str()), "{name} is called modelled, and no law names it");
    }
}
