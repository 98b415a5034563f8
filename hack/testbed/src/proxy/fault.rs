//! The faults that a proxy injects, and their writes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A fault at one write. Its text (`kill-before`, `answer-409`, `delay-1500`) parses to the same fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The client is killed before the write reaches the API server.
    KillBefore,
    /// The client is killed after the API server has carried out the write, before the answer.
    KillAfter,
    /// The API server carries out the write, and the connection breaks before the answer.
    LoseReply,
    /// The connection breaks before the write reaches the API server.
    DropRequest,
    /// The proxy rejects the write with this HTTP status.
    Answer(u16),
    /// The API server carries out the write, but the answer has this HTTP status.
    AnswerAfter(u16),
    /// The proxy delays the write, then forwards it even if the client no longer waits.
    Delay(Duration),
    /// The API server carries out the write, and then some reads break or get a 500.
    FailReads,
    /// All open watches break, then the proxy forwards the write.
    CutWatches,
    /// All open watches stay open without events from this write on.
    StallWatches,
    /// Open watches of other kinds than the resource lose the events of the next seconds.
    LoseEvents,
    /// All open watches report an expired resourceVersion (410) before the proxy forwards the write.
    Expire,
    /// All open watches break, and the next attempt of each gets a 410.
    Forget,
    /// The client is killed before the write. The next client gets the lists of the first client for a while.
    StaleRestart,
    /// The client is killed before the write. The first lists of the next client are delayed, each more than the
    /// previous one.
    SlowRestart,
    /// Another client deletes the resource before the proxy forwards the write.
    Delete,
    /// The write waits in the proxy until the test releases it.
    HoldBefore,
    /// The API server carries out the write. Its answer waits in the proxy until the test releases it.
    HoldAfter,
}

impl Fault {
    /// Returns whether the client is killed.
    pub const fn kills(self) -> bool {
        matches!(self, Self::KillBefore | Self::KillAfter | Self::StaleRestart | Self::SlowRestart)
    }

    /// Returns whether the fault affects later reads or watches of the client, if there are any.
    pub const fn shows_later(self) -> bool {
        self.is_for_watches() || matches!(self, Self::FailReads | Self::StaleRestart | Self::SlowRestart)
    }

    /// Returns whether the fault affects open watches.
    pub const fn is_for_watches(self) -> bool {
        matches!(self, Self::CutWatches | Self::StallWatches | Self::LoseEvents | Self::Expire | Self::Forget)
    }

    /// Returns whether the test must act before the write continues ([`super::Halt`]).
    pub const fn halts(self) -> bool {
        self.kills() || matches!(self, Self::Delete | Self::HoldBefore | Self::HoldAfter)
    }
}

/// The faults without a number.
const NAMED: [(&str, Fault); 15] = [
    ("kill-before", Fault::KillBefore),
    ("kill-after", Fault::KillAfter),
    ("lose-reply", Fault::LoseReply),
    ("drop-request", Fault::DropRequest),
    ("fail-reads", Fault::FailReads),
    ("cut-watches", Fault::CutWatches),
    ("stall-watches", Fault::StallWatches),
    ("lose-events", Fault::LoseEvents),
    ("slow-restart", Fault::SlowRestart),
    ("expire", Fault::Expire),
    ("forget", Fault::Forget),
    ("stale-restart", Fault::StaleRestart),
    ("delete", Fault::Delete),
    ("hold-before", Fault::HoldBefore),
    ("hold-after", Fault::HoldAfter),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(code) => write!(f, "answer-{code}"),
            Self::AnswerAfter(code) => write!(f, "answer-after-{code}"),
            Self::Delay(time) => write!(f, "delay-{}", time.as_millis()),
            named => {
                f.write_str(NAMED.iter().find(|(_, fault)| fault == named).map_or("?", |(name, _)| name))
            }
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, fault)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*fault);
        }
        let unknown = || {
            let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
            format!(
                "unknown fault {text}; use {}, answer-<code>, answer-after-<code> or delay-<milliseconds>",
                names.join(", ")
            )
        };
        let (kind, number) = text.rsplit_once('-').ok_or_else(unknown)?;
        let code = || number.parse().map_err(|_| unknown());
        match kind {
            "answer" => Ok(Self::Answer(code()?)),
            "answer-after" => Ok(Self::AnswerAfter(code()?)),
            "delay" => Ok(Self::Delay(Duration::from_millis(number.parse().map_err(|_| unknown())?))),
            _ => Err(unknown()),
        }
    }
}

/// The faults of a run. Each is injected once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Faults by the number of the write, from 1.
    pub writes: BTreeMap<usize, Fault>,
}

impl Plan {
    /// Returns a plan with one fault.
    pub fn on_write(number: usize, fault: Fault) -> Self {
        Self { writes: BTreeMap::from([(number, fault)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_fault_reads_back() {
        let numbered =
            [Fault::Answer(409), Fault::AnswerAfter(504), Fault::Delay(Duration::from_millis(1500))];
        for fault in NAMED.into_iter().map(|(_, fault)| fault).chain(numbered) {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for wrong in ["kill", "answer-x", "kill-now", ""] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
