//! The watcher: what must be true of everything that a [`crate::Timeline`] has seen, whatever was done meanwhile.
//!
//! The rules bear the names (I1, I2 ...) of the specification of invariants. They are asked at every event, in the
//! order in which the API server made them, so at every state there ever was. Scenarios, faults and the demo share
//! them; what another hand did on purpose is named in [`Waived`].

mod objects;
mod records;
mod requests;
#[cfg(test)]
mod tests;
mod traffic;
mod world;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

pub use self::objects::at_rest;
pub use self::requests::{Act, Call, live_reads, writes_changed_something};
pub use self::world::{is_ours, is_terminating};

use self::world::World;
use crate::history::{Entry, History};

/// The two components of a release.
pub const COMPONENTS: [&str; 2] = ["storage", "schema"];
/// The two colors.
pub const COLORS: [&str; 2] = ["blue", "green"];

/// What another hand did in a history, and the watcher overlooks.
#[derive(Clone, Debug, Default)]
pub struct Waived {
    /// Objects that another hand changed or deleted, by name.
    pub objects: Vec<String>,
    /// Another hand took the status away, or replaced it by an older one.
    pub status: bool,
    /// Another hand changed or deleted ControllerRevisions.
    pub records: bool,
    /// How long a write of the operator was held up on its way: so late it may land after the resource's deletion.
    pub late_writes: Duration,
}

impl Waived {
    /// Whether a write may have been under way for so many seconds.
    fn is_late(&self, seconds: f64) -> bool {
        !self.late_writes.is_zero() && seconds <= self.late_writes.as_secs_f64()
    }

    /// Whether an object is overlooked.
    pub fn has(&self, name: &str) -> bool {
        self.objects.iter().any(|known| known == name)
    }
}

/// A rule that is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

/// A rule of the watcher.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What is asked, in a sentence.
    pub says: &'static str,
    check: fn(&Moment<'_>) -> Vec<String>,
}

/// One event, with the world as it is after it.
struct Moment<'a> {
    world: &'a World<'a>,
    entry: &'a Entry,
    /// The object before; `None` when it came to be.
    before: Option<&'a Entry>,
    waived: &'a Waived,
}

const fn rule(invariant: &'static str, says: &'static str, check: fn(&Moment<'_>) -> Vec<String>) -> Rule {
    Rule { invariant, says, check }
}

/// What is asked at every event. A further rule is asked at rest ([`at_rest`], I33), and two of requests
/// ([`live_reads`], I41; [`writes_changed_something`], I29).
pub const RULES: [Rule; 26] = [
    rule(
        "I1",
        "each front selects none, or a color whose Deployment is there and of its release",
        traffic::routed,
    ),
    rule("I2", "a selector changes only to Deployments that were complete", traffic::to_the_complete),
    rule("I3", "no selector changes to a release that is marked Failed", traffic::not_to_the_failed),
    rule("I4", "while the fronts differ nothing is created or deleted", traffic::no_change_while_apart),
    rule("I4", "what a front says is what a status has decided", traffic::decided),
    rule("I5", "a selector changes by decisions, once forth and once back in a rollout", traffic::moves),
    rule("I6", "a Deployment's replicas are not lowered below what is asked for", objects::replicas),
    rule("I7", "selectors are whole", objects::selectors),
    rule("I8", "the fronts stay, with UID and clusterIP", objects::identity),
    rule("I9", "a color goes only in Prune, when both fronts carry the decision", traffic::deleted_in_prune),
    rule("I9", "a color that had traffic goes only after proof and delay", traffic::deleted_when_proved),
    rule("I10", "in Prune no selector changes to the losing color", traffic::not_back_in_prune),
    rule("I11", "what a release fixes never changes in place", objects::fixed),
    rule("I12", "only the machine's edges occur", records::edges),
    rule("I13", "epochs never fall, in the status and on the fronts", records::epochs),
    rule("I14", "the history is short, unique, and in order", records::history),
    rule("I15", "at most one release is Active, exactly one in Stable", records::active),
    rule("I16", "in Stable the fronts carry the decision, and what is Active", records::serving),
    rule("I17", "no Active and no Pending record is dropped", records::trimmed),
    rule(
        "I18",
        "a failed release is Pending again only when asked for, and none is Pending in Stable",
        records::retried,
    ),
    rule("I18", "when Prune is left, the record of what failed says so", records::marked),
    rule("I19", "no generation is observed before it exists", records::observed),
    rule("I20", "the status is at most 16 KiB", records::size),
    rule(
        "I28",
        "nothing is created and no selector changes once the resource is being deleted",
        objects::left_alone,
    ),
    rule("I32", "what is created has the resource as its controller, and an epoch", objects::owned),
    rule("I32", "objects of others are not taken", objects::not_taken),
];

/// Asks every rule of every event of a history, which may hold many resources in many namespaces. Each text is told
/// once, with the place of its first time.
pub fn check(history: &History, waived: &Waived) -> Vec<Finding> {
    let mut world = World::new(history);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (index, entry) in history.entries().iter().enumerate() {
        let before = world.take(index, entry);
        let moment = Moment { world: &world, entry, before, waived };
        for rule in &RULES {
            for text in (rule.check)(&moment) {
                if seen.insert((rule.invariant, text.clone())) {
                    found.push(Finding { invariant: rule.invariant, text: at(entry, &text) });
                }
            }
        }
    }
    found
}

/// A finding's text with its place.
fn at(entry: &Entry, text: &str) -> String {
    let Entry { namespace, resource_version, at, .. } = entry;
    format!("{text} ({namespace}, at {resource_version}, {:.2} s)", at.as_secs_f64())
}
