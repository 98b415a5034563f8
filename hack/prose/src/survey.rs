//! Reads the repository and reports.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::areas::{Area, ROOTS, prose};
use crate::rules::{Finding, Kind, judge};

/// Folders that hold no prose of the house: build results, golden files, test data, generated files of a chart.
const SKIPPED: [&str; 4] = ["target", "golden", "data", "files"];

/// A finding and its place.
#[derive(Debug)]
struct Place {
    area: Area,
    path: String,
    finding: Finding,
}

/// Words and findings of the repository.
#[derive(Debug, Default)]
pub struct Survey {
    words: BTreeMap<Area, usize>,
    places: Vec<Place>,
}

impl Survey {
    /// Reads the prose below `root`, of the files whose path contains one of `selected`, or of all if that is empty.
    ///
    /// # Errors
    ///
    /// If a folder or file cannot be read.
    pub fn read(root: &Path, selected: &[String]) -> io::Result<Self> {
        let mut survey = Self::default();
        for path in files(root)? {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            let is_selected = selected.is_empty() || selected.iter().any(|part| name.contains(part.as_str()));
            if !is_selected {
                continue;
            }
            // A file that is not UTF-8 has no prose.
            if let Ok(source) = String::from_utf8(fs::read(&path)?) {
                survey.add(&name, &source);
            }
        }
        Ok(survey)
    }

    /// Adds a file. `path` is relative to the root of the repository.
    pub fn add(&mut self, path: &str, source: &str) {
        for (area, paragraph) in prose(path, source) {
            let (words, findings) = judge(&paragraph);
            *self.words.entry(area).or_default() += words;
            self.places.extend(findings.into_iter().map(|finding| Place {
                area,
                path: path.to_owned(),
                finding,
            }));
        }
    }

    /// Returns the findings of a kind per 1,000 words of an area.
    #[must_use]
    pub fn rate(&self, area: Area, kind: Kind) -> f64 {
        let is_counted = |place: &&Place| place.area == area && place.finding.kind == kind;
        let count = u32::try_from(self.places.iter().filter(is_counted).count()).unwrap_or(u32::MAX);
        let words = u32::try_from(self.words.get(&area).copied().unwrap_or(0)).unwrap_or(u32::MAX);
        1000.0 * f64::from(count) / f64::from(words.max(1))
    }

    /// Returns the areas that are above a limit, with the kinds.
    #[must_use]
    pub fn excesses(&self) -> Vec<(Area, Kind)> {
        let all = Area::ALL.into_iter().flat_map(|area| Kind::ALL.map(|kind| (area, kind)));
        all.filter(|(area, kind)| self.rate(*area, *kind) > area.limit(*kind)).collect()
    }

    /// Returns a table of the areas: words, and the rate of each kind with its limit.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!("{:34} {:>7}", "findings per 1,000 words (limit)", "words");
        for kind in Kind::ALL {
            let _ = write!(table, " {:>14}", format!("{}s", kind.as_str()));
        }
        for area in Area::ALL {
            let words = self.words.get(&area).copied().unwrap_or(0);
            let _ = write!(table, "\n{:34} {words:>7}", area.as_str());
            for kind in Kind::ALL {
                let cell = format!("{:.1} ({:.1})", self.rate(area, kind), area.limit(kind));
                let _ = write!(table, " {cell:>14}");
            }
        }
        table
    }

    /// Returns the `count` lines with the most findings that `is_shown` accepts, as `file:line: kind "words"`.
    #[must_use]
    pub fn worst(&self, count: usize, is_shown: impl Fn(Area, Kind) -> bool) -> Vec<String> {
        let mut lines: BTreeMap<(&str, usize), Vec<String>> = BTreeMap::new();
        for Place { area, path, finding } in &self.places {
            if is_shown(*area, finding.kind) {
                let found = format!("{} \"{}\"", finding.kind.as_str(), finding.words);
                lines.entry((path, finding.line)).or_default().push(found);
            }
        }
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort_by_key(|(_, found)| std::cmp::Reverse(found.len()));
        let show = |((path, line), found): ((&str, usize), Vec<String>)| {
            format!("{path}:{line}: {}", found.join(", "))
        };
        lines.into_iter().take(count).map(show).collect()
    }
}

fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut open: Vec<PathBuf> =
        ROOTS.iter().map(|name| root.join(name)).filter(|path| path.exists()).collect();
    while let Some(path) = open.pop() {
        if !path.is_dir() {
            found.push(path);
            continue;
        }
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey() -> Survey {
        let mut survey = Survey::default();
        survey.add("README.md", "What is told.\nA plain line, told once.\n\n```\nwhat is code\n```\n");
        survey
    }

    #[test]
    fn rates_are_per_thousand_words() {
        let rate = survey().rate(Area::Front, Kind::Idiom);
        assert!((rate - 250.0).abs() < 0.001, "{rate}");
        assert!(survey().rate(Area::Docs, Kind::Idiom).abs() < f64::EPSILON);
    }

    #[test]
    fn an_area_above_its_limit_is_an_excess() {
        assert_eq!(survey().excesses(), Kind::ALL.map(|kind| (Area::Front, kind)));
        assert!(Survey::default().excesses().is_empty());
    }

    #[test]
    fn the_worst_lines_come_first() {
        let expected = [
            "README.md:1: clause \"what is\", start \"what\", idiom \"told\"",
            "README.md:2: idiom \"told\"",
        ];
        assert_eq!(survey().worst(20, |_, _| true), expected);
        assert_eq!(survey().worst(1, |_, kind| kind == Kind::Idiom).len(), 1);
    }

    #[test]
    fn the_table_has_a_line_for_each_area() {
        assert_eq!(survey().table().lines().count(), 1 + Area::ALL.len());
    }
}
