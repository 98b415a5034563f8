//! The prose of the repository keeps the limits of its areas.

#![allow(clippy::unwrap_used)] // a test that cannot read its own repository fails

use std::path::Path;

use prose::survey::Survey;

#[test]
fn no_area_is_above_a_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let survey = Survey::read(&root, &[]).unwrap();
    let excesses = survey.excesses();
    let worst = survey.worst(20, |area, kind| excesses.contains(&(area, kind))).join("\n");
    assert!(
        excesses.is_empty(),
        "above a limit of hack/prose/src/areas.rs: {excesses:?}\n{}\n\n{worst}\n\n\
        Remedy: rewrite these lines by the rules in CONTRIBUTING.md",
        survey.table()
    );
}
