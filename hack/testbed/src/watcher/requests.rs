//! Rules of requests, by what the API server or a proxy before it was asked.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::audit::{AuditLog, Request};
use crate::history::{Entry, History, Kind, Verb};

/// A request, as far as [`live_reads`] asks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it did.
    pub act: Act,
    /// The plural resource, with the subresource if there is one.
    pub resource: String,
    /// The object's name; empty for a list.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// It was to create something.
    pub creates: bool,
    /// It was carried out, and the asker was told so.
    pub succeeded: bool,
}

/// What a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// Changed something.
    Write,
    /// A new process began; what was read before does not count.
    Start,
}

impl Call {
    /// A request of the audit log; `None` for watches, Events and Leases.
    pub fn of(request: &Request) -> Option<Self> {
        let act = match request.verb.as_str() {
            "get" => Act::Get,
            "list" => Act::List,
            _ if request.is_event() || request.is_lease() || !request.is_write() => return None,
            _ => Act::Write,
        };
        let (name, uri) = (request.name.clone(), request.uri.clone());
        let creates = request.verb == "create";
        Some(Self { act, resource: request.target(), name, uri, creates, succeeded: request.succeeded() })
    }

    /// The namespace that it was about; empty for none.
    fn namespace(&self) -> String {
        let path = self.uri.split('?').next().unwrap_or_default();
        path.split('/').skip_while(|part| *part != "namespaces").nth(1).unwrap_or_default().to_owned()
    }

    /// The beginning of a process.
    pub fn start() -> Self {
        Self {
            act: Act::Start,
            resource: String::new(),
            name: String::new(),
            uri: String::new(),
            creates: false,
            succeeded: true,
        }
    }
}

/// What has been read since the last write.
#[derive(Default)]
struct Bracket {
    opened: bool,
    lists: BTreeSet<String>,
    closed: bool,
    /// What was written on it: plural resource, name, and whether that was to create it. What cannot be created, since it is
    /// there, may be changed then.
    written: BTreeSet<(String, String, bool)>,
}

/// Kinds that every decision to write rests on.
const READ: [&str; 6] =
    ["configmaps", "controllerrevisions", "deployments", "endpointslices", "pods", "services"];

/// Kinds that are read where there are any, or where they are asked for; what is written of them rests on that too.
const READ_IF_ASKED_FOR: [&str; 2] = ["poddisruptionbudgets", "serviceaccounts"];

const OWNER: &str = "metadataservices";

impl Bracket {
    fn is_whole(&self) -> bool {
        self.opened && READ.iter().all(|kind| self.lists.contains(*kind))
    }

    /// Whether what is written of a kind rests on all that it should.
    fn bears(&self, resource: &str) -> bool {
        let kind = resource.split('/').next().unwrap_or_default();
        let read = !READ_IF_ASKED_FOR.contains(&kind) || self.lists.contains(kind);
        self.is_whole() && read && (self.closed || kind == OWNER)
    }
}

