//! Results of the records: counts, failures, and the time during which two releases answered.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use crate::record::{FrontService, Record, RequestKind};

/// Maximum number of failures kept in full.
const KEPT: usize = 20;

/// Counts of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    counts: BTreeMap<(FrontService, RequestKind), Count>,
    first_failures: Vec<Record>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    answers: u64,
    failures: u64,
    /// The slowest answer, microseconds.
    slowest: u64,
}

/// The switch of a front Service from one release to another, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The first new connection that the new release answered.
    pub first_new: u64,
    /// The last new connection that the old release answered.
    pub last_old: u64,
}

impl Move {
    /// Returns the time during which both releases answered, in microseconds.
    pub fn mixed(&self) -> u64 {
        self.last_old.saturating_sub(self.first_new)
    }
}

impl Report {
    /// Returns a report of all these records.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut report = Self::default();
        records.into_iter().for_each(|record| report.add(record));
        report
    }

    /// Adds a record.
    pub fn add(&mut self, record: &Record) {
        let count = self.counts.entry((record.front, record.kind)).or_default();
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

    /// Returns the number of answered requests.
    pub fn answers(&self) -> u64 {
        self.counts.values().map(|count| count.answers).sum()
    }

    /// Returns the number of failed requests.
    pub fn failures(&self) -> u64 {
        self.counts.values().map(|count| count.failures).sum()
    }

    /// Returns the first failures, at most twenty.
    pub fn first_failures(&self) -> &[Record] {
        &self.first_failures
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answers, {} failures", self.answers(), self.failures())?;
        for ((front, kind), Count { answers, failures, slowest }) in &self.counts {
            let slowest = slowest / 1000;
            write!(
                f,
                "\n  {front:<7} {kind:<6} {answers:>7} answers {failures:>6} failures, slowest {slowest} ms"
            )?;
        }
        for failure in &self.first_failures {
            write!(f, "\n  {failure}")?;
        }
        Ok(())
    }
}

/// Returns the switch of a front Service's new connections to `release`, for requests between `since` and `until`
/// (microseconds since 1970). None if `release` never answered.
pub fn moved(records: &[Record], front: FrontService, release: &str, since: u64, until: u64) -> Option<Move> {
    let mut first_new: Option<u64> = None;
    let mut last_old: Option<u64> = None;
    for record in records {
        let asked = record.asked();
        if record.front != front || record.kind != RequestKind::Fresh || asked < since || asked > until {
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

    fn record(at: u64, kind: RequestKind, release: &str) -> Record {
        let outcome = match release {
            "" => Err("connect: refused".to_owned()),
            release => Ok(format!("storage {release} blue pod").parse().unwrap()),
        };
        Record { at, front: FrontService::Storage, kind, took: 0, outcome }
    }

    #[test]
    fn failures_are_counted_and_shown() {
        let records = [
            record(1, RequestKind::Fresh, "v1"),
            record(2, RequestKind::Kept, ""),
            record(3, RequestKind::Fresh, ""),
        ];
        let report = Report::of(&records);
        assert_eq!((report.answers(), report.failures()), (1, 2));
        assert!(report.to_string().contains("connect: refused"), "{report}");
    }

    #[test]
    fn a_move_is_seen_by_new_connections_only() {
        let records = [
            record(1, RequestKind::Fresh, "v1"),
            record(5, RequestKind::Fresh, "v2"),
            record(6, RequestKind::Fresh, "v1"),
            record(7, RequestKind::Fresh, "v2"),
            record(9, RequestKind::Kept, "v1"),
        ];
        let seen = moved(&records, FrontService::Storage, "v2", 0, 100).unwrap();
        assert_eq!(seen, Move { first_new: 5, last_old: 6 });
        assert_eq!(seen.mixed(), 1);
        assert_eq!(moved(&records, FrontService::Storage, "v3", 0, 100), None);
        assert_eq!(moved(&records, FrontService::Schema, "v2", 0, 100), None);
    }
}
