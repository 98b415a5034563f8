//! What may go wrong, and at which write.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A fault at one write. Its text (`kill-before`, `answer-409`, `delay-1500`) reads back as the same fault.
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
    /// The write is carried out, and from then on some reads are answered with 500 or cut.
    FailReads,
    /// All open watches break, then the write is carried out.
    CutWatches,
    /// All open watches stay open and are silent from before this write on.
    StallWatches,
    /// Open watches of everything but the resource lose what happens in the next seconds, and go on as if nothing were.
    LoseEvents,
    /// All open watches say that their place is too old (410) before the write is carried out.
    Expire,
    /// All open watches break, and each is told 410 when it wants to go on where it was.
    Forget,
    /// The client dies before the write; the next one is shown, for a while, the lists that the first one began with.
    StaleRestart,
    /// The client dies before the write; the first lists of the next one are late, each later than the one before.
    SlowRestart,
    /// What the client works for is deleted by somebody before the write is carried out.
    Delete,
    /// The write waits in the proxy until whoever plays lets it go.
    HoldBefore,
    /// The write is carried out; its answer waits in the proxy until whoever plays lets it go.
    HoldAfter,
}

impl Fault {
    /// Whether the client is to be killed.
    pub const fn kills(self) -> bool {
        matches!(self, Self::KillBefore | Self::KillAfter | Self::StaleRestart | Self::SlowRestart)
    }

    /// Whether it has its effect on what the client reads or watches later, if it does.
    pub const fn is_felt_later(self) -> bool {
        self.is_for_watches() || matches!(self, Self::FailReads | Self::StaleRestart | Self::SlowRestart)
    }

    /// Whether it happens to the watches that are open.
    pub const fn is_for_watches(self) -> bool {
        matches!(self, Self::CutWatches | Self::StallWatches | Self::LoseEvents | Self::Expire | Self::Forget)
    }

    /// Whether whoever plays has to do something before the write goes on ([`super::Halt`]).
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
