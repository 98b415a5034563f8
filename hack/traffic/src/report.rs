//! What can be read off the records: counts, failures, and how long two releases answered side by side.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use crate::record::{Door, Record, Way};

/// How many failures are kept in full.
const KEPT: usize = 20;

/// Counts of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    counts: BTreeMap<(Door, Way), Count>,
    first_failures: Vec<Record>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    answers: u64,
    failures: u64,
    /// The slowest answer, microseconds.
    slowest: u64,
}

/// How the traffic of one door moved from one release to another, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The first new connection that the new release answered.
    pub first_new: u64,
    /// The last new connection that the old release answered.
    pub last_old: u64,
}

impl Move {
    /// How long both releases answered, in microseconds.
    pub fn mixed(&self) -> u64 {
        self.last_old.saturating_sub(self.first_new)
    }
}

impl Report {
    /// A report of all these records.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut report = Self::default();
        records.into_iter().for_each(|record| report.add(record));
        report
    }

    /// Counts one more.
    pub fn add(&mut self, record: &Record) {
        let count = self.counts.entry((record.door, record.way)).or_default();
        count.slowest = count.slowest.max(record.took);
        if record.outcome.is_ok() {
            count.answers += 1;
        } else {
            count.failures += 1;
            if self.first_failures.len() < KEPT {
                self.first_failures.push(record.clone());
            }
        }
    }

    /// How many requests were answered.
    pub fn answers(&self) -> u64 {
        self.counts.values().map(|count| count.answers).sum()
    }

    /// How many requests failed.
    pub fn failures(&self) -> u64 {
        self.counts.values().map(|count| count.failures).sum()
    }

    /// The first failures, twenty at most.
    pub fn first_failures(&self) -> &[Record] {
        &self.first_failures
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answers, {} failures", self.answers(), self.failures())?;
        for ((door, way), Count { answers, failures, slowest }) in &self.counts {
            let slowest = slowest / 1000;
            write!(
                f,
                "\n  {door:<7} {way:<6} {answers:>7} answers {failures:>6} failures, slowest {slowest} ms"
            )?;
        }
        for failure in &self.first_failures {
            write!(f, "\n  {failure}")?;
        }
        Ok(())
    }
}

/// How a door's new connections moved to `release` from any other, looking at those asked from `since` on
/// (microseconds since 1970); none if `release` never answered. Answers after `until` are another matter.
pub fn moved(records: &[Record], door: Door, release: &str, since: u64, until: u64) -> Option<Move> {
    let mut first_new: Option<u64> = None;
    let mut last_old: Option<u64> = None;
    for record in records {
        let asked = record.asked();
        if record.door != door || record.way != Way::Fresh || asked < since || asked > until {
            continue;
        }
        let Ok(origin) = &record.outcome else { continue };
        if origin.release == release {
            first_new = Some(first_new.map_or(asked, |first| first.min(asked)));
        } else {
            last_old = Some(last_old.map_or(asked, |last| last.max(asked)));
        }
    }
    let first_new = first_new?;
    Some(Move { first_new, last_old: last_old.unwrap_or(first_new) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64, way: Way, release: &str) -> Record {
        let outcome = match release {
            "" => Err("connect: refused".to_owned()),
            release => Ok(format!("storage {release} blue pod").parse().unwrap()),
        };
        Record { at, door: Door::Storage, way, took: 0, outcome }
    }

    #[test]
    fn failures_are_counted_and_shown() {
        let records = [record(1, Way::Fresh, "v1"), record(2, Way::Kept, ""), record(3, Way::Fresh, "")];
        let report = Report::of(&records);
        assert_eq!((report.answers(), report.failures()), (1, 2));
        assert!(report.to_string().contains("connect: refused"), "{report}");
    }

    #[test]
    fn a_move_is_seen_by_new_connections_only() {
        let records = [
            record(1, Way::Fresh, "v1"),
            record(5, Way::Fresh, "v2"),
            record(6, Way::Fresh, "v1"),
            record(7, Way::Fresh, "v2"),
            record(9, Way::Kept, "v1"),
        ];
        let seen = moved(&records, Door::Storage, "v2", 0, 100).unwrap();
        assert_eq!(seen, Move { first_new: 5, last_old: 6 });
        assert_eq!(seen.mixed(), 1);
        assert_eq!(moved(&records, Door::Storage, "v3", 0, 100), None);
        assert_eq!(moved(&records, Door::Schema, "v2", 0, 100), None);
    }
}
