//! Invariants of requests, by the audit log of the API server or the calls of a proxy.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::history_state::is_stamped;
use crate::audit::{AuditLog, Request};
use crate::history::{Entry, History, Kind, Verb};

/// A request with the fields that [`live_reads`] needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The kind of the request.
    pub kind: RequestKind,
    /// The plural resource, with the subresource if there is one.
    pub resource: String,
    /// The object's name; empty for a list.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// The request creates an object.
    pub creates: bool,
    /// The API server carried it out, and the client received the answer.
    pub succeeded: bool,
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A read of one object.
    Get,
    /// A list.
    List,
    /// A write.
    Write,
    /// The start of a new process, which has read nothing yet.
    Start,
}

impl Call {
    /// Returns a request of the audit log. None for watches, Events and Leases.
    pub fn of(request: &Request) -> Option<Self> {
        let kind = match request.verb.as_str() {
            "get" => RequestKind::Get,
            "list" => RequestKind::List,
            _ if request.is_event() || request.is_lease() || !request.is_write() => return None,
            _ => RequestKind::Write,
        };
        let (name, uri) = (request.name.clone(), request.uri.clone());
        let creates = request.verb == "create";
        Some(Self { kind, resource: request.target(), name, uri, creates, succeeded: request.succeeded() })
    }

    /// Returns the namespace of the request. Empty if it has none.
    fn namespace(&self) -> String {
        let path = self.uri.split('?').next().unwrap_or_default();
        path.split('/').skip_while(|part| *part != "namespaces").nth(1).unwrap_or_default().to_owned()
    }

    /// Returns the start of a process.
    pub fn start() -> Self {
        Self {
            kind: RequestKind::Start,
            resource: String::new(),
            name: String::new(),
            uri: String::new(),
            creates: false,
            succeeded: true,
        }
    }
}

/// The live reads since the last write.
#[derive(Default)]
struct Bracket {
    opened: bool,
    lists: BTreeSet<String>,
    closed: bool,
    /// The writes that rest on these reads: plural resource, name, and whether the write was a create. After a
    /// rejected create the operator may change the existing object.
    written: BTreeSet<(String, String, bool)>,
}

/// Returns the violations of I46: the operator deletes an object that another program made.
///
/// The audit log has no UIDs. So for each name there must be as many deleted objects with a stamp as deletes of the
/// operator.
pub fn deletes_of_unstamped(history: &History, audit: &AuditLog) -> Vec<Violation> {
    let mut deletes: BTreeMap<(String, String), usize> = BTreeMap::new();
    for request in audit.requests().iter().filter(|request| request.verb == "delete" && request.succeeded()) {
        *deletes.entry((request.target(), request.name.clone())).or_default() += 1;
    }
    let mut found = vec![];
    for ((plural, name), count) in deletes {
        let Some(kind) = Kind::named(&plural).filter(|kind| Kind::MADE.contains(kind)) else { continue };
        let mut stamped: BTreeSet<&str> = BTreeSet::new();
        stamped.extend(
            history.of(kind, &name).filter(|one| is_stamped(one)).map(|one| one.text("/metadata/uid")),
        );
        if stamped.len() < count {
            let text = format!("{count} deletes of {kind:?} {name}, of which {} had a stamp", stamped.len());
            found.push(Violation { invariant: "I46", text });
        }
    }
    found
}

/// Kinds that the operator reads before every write.
const READ: [&str; 6] =
    ["configmaps", "controllerrevisions", "deployments", "endpointslices", "pods", "services"];

/// Kinds that the operator reads if objects of them exist or the spec asks for them. Their own writes rest on these
/// reads too.
const READ_IF_ASKED_FOR: [&str; 2] = ["poddisruptionbudgets", "serviceaccounts"];

const OWNER: &str = "metadataservices";

impl Bracket {
    fn is_whole(&self) -> bool {
        self.opened && READ.iter().all(|kind| self.lists.contains(*kind))
    }

    /// Returns whether a write of this kind rests on all reads that it needs.
    fn bears(&self, resource: &str) -> bool {
        let kind = resource.split('/').next().unwrap_or_default();
        let read = !READ_IF_ASKED_FOR.contains(&kind) || self.lists.contains(kind);
        self.is_whole() && read && (self.closed || kind == OWNER)
    }
}

