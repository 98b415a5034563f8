//! The cases that have run already, so that a long run can be stopped and continued.
//!
//! The file of [`variables::FAULTS_DONE`] gets a line for each case. Its first line is a hash of the operator and of these
//! tests: a run of other binaries ignores and replaces the file.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use testbed::harness::variables;

use crate::SUITE;
use crate::case::Case;
use crate::run::Outcome;

/// The file, if there is one, and its lines by case.
#[derive(Debug, Default)]
pub struct Progress {
    file: Option<PathBuf>,
    lines: BTreeMap<String, String>,
}

impl Progress {
    /// Reads the file.
    pub fn read() -> Self {
        let Some(file) = variables::get(variables::FAULTS_DONE).map(PathBuf::from) else {
            return Self::default();
        };
        let mut hasher = DefaultHasher::new();
        for binary in [SUITE.binary().to_path_buf(), std::env::current_exe().unwrap()] {
            fs::read(binary).unwrap().hash(&mut hasher);
        }
        let head = format!("binaries {:016x}", hasher.finish());
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut progress = Self { file: Some(file), lines: BTreeMap::new() };
        if text.lines().next() == Some(head.as_str()) {
            for line in text.lines().skip(1) {
                let case = line.split(' ').next().unwrap_or_default();
                progress.lines.insert(case.to_owned(), line.to_owned());
            }
        } else {
            progress.append(&head, true);
        }
        progress
    }

    /// Returns whether a case has passed in an earlier run.
    pub fn has(&self, case: &Case) -> bool {
        let well = |line: &String| line.contains(" injected ") && line.ends_with(" 0 violations");
        self.lines.get(&case.to_string()).is_some_and(well)
    }

    /// Adds the line of a case.
    pub fn note(&self, outcome: &Outcome) {
        let Outcome { case, violations, injected, seconds, .. } = outcome;
        let injected = if *injected { "injected" } else { "missed" };
        self.append(&format!("{case} {injected} {seconds:.1} s {} violations", violations.len()), false);
    }

    fn append(&self, line: &str, anew: bool) {
        use std::io::Write;
        let Some(file) = &self.file else { return };
        let mut file =
            fs::OpenOptions::new().create(true).append(!anew).write(true).truncate(anew).open(file).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}
