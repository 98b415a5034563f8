//! What a request asks for, told by its method, path and body.

use http::{Method, Uri};
use serde_json::Value;

use crate::watcher::{Act, Call};

/// The kinds of requests, which faults tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A get or a list.
    Read,
    /// A watch: its answer is a stream.
    Watch,
    /// A write of anything but Events and Leases.
    Write,
    /// A write of an Event.
    Event,
    /// A write of a Lease.
    Lease,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What kind of request.
    pub class: Class,
    /// The HTTP method.
    pub verb: String,
    /// The plural resource, with the subresource if there is one: `services`, `metadataservices/status`.
    pub resource: String,
    /// The object's name; empty for lists.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// Whether it says what it was decided on: a change by its resourceVersion, a delete by UID and resourceVersion.
    /// What is created says it by being new.
    pub guarded: bool,
}

impl Target {
    /// Reads a request.
    pub fn of(method: &Method, uri: &Uri, body: &[u8]) -> Self {
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let object = match segments.as_slice() {
            ["api", _, "namespaces", _, object @ ..] | ["apis", _, _, "namespaces", _, object @ ..]
                if !object.is_empty() =>
            {
                object
            }
            ["api", _, object @ ..] | ["apis", _, _, object @ ..] => object,
            other => other,
        };
        let (plural, name, subresource) = match object {
            [] => ("", "", ""),
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource, ..] => (*plural, *name, *subresource),
        };
        let resource =
            if subresource.is_empty() { plural.to_owned() } else { format!("{plural}/{subresource}") };
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = if name.is_empty() { text(&object, "/metadata/name") } else { name };
        Self {
            class: class(method, uri, plural),
            verb: method.to_string(),
            resource,
            name: name.to_owned(),
            uri: uri.to_string(),
            guarded: guarded(method, &object),
        }
    }

    /// As the watcher asks for it; `None` for what it does not ask for. A write has yet to succeed.
    pub fn call(&self) -> Option<Call> {
        let act = match self.class {
            Class::Read if self.name.is_empty() => Act::List,
            Class::Read => Act::Get,
            Class::Write => Act::Write,
            Class::Watch | Class::Event | Class::Lease => return None,
        };
        let (resource, name, uri) = (self.resource.clone(), self.name.clone(), self.uri.clone());
        Some(Call { act, resource, name, uri, creates: self.verb == "POST", succeeded: act != Act::Write })
    }

    /// Whether it fills a cache: those lists come in pages.
    pub fn fills_cache(&self) -> bool {
        self.class == Class::Read && self.name.is_empty() && self.uri.contains("limit=")
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn guarded(method: &Method, object: &Value) -> bool {
    let says = |pointer| !text(object, pointer).is_empty();
    match *method {
        Method::PUT | Method::PATCH => says("/metadata/resourceVersion"),
        Method::DELETE => says("/preconditions/uid") && says("/preconditions/resourceVersion"),
        _ => true,
    }
}

fn class(method: &Method, uri: &Uri, plural: &str) -> Class {
    if method == Method::GET || method == Method::HEAD {
        let watches = |query: &str| query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
        return if uri.query().is_some_and(watches) { Class::Watch } else { Class::Read };
    }
    match plural {
        "events" => Class::Event,
        "leases" => Class::Lease,
        _ => Class::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &Method, uri: &str, body: &str) -> (Class, String) {
        let Target { class, verb, resource, name, .. } =
            Target::of(method, &uri.parse().unwrap(), body.as_bytes());
        (class, format!("{verb} {resource} {name}"))
    }

    #[test]
    fn requests_are_told_apart() {
        let named = r#"{"metadata":{"name":"a"}}"#;
        let cases = [
            (Method::POST, "/api/v1/namespaces/n/services?fieldManager=x", Class::Write, "POST services a"),
            (Method::PATCH, "/api/v1/namespaces/n/services/s", Class::Write, "PATCH services s"),
            (
                Method::PUT,
                "/apis/e6data.io/v1alpha1/namespaces/n/metadataservices/m/status",
                Class::Write,
                "PUT metadataservices/status m",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/n/deployments/d",
                Class::Write,
                "DELETE deployments d",
            ),
            (Method::POST, "/apis/events.k8s.io/v1/namespaces/n/events", Class::Event, "POST events a"),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", Class::Lease, "PUT leases l"),
            (Method::GET, "/api/v1/namespaces/n/pods?limit=5&watch=true", Class::Watch, "GET pods a"),
            (Method::GET, "/api/v1/namespaces/n", Class::Read, "GET namespaces n"),
            (Method::GET, "/version", Class::Read, "GET version a"),
        ];
        for (method, uri, class, text) in cases {
            assert_eq!(target(&method, uri, named), (class, text.to_owned()), "{uri}");
        }
    }

    #[test]
    fn a_write_says_what_it_was_decided_on() {
        let of =
            |method: Method, body: &str| Target::of(&method, &"/x".parse().unwrap(), body.as_bytes()).guarded;
        let versioned = r#"{"metadata":{"resourceVersion":"7"}}"#;
        assert!(of(Method::POST, "{}"));
        assert!(of(Method::PATCH, versioned) && of(Method::PUT, versioned));
        assert!(!of(Method::PATCH, "{}") && !of(Method::PUT, r#"{"metadata":{"resourceVersion":""}}"#));
        assert!(of(Method::DELETE, r#"{"preconditions":{"uid":"u","resourceVersion":"7"}}"#));
        assert!(!of(Method::DELETE, r#"{"preconditions":{"uid":"u"}}"#));
    }

    #[test]
    fn lists_that_fill_caches_are_told_from_live_ones() {
        let of = |uri: &str| Target::of(&Method::GET, &uri.parse().unwrap(), b"");
        assert!(of("/api/v1/namespaces/n/pods?limit=100").fills_cache());
        let live = of("/api/v1/namespaces/n/pods?labelSelector=app%3Dm");
        assert!(!live.fills_cache());
        assert_eq!(live.call().map(|call| call.act), Some(Act::List));
        assert_eq!(of("/api/v1/namespaces/n/pods/p").call().map(|call| call.act), Some(Act::Get));
        assert_eq!(of("/api/v1/namespaces/n/pods?watch=1").call(), None);
    }
}
