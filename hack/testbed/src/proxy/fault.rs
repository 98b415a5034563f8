//! What may go wrong with a write, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A fault of one write. Its text (`kill-before`, `answer-409`, `delay-1500`) reads back as the same fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The client dies before the write reaches the API server.
    KillBefore,
    /// The client dies after the API server has carried out the write, before it hears of it.
    KillAfter,
    /// The write is carried out, the connection breaks before the answer.
    LoseReply,
    /// The connection breaks before the write reaches the API server.
    DropRequest,
    /// The write is not carried out; the answer has this HTTP status.
    Answer(u16),
    /// The write is carried out, but the answer has this HTTP status.
    AnswerAfter(u16),
    /// The write is held up this long, and then carried out whether or not the client still waits.
    Delay(Duration),
}

impl Fault {
    /// Whether the client is to be killed.
    pub const fn kills(self) -> bool {
        matches!(self, Self::KillBefore | Self::KillAfter)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillBefore => f.write_str("kill-before"),
            Self::KillAfter => f.write_str("kill-after"),
            Self::LoseReply => f.write_str("lose-reply"),
            Self::DropRequest => f.write_str("drop-request"),
            Self::Answer(code) => write!(f, "answer-{code}"),
            Self::AnswerAfter(code) => write!(f, "answer-after-{code}"),
            Self::Delay(time) => write!(f, "delay-{}", time.as_millis()),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "unknown fault {text}; use kill-before, kill-after, lose-reply, drop-request, answer-<code>, \
                 answer-after-<code> or delay-<milliseconds>"
            )
        };
        let (kind, number) = text.rsplit_once('-').ok_or_else(unknown)?;
        let code = || number.parse().map_err(|_| unknown());
        match (kind, number) {
            ("kill", "before") => Ok(Self::KillBefore),
            ("kill", "after") => Ok(Self::KillAfter),
            ("lose", "reply") => Ok(Self::LoseReply),
            ("drop", "request") => Ok(Self::DropRequest),
            ("answer", _) => Ok(Self::Answer(code()?)),
            ("answer-after", _) => Ok(Self::AnswerAfter(code()?)),
            ("delay", _) => Ok(Self::Delay(Duration::from_millis(number.parse().map_err(|_| unknown())?))),
            _ => Err(unknown()),
        }
    }
}

/// The faults of a run: each strikes once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Faults by the number of the write, which counts from 1.
    pub writes: BTreeMap<usize, Fault>,
}

impl Plan {
    /// One fault on the n-th write.
    pub fn on_write(number: usize, fault: Fault) -> Self {
        Self { writes: BTreeMap::from([(number, fault)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_fault_reads_back() {
        let all = [
            Fault::KillBefore,
            Fault::KillAfter,
            Fault::LoseReply,
            Fault::DropRequest,
            Fault::Answer(409),
            Fault::AnswerAfter(504),
            Fault::Delay(Duration::from_millis(1500)),
        ];
        for fault in all {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for wrong in ["kill", "answer-x", "kill-now", ""] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
