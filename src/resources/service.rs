//! Services: a color Service per color, and the front Services that clients use.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec as KubeServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use super::{Release, Strings, labels, last_applied, meta, selector, settings_digest};
use api::component::ServiceSpec;
use api::names::{self, Color, Component, Owner};

/// The value of the `strategy` selector that matches no Pod.
const NO_COLOR: &str = "none";

/// The decision on a front Service (design D2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The active color; `None` before the first switch.
    pub color: Option<Color>,
    /// The active release; `None` before the first switch.
    pub version: Option<String>,
    /// The epoch of the decision; 0 before the first switch.
    pub epoch: i64,
    /// The time of the switch, RFC 3339; `None` before the first switch.
    pub switched_at: Option<String>,
}

impl Stamp {
    /// Returns the selector of a front Service.
    pub fn selector(&self, name: &str, component: Component) -> Strings {
        let mut selector = selector(name, component, self.color.unwrap_or(Color::Blue));
        if self.color.is_none() {
            selector.insert(names::LABEL_STRATEGY.into(), NO_COLOR.into());
        }
        selector
    }

    /// Returns the annotations of a front Service.
    pub fn annotations(&self) -> Strings {
        let entries = [
            (names::RELEASE_VERSION, self.version.clone()),
            (names::EPOCH, Some(self.epoch.to_string())),
            (names::SWITCHED_AT, self.switched_at.clone()),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// Returns the merge patch that switches a front Service: selector and annotations in one request.
    pub fn patch(&self, name: &str, component: Component, resource_version: &str) -> Value {
        json!({
            "metadata": {"resourceVersion": resource_version, "annotations": self.annotations()},
            "spec": {"selector": self.selector(name, component)},
        })
    }
}

/// Renders the Service of a color, for tests before the switch.
pub fn color(release: &Release<'_>, component: Component) -> Service {
    Service {
        metadata: release.meta(names::workload(&release.owner.name, component, release.color), component),
        spec: Some(KubeServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(selector(&release.owner.name, component, release.color)),
            ports: Some(vec![port(component, component.port())]),
            ..KubeServiceSpec::default()
        }),
        status: None,
    }
}

/// Renders the front Service.
pub fn front(owner: &Owner, component: Component, spec: &ServiceSpec, stamp: &Stamp) -> Service {
    let mut labels = spec.labels.clone();
    labels.extend(self::labels(&owner.name, component, None));
    let mut annotations = spec.annotations.clone();
    annotations.extend(stamp.annotations());
    annotations.insert(names::APPLIED_SETTINGS.into(), front_digest(component, spec));
    annotations.extend(last_applied::keys(&spec.annotations, &spec.labels));
    Service {
        metadata: meta(owner, names::front(&owner.name, component), labels, annotations),
        spec: Some(KubeServiceSpec {
            type_: Some(spec.type_.as_deref().unwrap_or("ClusterIP").to_owned()),
            selector: Some(stamp.selector(&owner.name, component)),
            ports: Some(vec![port(component, front_port(component, spec))]),
            ..KubeServiceSpec::default()
        }),
        status: None,
    }
}

/// Returns the digest of the settings of a front Service that follow the spec in place.
pub fn front_digest(component: Component, spec: &ServiceSpec) -> String {
    settings_digest(&json!({
        "type": spec.type_.as_deref().unwrap_or("ClusterIP"),
        "port": front_port(component, spec),
        "annotations": spec.annotations,
        "labels": spec.labels,
    }))
}

/// Returns the port of the front Service, within the legal range.
pub fn front_port(component: Component, spec: &ServiceSpec) -> i32 {
    spec.port.unwrap_or_else(|| component.port()).clamp(1, 65_535)
}

fn port(component: Component, number: i32) -> ServicePort {
    ServicePort {
        name: Some(component.as_str().into()),
        port: number,
        protocol: Some("TCP".into()),
        // Not its name: the Pods of an adopted release may name their ports differently.
        target_port: Some(IntOrString::Int(component.port())),
        ..ServicePort::default()
    }
}
