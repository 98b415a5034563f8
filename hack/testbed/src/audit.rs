//! The audit log of the API server: one request per entry.
//!
//! The audit policy leaves out the control plane's own components and the probes of the test bed. The API server logs
//! a request after its answer, and a watch when it opens. A line may be written a moment after the answer.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::{Error, IoContext, Result};

/// A request to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Unique for the request.
    pub id: String,
    /// Who asked, as `system:serviceaccount:NAMESPACE:NAME`; the impersonated user when there is one.
    pub user: String,
    /// The client program, as it calls itself.
    pub user_agent: String,
    /// The API verb: get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural resource; empty for paths such as `/version`.
    pub resource: String,
    /// The subresource, as `status`; empty for the object itself.
    pub subresource: String,
    /// The namespace. Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name; empty for lists and for creates by generateName.
    pub name: String,
    /// The path and query.
    pub uri: String,
    /// The HTTP status code; 0 when the request got no answer.
    pub code: u16,
    /// When the request came in, by the API server's clock, to the microsecond.
    pub time: Timestamp,
    /// True if the user lacks the right. Otherwise a 403 comes from a quota, a policy or a terminating namespace.
    pub denied: bool,
    /// The last stage seen: `ResponseComplete`, `ResponseStarted` (an open watch) or `Panic`.
    pub stage: String,
    /// How much the policy logs of it: `Metadata`.
    pub level: String,
}

impl Request {
    /// True for create, update, patch, delete and deletecollection.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// True for an Event, of either API.
    pub fn is_event(&self) -> bool {
        self.resource == "events" && matches!(self.group.as_str(), "" | "events.k8s.io")
    }

    /// True for a Lease.
    pub fn is_lease(&self) -> bool {
        self.resource == "leases" && self.group == "coordination.k8s.io"
    }

    /// True when it was answered with a 2xx code.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// `deployments`, or `deployments/scale` with a subresource.
    pub fn target(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// Numbers of writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Writes by verb and target (`("patch", "services")`), but for Events and Leases.
    pub objects: BTreeMap<(String, String), usize>,
    /// Writes of Events.
    pub events: usize,
    /// Writes of Leases.
    pub leases: usize,
}

impl WriteCounts {
    /// All writes but those of Events and Leases.
    pub fn total(&self) -> usize {
        self.objects.values().sum()
    }

    /// The writes by one verb on one target.
    pub fn of(&self, verb: &str, target: &str) -> usize {
        self.objects.get(&(verb.to_owned(), target.to_owned())).copied().unwrap_or_default()
    }
}

/// A selection of requests in the order they came in.
#[derive(Debug, Clone, Default)]
pub struct AuditLog {
    requests: Vec<Request>,
}

impl AuditLog {
    /// Reads a log as far as it is written.
    ///
    /// # Errors
    /// When the file cannot be read or a whole line is not an audit event.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(path).at("read", path)?)
    }

    /// Reads a log from text; a last line without its end is ignored.
    ///
    /// # Errors
    /// When a whole line is not an audit event.
    pub fn parse(text: &str) -> Result<Self> {
        let mut requests: Vec<Request> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
        for line in whole.lines().filter(|line| !line.is_empty()) {
            let raw: RawEvent = serde_json::from_str(line)
                .map_err(|source| Error::Json { what: format!("audit event {line}"), source })?;
            let request = raw.into_request();
            // A watch is logged at its start and at its end.
            if let Some(earlier) = seen.get(&request.id).and_then(|index| requests.get_mut(*index)) {
                *earlier = request;
            } else {
                seen.insert(request.id.clone(), requests.len());
                requests.push(request);
            }
        }
        requests.sort_by_key(|request| request.time);
        Ok(Self { requests })
    }

