//! The invariants of everything that a [`crate::Timeline`] recorded.
//!
//! Their names (I1, I2 ...) are those of `docs/invariants.md`. Each is checked at every event, in the order of the
//! API server, so at every state that ever existed. Scenarios, faults and the demo use the same checks. [`Waived`]
//! lists the external changes of a test, which the checks ignore.

mod api_requests;
mod history_state;
mod objects;
#[cfg(test)]
mod request_tests;
mod statuses;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

pub use self::api_requests::{Call, RequestKind, deletes_of_unstamped, live_reads, writes_changed_something};
pub(crate) use self::history_state::Selection;
pub use self::history_state::{is_ours, is_terminating};
pub use self::objects::at_rest;

use self::history_state::HistoryState;
use crate::history::{Entry, History};

/// The two components of a release.
pub const COMPONENTS: [&str; 2] = ["storage", "schema"];
/// The two colors.
pub const COLORS: [&str; 2] = ["blue", "green"];

/// The external changes of a test, which the checks ignore.
#[derive(Clone, Debug, Default)]
pub struct Waived {
    /// Names of the objects that the test changes or deletes.
    pub objects: Vec<String>,
    /// The test deletes the status, or replaces it by an older one.
    pub status: bool,
    /// The test changes or deletes ControllerRevisions.
    pub records: bool,
    /// Maximum delay of a write of the operator. The write may arrive so long after the deletion of the resource.
    pub late_writes: Duration,
}

impl Waived {
    /// Returns whether a delayed write may arrive after this number of seconds.
    fn is_late(&self, seconds: f64) -> bool {
        !self.late_writes.is_zero() && seconds <= self.late_writes.as_secs_f64()
    }

    /// Returns whether the checks ignore an object.
    pub fn has(&self, name: &str) -> bool {
        self.objects.iter().any(|known| known == name)
    }
}

/// A violated invariant, and the place of the violation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The name of the invariant, such as `I1`.
    pub invariant: &'static str,
    /// The description of the violation.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

/// An invariant that is checked at every event.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// The name in `docs/invariants.md`, such as `I1`.
    pub name: &'static str,
    /// The statement in one sentence.
    pub statement: &'static str,
    check: fn(&Moment<'_>) -> Vec<String>,
}

/// An event, and the state after it.
struct Moment<'a> {
    state: &'a HistoryState<'a>,
    entry: &'a Entry,
    /// The object before the event. None if the event created it.
    before: Option<&'a Entry>,
    waived: &'a Waived,
}

const fn invariant(
    name: &'static str,
    statement: &'static str,
    check: fn(&Moment<'_>) -> Vec<String>,
) -> Invariant {
    Invariant { name, statement, check }
}

/// Invariants that are checked at every event. I33 is checked at rest ([`at_rest`]). I41 and I29 are checked for requests
/// ([`live_reads`], [`writes_changed_something`]).
pub const INVARIANTS: [Invariant; 26] = [
    invariant(
        "I1",
        "each front selects none, or a color whose Deployment is there and of its release",
        traffic::routed,
    ),
    invariant("I2", "a selector changes only to Deployments that were complete", traffic::to_the_complete),
    invariant("I3", "no selector changes to a release that is marked Failed", traffic::not_to_the_failed),
    invariant("I4", "while the fronts differ nothing is created or deleted", traffic::no_change_while_apart),
    invariant("I4", "what a front says is what a status has decided", traffic::decided),
    invariant("I5", "a selector changes by decisions, once forth and once back in a rollout", traffic::moves),
    invariant("I6", "a Deployment's replicas are not lowered below what is asked for", objects::replicas),
    invariant("I7", "selectors are whole", objects::selectors),
    invariant("I8", "the fronts stay, with UID and clusterIP", objects::identity),
    invariant(
        "I9",
        "a color goes only in Prune, when both fronts carry the decision",
        traffic::deleted_in_prune,
    ),
    invariant("I9", "a color that had traffic goes only after proof and delay", traffic::deleted_when_proved),
    invariant("I10", "in Prune no selector changes to the losing color", traffic::not_back_in_prune),
    invariant("I11", "what a release fixes never changes in place", objects::fixed),
    invariant("I12", "only the machine's edges occur", statuses::edges),
    invariant("I13", "epochs never fall, in the status and on the fronts", statuses::epochs),
    invariant("I14", "the history is short, unique, and in order", statuses::history),
    invariant("I15", "at most one release is Active, exactly one in Stable", statuses::active),
    invariant("I16", "in Stable the fronts carry the decision, and what is Active", statuses::serving),
    invariant("I17", "no Active and no Pending record is dropped", statuses::trimmed),
    invariant(
        "I18",
        "a failed release is Pending again only when asked for, and none is Pending in Stable",
        statuses::retried,
    ),
    invariant("I18", "when Prune is left, the record of what failed says so", statuses::marked),
    invariant("I19", "no generation is observed before it exists", statuses::observed),
    invariant("I20", "the status is at most 16 KiB", statuses::size),
    invariant(
        "I28",
        "nothing is created and no selector changes once the resource is being deleted",
        objects::left_alone,
    ),
    invariant("I32", "what is created has the resource as its controller, and an epoch", objects::owned),
    invariant("I32", "objects of others are not taken", objects::not_taken),
];

/// Checks every invariant at every event of a history, which may contain many resources in many namespaces. Returns
/// each violation once, with the place of its first occurrence.
pub fn check(history: &History, waived: &Waived) -> Vec<Violation> {
    let mut state = HistoryState::new(history);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (index, entry) in history.entries().iter().enumerate() {
        let before = state.take(index, entry);
        let moment = Moment { state: &state, entry, before, waived };
        for invariant in &INVARIANTS {
            for text in (invariant.check)(&moment) {
                if seen.insert((invariant.name, text.clone())) {
                    found.push(Violation { invariant: invariant.name, text: at(entry, &text) });
                }
            }
        }
    }
    found
}

/// Returns the text of a violation with its place.
fn at(entry: &Entry, text: &str) -> String {
    let Entry { namespace, resource_version, at, .. } = entry;
    format!("{text} ({namespace}, at {resource_version}, {:.2} s)", at.as_secs_f64())
}