/// Returns the violations of I41 and I40.
///
/// I41: before the operator creates, patches or deletes an object, it reads the resource, then the objects, then the
/// resource again. Before it writes the resource, it reads the resource and the objects. The answer to a write of the
/// resource counts as a read of it, and the last read of one decision may be the first read of the next. Reads with a
/// resourceVersion do not count, since a cache may answer them.
///
/// I40: the operator does not write an object twice on the same reads, even after a rejection.
///
/// The calls must be in the order of their arrival, of one operator at a time. Each namespace must hold one resource
/// of this name.
pub fn live_reads(calls: impl IntoIterator<Item = Call>, resource: &str) -> Vec<Violation> {
    let mut brackets: BTreeMap<String, Bracket> = BTreeMap::new();
    let mut found = vec![];
    let selects = format!("app%3D{resource}");
    for call in calls {
        let bracket = brackets.entry(call.namespace()).or_default();
        match call.kind {
            RequestKind::Start => brackets.clear(),
            RequestKind::Get if call.resource == OWNER => {
                if bracket.is_whole() {
                    bracket.closed = true;
                } else {
                    *bracket = Bracket { opened: true, ..Bracket::default() };
                }
            }
            // A cache may answer a list with a resourceVersion.
            RequestKind::List if call.uri.contains(&selects) && !call.uri.contains("resourceVersion=") => {
                // The last read of one decision is the first read of the next.
                if bracket.closed {
                    *bracket = Bracket { opened: true, ..Bracket::default() };
                }
                bracket.lists.insert(call.resource);
            }
            RequestKind::Get | RequestKind::List => {}
            RequestKind::Write => {
                let own = call.resource.split('/').next() == Some(OWNER);
                if !bracket.bears(&call.resource) {
                    let text = format!("{} {} is written on {:?}", call.resource, call.name, bracket.lists);
                    found.push(Violation { invariant: "I41", text });
                }
                let again = !bracket.written.insert((call.resource.clone(), call.name.clone(), call.creates));
                // The audit log does not name the object of a rejected create.
                if again && !own && !call.name.is_empty() {
                    let text = format!("{} {} is written twice on one look", call.resource, call.name);
                    found.push(Violation { invariant: "I40", text });
                }
                if own {
                    *bracket = Bracket { opened: call.succeeded, ..Bracket::default() };
                }
            }
        }
    }
    found
}

/// Returns the violations of I29: each successful write of the operator changes its object.
pub fn writes_changed_something(history: &History, audit: &AuditLog) -> Vec<Violation> {
    let mut writes: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    for request in audit.requests().iter().filter(|request| request.succeeded()) {
        if let Some(kind) =
            Kind::named(&request.resource).filter(|_| matches!(request.verb.as_str(), "patch" | "update"))
        {
            *writes.entry((kind, request.name.clone())).or_default() += 1;
        }
    }
    let idle = |((kind, name), count): ((Kind, String), usize)| {
        let versions = changes(history, kind, &name);
        let text = || format!("{count} writes to {kind:?} {name} made {versions} versions");
        (versions < count).then(|| Violation { invariant: "I29", text: text() })
    };
    writes.into_iter().filter_map(idle).collect()
}