    /// The requests, by time.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Returns the requests for which `keep` returns true.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Request) -> bool) -> Self {
        Self { requests: self.requests.iter().filter(|request| keep(request)).cloned().collect() }
    }

    /// Returns the requests of clients whose user agent starts with `prefix`.
    #[must_use]
    pub fn by_agent(&self, prefix: &str) -> Self {
        self.filter(|request| request.user_agent.starts_with(prefix))
    }

    /// Returns the requests of one user.
    #[must_use]
    pub fn by_user(&self, user: &str) -> Self {
        self.filter(|request| request.user == user)
    }

    /// Returns the requests in one namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        self.filter(|request| request.namespace == namespace)
    }

    /// Returns the requests that arrived at `from` or later, and before `until`.
    #[must_use]
    pub fn between(&self, from: Timestamp, until: Timestamp) -> Self {
        self.filter(|request| request.time >= from && request.time < until)
    }

    /// Returns the writes.
    #[must_use]
    pub fn writes(&self) -> Self {
        self.filter(Request::is_write)
    }

    /// Returns the reads: get, list, watch.
    #[must_use]
    pub fn reads(&self) -> Self {
        self.filter(|request| !request.is_write())
    }

    /// Returns the requests that the API server denied (403).
    #[must_use]
    pub fn forbidden(&self) -> Self {
        self.filter(|request| request.code == 403)
    }

    /// Counts the writes, answered well or not.
    pub fn write_counts(&self) -> WriteCounts {
        let mut counts = WriteCounts::default();
        for request in self.requests.iter().filter(|request| request.is_write()) {
            if request.is_event() {
                counts.events += 1;
            } else if request.is_lease() {
                counts.leases += 1;
            } else {
                *counts.objects.entry((request.verb.clone(), request.target())).or_default() += 1;
            }
        }
        counts
    }
}

/// The annotation with the decision of the authorizer.
const DECISION: &str = "authorization.k8s.io/decision";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent {
    level: String,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: RawUser,
    impersonated_user: Option<RawUser>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: RawRef,
    #[serde(default)]
    response_status: RawStatus,
    #[serde(default)]
    annotations: HashMap<String, String>,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct RawUser {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}

#[derive(Deserialize, Default)]
struct RawStatus {
    #[serde(default)]
    code: u16,
}

impl RawEvent {
    fn into_request(self) -> Request {
        Request {
            id: self.audit_id,
            user: self.impersonated_user.unwrap_or(self.user).username,
            user_agent: self.user_agent,
            verb: self.verb,
            group: self.object_ref.api_group,
            resource: self.object_ref.resource,
            subresource: self.object_ref.subresource,
            namespace: self.object_ref.namespace,
            name: self.object_ref.name,
            uri: self.request_uri,
            code: self.response_status.code,
            time: self.request_received_timestamp,
            denied: self.annotations.get(DECISION).is_some_and(|decision| decision == "forbid"),
            stage: self.stage,
            level: self.level,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, stage: &str, verb: &str, object: &str, time: u32) -> String {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{id}","stage":"{stage}",
            "requestURI":"/x","verb":"{verb}","user":{{"username":"u"}},"userAgent":"e6-operator/1",{object}
            "responseStatus":{{"metadata":{{}},"code":200}},
            "requestReceivedTimestamp":"2026-01-01T00:00:{time:02}.000001Z","stageTimestamp":"2026-01-01T00:00:00.1Z"}}"#
        )
        .replace('\n', "")
            + "\n"
    }

    fn object(group: &str, resource: &str, subresource: &str) -> String {
        format!(
            r#""objectRef":{{"apiGroup":"{group}","resource":"{resource}","subresource":"{subresource}","namespace":"a"}},"#
        )
    }

    #[test]
    fn writes_are_counted_with_events_and_leases_apart() {
        let text = [
            line("1", "ResponseComplete", "patch", &object("apps", "deployments", ""), 3),
            line("2", "ResponseComplete", "patch", &object("e6data.io", "metadataservices", "status"), 2),
            line("3", "ResponseComplete", "create", &object("events.k8s.io", "events", ""), 1),
            line("4", "ResponseComplete", "update", &object("coordination.k8s.io", "leases", ""), 4),
            line("5", "ResponseComplete", "get", &object("", "pods", ""), 5),
        ]
        .concat();
        let log = AuditLog::parse(&text).unwrap().by_agent("e6-operator").in_namespace("a");
        let counts = log.write_counts();
        assert_eq!((counts.total(), counts.events, counts.leases), (2, 1, 1));
        assert_eq!(counts.of("patch", "deployments"), 1);
        assert_eq!(counts.of("patch", "metadataservices/status"), 1);
        assert_eq!(log.reads().requests().len(), 1);
        assert!(log.requests().is_sorted_by_key(|request| request.time));
        assert!(log.by_agent("kubectl").requests().is_empty());
    }

    #[test]
    fn a_watch_is_one_request_and_half_a_line_is_none() {
        let whole =
            line("1", "ResponseStarted", "watch", "", 1) + &line("1", "ResponseComplete", "watch", "", 1);
        let text = whole + r#"{"level":"Meta"#;
        let log = AuditLog::parse(&text).unwrap();
        assert_eq!(log.requests().len(), 1);
        assert_eq!(log.requests()[0].stage, "ResponseComplete");
        assert_eq!(log.requests()[0].resource, "");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(AuditLog::parse("not json\n").is_err());
        assert!(AuditLog::parse("").unwrap().requests().is_empty());
    }
}
