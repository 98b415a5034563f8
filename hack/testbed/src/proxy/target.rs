//! What a request asks for, told by its method, path and body.

use http::{Method, Uri};
use serde_json::Value;

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
        let name = if name.is_empty() { named(body) } else { name.to_owned() };
        Self { class: class(method, uri, plural), verb: method.to_string(), resource, name }
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

/// The name that an object to be created has.
fn named(body: &[u8]) -> String {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &Method, uri: &str, body: &str) -> (Class, String) {
        let Target { class, verb, resource, name } =
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
}
