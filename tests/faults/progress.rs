//! What has been run already, so that a long run can be stopped and taken up again.
//!
//! `E6_FAULTS_DONE` names a file that gets a line for each case. Its first line is the fingerprint of the operator and of
//! these tests: a run with others begins anew.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use crate::bench::operator;
use crate::case::Case;
use crate::run::Outcome;

/// The file, if one is asked for, and the cases in it that went well.
#[derive(Debug, Default)]
pub struct Progress {
    file: Option<PathBuf>,
    lines: BTreeMap<String, String>,
}

impl Progress {
    /// Reads the file.
    pub fn read() -> Self {
        let Some(file) = std::env::var_os("E6_FAULTS_DONE").map(PathBuf::from) else {
            return Self::default();
        };
        let mut hasher = DefaultHasher::new();
        for binary in [operator(), std::env::current_exe().unwrap()] {
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

    /// Whether a case went well in this or an earlier run.
    pub fn has(&self, case: &Case) -> bool {
        let well = |line: &String| line.contains(" struck ") && line.ends_with(" 0 violations");
        self.lines.get(&case.to_string()).is_some_and(well)
    }

    /// Notes how a case went.
    pub fn note(&self, outcome: &Outcome) {
        let Outcome { case, violations, struck, seconds, .. } = outcome;
        let struck = if *struck { "struck" } else { "missed" };
        self.append(&format!("{case} {struck} {seconds:.1} s {} violations", violations.len()), false);
    }

    fn append(&self, line: &str, anew: bool) {
        use std::io::Write;
        let Some(file) = &self.file else { return };
        let mut file =
            fs::OpenOptions::new().create(true).append(!anew).write(true).truncate(anew).open(file).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}