/// I41: before an object is created, patched or deleted, the resource, then its objects, then the resource again are
/// read live; before the resource is written, the resource and its objects. The answer to a write of the resource shows
/// it as well as a read, and the read that closes one decision may open the next. For requests in namespaces each of which has one
/// resource, of this name, in the order in which they came in, of one operator at a time. And no object is written twice on what was read
/// once: whatever the answer was, a write is not sent again before a new look (I40).
pub fn live_reads(calls: impl IntoIterator<Item = Call>, resource: &str) -> Vec<Finding> {
    let mut brackets: BTreeMap<String, Bracket> = BTreeMap::new();
    let mut found = vec![];
    let selects = format!("app%3D{resource}");
    for call in calls {
        let bracket = brackets.entry(call.namespace()).or_default();
        match call.act {
            Act::Start => brackets.clear(),
            Act::Get if call.resource == OWNER => {
                if bracket.is_whole() {
                    bracket.closed = true;
                } else {
                    *bracket = Bracket { opened: true, ..Bracket::default() };
                }
            }
            // One with a resourceVersion may be answered from a cache.
            Act::List if call.uri.contains(&selects) && !call.uri.contains("resourceVersion=") => {
                // The read of the resource that closed the last bracket opens the next one.
                if bracket.closed {
                    *bracket = Bracket { opened: true, ..Bracket::default() };
                }
                bracket.lists.insert(call.resource);
            }
            Act::Get | Act::List => {}
            Act::Write => {
                let own = call.resource.split('/').next() == Some(OWNER);
                if !bracket.bears(&call.resource) {
                    let text = format!("{} {} is written on {:?}", call.resource, call.name, bracket.lists);
                    found.push(Finding { invariant: "I41", text });
                }
                let again = !bracket.written.insert((call.resource.clone(), call.name.clone(), call.creates));
                // The audit log does not say what a create was about that was refused.
                if again && !own && !call.name.is_empty() {
                    let text = format!("{} {} is written twice on one look", call.resource, call.name);
                    found.push(Finding { invariant: "I40", text });
                }
                if own {
                    *bracket = Bracket { opened: call.succeeded, ..Bracket::default() };
                }
            }
        }
    }
    found
}

/// I29: the operator's successful writes to an object are not more than the versions that it had.
pub fn writes_changed_something(history: &History, audit: &AuditLog) -> Vec<Finding> {
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
        (versions < count).then(|| Finding { invariant: "I29", text: text() })
    };
    writes.into_iter().filter_map(idle).collect()
}

/// How often an object changed; what others write into the status of a Deployment is not counted.
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

    fn call(act: Act, resource: &str) -> Call {
        Call {
            act,
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
        let resource = || call(Act::Get, "metadataservices");
        let lists = || kinds.map(|kind| call(Act::List, kind));
        let whole = [vec![resource()], lists().to_vec(), vec![resource()]].concat();
        let named = |name: &str| Call { name: name.into(), ..call(Act::Write, "services") };
        let writes = [named("x"), named("y")];
        let broken = |calls: Vec<Call>| live_reads(calls, "m").len();
        assert_eq!(broken([whole.clone(), writes.to_vec()].concat()), 0, "siblings share a bracket");
        let twice = [whole.clone(), writes.to_vec(), vec![named("x")]].concat();
        assert_eq!(broken(twice), 1, "sent again without a new look");
        let status = vec![call(Act::Write, "metadataservices/status")];
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
    fn a_look_is_a_look_at_one_namespace() {
        let look = |namespace: &str| {
            let of = |call: Call| Call { uri: format!("/api/v1/namespaces/{namespace}{}", call.uri), ..call };
            let resource = || call(Act::Get, "metadataservices");
            let calls = [resource()].into_iter().chain(READ.map(|kind| call(Act::List, kind)));
            calls.chain([resource(), call(Act::Write, "services")]).map(of).collect::<Vec<_>>()
        };
        let (a, b) = (look("a"), look("b"));
        let mixed = a.iter().zip(&b).flat_map(|(a, b)| [a.clone(), b.clone()]);
        assert_eq!(live_reads(mixed, "m"), []);
        let other = a[..8].iter().chain(&b[8..]).cloned();
        assert_eq!(live_reads(other, "m").len(), 1, "written where nothing was read");
    }

    #[test]
    fn a_budget_is_written_on_a_look_at_budgets() {
        let resource = || call(Act::Get, "metadataservices");
        let look = |kinds: &[&str]| {
            let lists = kinds.iter().map(|kind| call(Act::List, kind));
            [resource()].into_iter().chain(lists).chain([resource()]).collect::<Vec<_>>()
        };
        let write = call(Act::Write, "poddisruptionbudgets");
        let broken = |mut calls: Vec<Call>| {
            calls.push(write.clone());
            live_reads(calls, "m").len()
        };
        assert_eq!(broken(look(&READ)), 1);
        assert_eq!(broken(look(&[READ.as_slice(), &READ_IF_ASKED_FOR].concat())), 0);
    }
}
