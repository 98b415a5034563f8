//! The record of a request: time, kind and result, in one line.

use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A front Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontService {
    /// `<name>-storage`.
    Storage,
    /// `<name>-schema`.
    Schema,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// A new connection.
    Fresh,
    /// An open connection.
    Kept,
    /// A new connection, and an answer that takes two seconds.
    Slow,
    /// A stream that the server ends. The record describes the end.
    Stream,
}

/// The origin of an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Storage or schema.
    pub component: String,
    /// The release's version.
    pub release: String,
    /// The pods' color.
    pub color: String,
    /// The pod.
    pub pod: String,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The time of its end, in microseconds since 1970.
    pub at: u64,
    /// The front Service.
    pub front: FrontService,
    /// The kind.
    pub kind: RequestKind,
    /// The duration in microseconds.
    pub took: u64,
    /// The origin of the answer, or the reason of the failure.
    pub outcome: Result<Origin, String>,
}

impl Record {
    /// Returns the start of the request, in microseconds since 1970.
    pub fn asked(&self) -> u64 {
        self.at.saturating_sub(self.took)
    }
}

/// A line that is not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARecord(pub String);

impl Display for NotARecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a record of a request: {}", self.0)
    }
}

impl std::error::Error for NotARecord {}

impl Display for FrontService {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Storage => "storage",
            Self::Schema => "schema",
        })
    }
}

impl Display for RequestKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Fresh => "fresh",
            Self::Kept => "kept",
            Self::Slow => "slow",
            Self::Stream => "stream",
        })
    }
}

impl FromStr for Origin {
    type Err = NotARecord;

    /// Parses the four words of an answer of the workload.
    fn from_str(text: &str) -> Result<Self, NotARecord> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [component, release, color, pod] => Ok(Self {
                component: (*component).to_owned(),
                release: (*release).to_owned(),
                color: (*color).to_owned(),
                pod: (*pod).to_owned(),
            }),
            _ => Err(NotARecord(text.to_owned())),
        }
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.component, self.release, self.color, self.pod)
    }
}

impl Display for Record {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { at, front, kind, took, outcome } = self;
        match outcome {
            Ok(origin) => write!(f, "{at} {front} {kind} {took} ok {origin}"),
            Err(reason) => write!(f, "{at} {front} {kind} {took} failed {}", reason.replace('\n', " ")),
        }
    }
}

impl FromStr for Record {
    type Err = NotARecord;

    fn from_str(line: &str) -> Result<Self, NotARecord> {
        let no = || NotARecord(line.to_owned());
        let mut words = line.trim_end().splitn(6, ' ');
        let mut word = || words.next().ok_or_else(no);
        let at = word()?.parse().map_err(|_| no())?;
        let front = match word()? {
            "storage" => FrontService::Storage,
            "schema" => FrontService::Schema,
            _ => return Err(no()),
        };
        let kind = match word()? {
            "fresh" => RequestKind::Fresh,
            "kept" => RequestKind::Kept,
            "slow" => RequestKind::Slow,
            "stream" => RequestKind::Stream,
            _ => return Err(no()),
        };
        let took = word()?.parse().map_err(|_| no())?;
        let outcome = match (word()?, word()?) {
            ("ok", origin) => Ok(origin.parse()?),
            ("failed", reason) => Err(reason.to_owned()),
            _ => return Err(no()),
        };
        Ok(Self { at, front, kind, took, outcome })
    }
}

/// Returns the machine's time in microseconds since 1970.
#[allow(
    clippy::disallowed_methods,
    reason = "records of several processes are compared by the machine's clock"
)]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_being_written() {
        let origin: Origin = "storage v1 blue pod-1".parse().unwrap();
        let good = Record {
            at: 7,
            front: FrontService::Storage,
            kind: RequestKind::Kept,
            took: 3,
            outcome: Ok(origin),
        };
        let bad =
            Record { outcome: Err("connect: refused".into()), front: FrontService::Schema, ..good.clone() };
        for record in [good, bad] {
            assert_eq!(record.to_string().parse(), Ok(record));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["", "x storage kept 1 ok a b c d", "1 door kept 1 ok a b c d", "1 schema kept 1 ok a b"]
        {
            assert!(line.parse::<Record>().is_err(), "{line}");
        }
    }
}
