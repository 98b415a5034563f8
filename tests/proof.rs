//! `docs/proof.md` names the tests that check each invariant. These tests compare the page with the code.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot read its own repository fails

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use testbed::invariants;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/proof.md")).unwrap()
}

/// Returns the names in backticks of the form `file#test`. `file` is a path from the root of the repository.
fn references(text: &str) -> Vec<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|quoted| quoted.split_once('#'))
        .map(|(file, test)| (file.to_owned(), test.to_owned()))
        .collect()
}

/// Returns whether a file defines a test of this name: a function, or a row of a table of tests.
fn defines(file: &Path, test: &str) -> bool {
    let code = fs::read_to_string(file).unwrap_or_default();
    code.contains(&format!("fn {test}("))
        || code.lines().any(|line| line.trim().starts_with(&format!("{test}:")))
}

/// Returns the rows of the table of invariants: the number, and the cells after it.
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
    let expected: Vec<String> = (1..=46).map(|number| number.to_string()).collect();
    let missing: Vec<_> = expected.iter().filter(|number| !numbers.contains(number.as_str())).collect();
    assert!(missing.is_empty(), "docs/proof.md has no row for I{missing:?}");
    assert_eq!(rows.len(), 46, "an invariant has two rows");
    for (number, rest) in rows {
        let checked = !references(&rest).is_empty();
        assert!(checked || rest.contains("not checked:"), "I{number} has neither a test nor a reason");
    }
}

/// Returns the cells of a column of the table of invariants, by invariant: 1 is M, 2 is W.
fn column(number: usize) -> BTreeMap<String, String> {
    let cell = |rest: &str| rest.split('|').nth(number).unwrap_or_default().trim().to_owned();
    rows(&page()).into_iter().map(|(name, rest)| (format!("I{name}"), cell(&rest))).collect()
}

/// Returns the letters by which the page gives reasons why a column does not check an invariant.
fn reasons() -> BTreeSet<String> {
    let letter = |line: &str| Some(line.strip_prefix("- *")?.split_once("*: ")?.0.to_owned());
    page().lines().filter_map(letter).filter(|letter| letter.len() == 1).collect()
}

/// Invariants that the model must check, by the tags of their specification.
const FOR_MODELS: [usize; 29] = [
    1, 2, 3, 4, 5, 9, 10, 12, 13, 14, 15, 16, 17, 18, 21, 22, 23, 24, 25, 26, 27, 28, 33, 36, 37, 38, 40, 41,
    42,
];
/// Invariants that the invariant checker does not check.
const NOT_FOR_WATCHERS: [usize; 1] = [17];

#[test]
fn what_a_column_does_not_ask_has_a_reason() {
    let reasons = reasons();
    let watchers = (1..=46).filter(|number| !NOT_FOR_WATCHERS.contains(number)).collect();
    for (which, asked) in [(1, FOR_MODELS.to_vec()), (2, watchers)] {
        let cells = column(which);
        for number in asked {
            let cell = &cells[&format!("I{number}")];
            let known = ["yes", "requests"].contains(&cell.as_str()) || reasons.contains(cell);
            assert!(known, "column {which} of I{number} says {cell:?}, and not why");
        }
        let letters = |cell: &String| !["", "yes", "requests"].contains(&cell.as_str());
        let unknown: Vec<_> =
            cells.iter().filter(|(_, cell)| letters(cell) && !reasons.contains(*cell)).collect();
        assert!(unknown.is_empty(), "no such reason: {unknown:?}");
    }
    let used: BTreeSet<String> = [1, 2].into_iter().flat_map(|which| column(which).into_values()).collect();
    assert!(reasons.is_subset(&used), "a reason for nothing: {reasons:?}");
}

