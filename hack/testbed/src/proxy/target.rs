//! The object and kind of a request, by its method, path and body.

use http::{Method, Uri};
use serde_json::Value;

use crate::invariants::{Call, RequestKind};

/// The kinds of requests that faults distinguish.
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

/// The object and kind of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kind.
    pub class: Class,
    /// The HTTP method.
    pub verb: String,
    /// The plural resource, with the subresource if there is one: `services`, `metadataservices/status`.
    pub resource: String,
    /// The object's name; empty for lists.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// Whether the request has a precondition: a resourceVersion for a change, UID and resourceVersion for a
    /// deletion. A create needs none.
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

    /// Returns the request for the checks of [`crate::invariants`]. None for other requests. A write has not
    /// succeeded yet.
    pub fn call(&self) -> Option<Call> {
        let kind = match self.class {
            Class::Read if self.name.is_empty() => RequestKind::List,
            Class::Read => RequestKind::Get,
            Class::Write => RequestKind::Write,
            Class::Watch | Class::Event | Class::Lease => return None,
        };
        let (resource, name, uri) = (self.resource.clone(), self.name.clone(), self.uri.clone());
        Some(Call {
            kind,
            resource,
            name,
            uri,
            creates: self.verb == "POST",
            succeeded: kind != RequestKind::Write,
        })
    }

    /// Returns whether the list fills a cache: such lists are paginated.
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
    fn a_write_has_a_precondition() {
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
        assert_eq!(live.call().map(|call| call.kind), Some(RequestKind::List));
        assert_eq!(of("/api/v1/namespaces/n/pods/p").call().map(|call| call.kind), Some(RequestKind::Get));
        assert_eq!(of("/api/v1/namespaces/n/pods?watch=1").call(), None);
    }
}
