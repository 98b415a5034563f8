//! One line for each request: what was asked, when, and what came of it.

use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Which front Service was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// `<name>-storage`.
    Storage,
    /// `<name>-schema`.
    Schema,
}

/// How it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// By a new connection.
    Fresh,
    /// By a connection that stays open.
    Kept,
    /// By a new connection, for an answer that takes two seconds.
    Slow,
    /// A stream that goes on until the server ends it; its record is its end.
    Stream,
}

/// Who answered.
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
    /// When its outcome was known, in microseconds since 1970.
    pub at: u64,
    /// Which Service.
    pub door: Door,
    /// In which way.
    pub way: Way,
    /// How long it took, in microseconds.
    pub took: u64,
    /// Who answered, or why nobody did.
    pub outcome: Result<Origin, String>,
}

impl Record {
    /// When it was asked, in microseconds since 1970.
    pub fn asked(&self) -> u64 {
        self.at.saturating_sub(self.took)
    }
}

/// What is not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARecord(pub String);

impl Display for NotARecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a record of a request: {}", self.0)
    }
}

impl std::error::Error for NotARecord {}

impl Display for Door {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Storage => "storage",
            Self::Schema => "schema",
        })
    }
}

impl Display for Way {
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

    /// From the four words that the workload answers.
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
        let Self { at, door, way, took, outcome } = self;
        match outcome {
            Ok(origin) => write!(f, "{at} {door} {way} {took} ok {origin}"),
            Err(reason) => write!(f, "{at} {door} {way} {took} failed {}", reason.replace('\n', " ")),
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
        let door = match word()? {
            "storage" => Door::Storage,
            "schema" => Door::Schema,
            _ => return Err(no()),
        };
        let way = match word()? {
            "fresh" => Way::Fresh,
            "kept" => Way::Kept,
            "slow" => Way::Slow,
            "stream" => Way::Stream,
            _ => return Err(no()),
        };
        let took = word()?.parse().map_err(|_| no())?;
        let outcome = match (word()?, word()?) {
            ("ok", origin) => Ok(origin.parse()?),
            ("failed", reason) => Err(reason.to_owned()),
            _ => return Err(no()),
        };
        Ok(Self { at, door, way, took, outcome })
    }
}

/// The machine's clock: microseconds since 1970.
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
        let good = Record { at: 7, door: Door::Storage, way: Way::Kept, took: 3, outcome: Ok(origin) };
        let bad = Record { outcome: Err("connect: refused".into()), door: Door::Schema, ..good.clone() };
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