/// Returns the invariants that messages of violations name: `"I1, I10: a front Service ...`.
fn laws(code: &str) -> BTreeSet<String> {
    let named = |words: &str| {
        let names = words.split_once(':')?.0.split(", ").map(str::to_owned).collect::<Vec<_>>();
        let is_name =
            |name: &String| name.len() > 1 && name.chars().skip(1).all(|digit| digit.is_ascii_digit());
        names.iter().all(is_name).then_some(names)
    };
    code.split('"').filter_map(named).flatten().collect()
}

/// A violation in the model or the simulator names its invariant. Column M has "yes" exactly for the invariants in these
/// messages.
#[test]
fn what_is_called_modelled_is_judged_by_the_model() {
    let judges = [
        "crates/simulator/src/invariants.rs",
        "crates/simulator/src/public_status.rs",
        "crates/model/src/state_invariants.rs",
        "crates/model/src/run_to_rest.rs",
    ];
    let code: String = judges.iter().map(|file| fs::read_to_string(root().join(file)).unwrap()).collect();
    let laws = laws(&code);
    assert!(laws.len() > 20, "only {laws:?}: has their form changed?");
    for (name, cell) in column(1) {
        assert_eq!(cell == "yes", laws.contains(&name), "{name} says {cell:?} of the model");
    }
}

fn model(file: &str) -> String {
    fs::read_to_string(root().join("crates/model/src").join(file)).unwrap()
}

/// The page lists each guard that a test removes, with the violated invariant, or as redundant.
#[test]
fn every_ablation_is_on_the_page_with_the_law_that_it_breaks() {
    let (code, page) = (model("ablation_cases.rs"), page());
    let guards = code.split_once("guards! {\n").unwrap().1;
    let mut count = 0;
    for (at, check) in
        guards.match_indices(": expect_violation(").chain(guards.match_indices(": expect_redundant("))
    {
        let name = guards[..at].rsplit(char::is_whitespace).next().unwrap();
        let reference = format!("`crates/model/src/ablation_cases.rs#{name}`");
        let row = page.lines().find(|line| line.contains(&reference) && !line.starts_with("| I"));
        let row = row.unwrap_or_else(|| panic!("{name} is not among the guards of the page"));
        if check == ": expect_violation(" {
            let law = guards[at..].split('"').nth(1).unwrap();
            let breaks = row.split('|').nth(2).unwrap_or_default();
            assert!(breaks.contains(law), "{name} breaks {law}, the page says {breaks:?}");
        }
        count += 1;
    }
    assert!(count > 30, "only {count} ablations: has their form changed?");
}

/// The page's tables list the searches of `make model` and `make model-deep`.
#[test]
fn every_search_is_on_the_page() {
    let (code, page) = (model("searches.rs"), page());
    let (quick, deep) = code.split_once("mod quick {").unwrap().1.split_once("mod deep {").unwrap();
    for (searches, head) in [(quick, "| search | what may happen |"), (deep, "| deep search | states |")] {
        let names = searches.lines().filter_map(|line| line.trim().split_once(": Config {"));
        let names: BTreeSet<&str> = names.map(|(name, _)| name).filter(|name| !name.contains(' ')).collect();
        let (_, table) = page.split_once(head).unwrap();
        let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| ")?.split(" |").next());
        assert_eq!(rows.collect::<BTreeSet<_>>(), names, "{head}");
    }
}

/// Column W has "yes" exactly for the invariants that the invariant checker checks at events and at rest, and "requests"
/// for the invariants of requests.
#[test]
fn what_is_called_watched_is_a_rule_of_the_watcher() {
    let events = invariants::INVARIANTS.iter().map(|one| one.name).chain(["I33"]);
    let events: BTreeSet<&str> = events.collect();
    let requests = ["I29", "I40", "I41", "I46"];
    for (name, cell) in column(2) {
        let is = match name.as_str() {
            name if events.contains(name) => "yes",
            name if requests.contains(&name) => "requests",
            _ => "",
        };
        let said = if ["yes", "requests"].contains(&cell.as_str()) { cell.as_str() } else { "" };
        assert_eq!(said, is, "{name} says {cell:?} of the watcher");
    }
}