/// Returns how often an object changed. The status of a Deployment does not count, since its controller writes it.
fn changes(history: &History, kind: Kind, name: &str) -> usize {
    let states: Vec<_> = history.of(kind, name).collect();
    let of = |entry: &Entry| match kind {
        Kind::Deployment => {
            ["/spec", "/metadata/annotations", "/metadata/labels"].map(|part| entry.get(part).cloned())
        }
        _ => [Some(entry.resource_version.into()), None, None],
    };
    let pairs = states.iter().zip(states.iter().skip(1));
    pairs.filter(|(was, now)| now.verb == Verb::Modified && of(was) != of(now)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: RequestKind, resource: &str) -> Call {
        Call {
            kind,
            resource: resource.into(),
            name: "x".into(),
            uri: "/x?&labelSelector=app%3Dm%2Cy".into(),
            creates: false,
            succeeded: true,
        }
    }

    #[test]
    fn a_write_needs_a_live_read_around_its_decision() {
        let kinds =
            ["configmaps", "controllerrevisions", "deployments", "endpointslices", "pods", "services"];
        let resource = || call(RequestKind::Get, "metadataservices");
        let lists = || kinds.map(|kind| call(RequestKind::List, kind));
        let whole = [vec![resource()], lists().to_vec(), vec![resource()]].concat();
        let named = |name: &str| Call { name: name.into(), ..call(RequestKind::Write, "services") };
        let writes = [named("x"), named("y")];
        let broken = |calls: Vec<Call>| live_reads(calls, "m").len();
        assert_eq!(broken([whole.clone(), writes.to_vec()].concat()), 0, "siblings share a bracket");
        let twice = [whole.clone(), writes.to_vec(), vec![named("x")]].concat();
        assert_eq!(broken(twice), 1, "sent again without a new look");
        let status = vec![call(RequestKind::Write, "metadataservices/status")];
        let half = [vec![resource()], lists().to_vec()].concat();
        assert_eq!(
            broken([half.clone(), whole.clone(), writes.to_vec()].concat()),
            0,
            "after a look without a write"
        );
        assert_eq!(
            broken([half.clone(), half.clone(), writes.to_vec()].concat()),
            2,
            "half twice is not whole"
        );
        assert_eq!(
            broken([half.clone(), status.clone()].concat()),
            0,
            "a compare-and-swap needs no second read"
        );
        assert_eq!(broken([half, writes.to_vec()].concat()), 2, "an object does");
        assert_eq!(
            broken([whole.clone(), status.clone(), writes.to_vec()].concat()),
            2,
            "decided before the status"
        );
        assert_eq!(
            broken([whole.clone(), vec![Call::start()], writes.to_vec()].concat()),
            2,
            "read by another process"
        );
        assert_eq!(
            broken([vec![resource()], status.clone()].concat()),
            1,
            "nothing but the resource was read"
        );
        let next = [lists().to_vec(), vec![resource()], writes.to_vec()].concat();
        assert_eq!(
            broken([whole.clone(), writes.to_vec(), next.clone()].concat()),
            0,
            "the last read opens the next"
        );
        let mut refused = [vec![resource()], lists().to_vec(), status.clone(), next].concat();
        assert_eq!(broken(refused.clone()), 0, "the answer to a status shows the resource");
        refused[7].succeeded = false;
        assert_eq!(broken(refused), 2, "a refusal shows nothing");
        let mut cached = whole;
        cached[1].uri += "&resourceVersion=0";
        assert_eq!(broken([cached, writes.to_vec()].concat()), 2, "answered from a cache");
    }

    #[test]
    fn reads_count_for_one_namespace() {
        let look = |namespace: &str| {
            let of = |call: Call| Call { uri: format!("/api/v1/namespaces/{namespace}{}", call.uri), ..call };
            let resource = || call(RequestKind::Get, "metadataservices");
            let calls = [resource()].into_iter().chain(READ.map(|kind| call(RequestKind::List, kind)));
            calls.chain([resource(), call(RequestKind::Write, "services")]).map(of).collect::<Vec<_>>()
        };
        let (a, b) = (look("a"), look("b"));
        let mixed = a.iter().zip(&b).flat_map(|(a, b)| [a.clone(), b.clone()]);
        assert_eq!(live_reads(mixed, "m"), []);
        let other = a[..8].iter().chain(&b[8..]).cloned();
        assert_eq!(live_reads(other, "m").len(), 1, "written where nothing was read");
    }

    #[test]
    fn a_budget_is_written_after_a_read_of_budgets() {
        let resource = || call(RequestKind::Get, "metadataservices");
        let look = |kinds: &[&str]| {
            let lists = kinds.iter().map(|kind| call(RequestKind::List, kind));
            [resource()].into_iter().chain(lists).chain([resource()]).collect::<Vec<_>>()
        };
        let write = call(RequestKind::Write, "poddisruptionbudgets");
        let broken = |mut calls: Vec<Call>| {
            calls.push(write.clone());
            live_reads(calls, "m").len()
        };
        assert_eq!(broken(look(&READ)), 1);
        assert_eq!(broken(look(&[READ.as_slice(), &READ_IF_ASKED_FOR].concat())), 0);
    }
}
