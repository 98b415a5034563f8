//! The scenarios: what is there before, what a user does, and what happens on the way.

use std::fmt;
use std::str::FromStr;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testbed::{History, Kind};

/// The name of the resource in every namespace.
pub const NAME: &str = "mds";

const FIRST: &str = "1.0.1";
const SECOND: &str = "1.0.2";
const BROKEN: &str = "1.0.3-crash";

/// A story that a resource lives through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A new resource.
    Create,
    /// A release on top of another.
    Upgrade,
    /// A release that crashes before the switch.
    AutoRollback,
    /// Back to the release before, which is gone, by annotation.
    Rollback,
    /// The block of a failed release is cleared by going back to the serving one, by annotation.
    Clear,
    /// A release that loses its pods' readiness after the switch.
    LateRollback,
}

/// One thing that a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Creates the resource, or changes the image tags of both components.
    Apply(&'static str),
    /// Asks for the recorded release with this tag.
    GoBack(&'static str),
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Create, Self::Upgrade, Self::AutoRollback, Self::Rollback, Self::Clear, Self::LateRollback];

    /// Whether the kills at its every write belong to every test run.
    pub const fn is_named(self) -> bool {
        matches!(self, Self::Upgrade | Self::AutoRollback | Self::Rollback | Self::Clear)
    }

    /// What was done before, each to its end.
    pub const fn before(self) -> &'static [Deed] {
        match self {
            Self::Create => &[],
            Self::Upgrade | Self::AutoRollback | Self::LateRollback => &[Deed::Apply(FIRST)],
            Self::Rollback => &[Deed::Apply(FIRST), Deed::Apply(SECOND)],
            Self::Clear => &[Deed::Apply(FIRST), Deed::Apply(BROKEN)],
        }
    }

    /// What is done under faults.
    pub const fn deed(self) -> Deed {
        match self {
            Self::Create => Deed::Apply(FIRST),
            Self::Upgrade | Self::LateRollback => Deed::Apply(SECOND),
            Self::AutoRollback => Deed::Apply(BROKEN),
            Self::Rollback | Self::Clear => Deed::GoBack(FIRST),
        }
    }

    /// How long the old release stays warm: with time to break the new one where that is the story.
    const fn cleanup_delay(self) -> i32 {
        if matches!(self, Self::LateRollback) { 6 } else { 2 }
    }

    /// What happens by itself on the way: the pod that is to lose its readiness now.
    pub fn victim(self, history: &History) -> Option<String> {
        if self != Self::LateRollback {
            return None;
        }
        let owner = history.live(Kind::MetadataServices, NAME)?;
        let serving = owner.text("/status/activeStrategy");
        let pods = history.all_live(Kind::Pod).into_iter();
        let found = pods
            .filter(|pod| pod.label("component") == Some("storage") && pod.label("strategy") == Some("green"))
            .find(|pod| pod.condition("Ready") == "True")?;
        (owner.text("/status/rollout/step") == "Grace" && serving == "green").then(|| found.name.clone())
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Upgrade => "upgrade",
            Self::AutoRollback => "autorollback",
            Self::Rollback => "rollback",
            Self::Clear => "clear",
            Self::LateRollback => "laterollback",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.to_string() == text);
        let names: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
        found.ok_or_else(|| format!("no scenario {text}; there are {}", names.join(", ")))
    }
}

/// The resources of a namespace, or of all.
pub fn resources(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind: ApiResource = Kind::MetadataServices.resource();
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}

/// Does what a user does, as kubectl would.
pub async fn act(client: &Client, namespace: &str, scenario: Scenario, deed: Deed) {
    let api = resources(client, Some(namespace));
    let there = api.get_opt(NAME).await.unwrap();
    match (deed, there) {
        (Deed::Apply(tag), None) => {
            let object: DynamicObject = serde_json::from_value(resource(scenario, tag)).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        }
        (Deed::Apply(tag), Some(_)) => {
            let wanted = resource(scenario, tag);
            patch(&api, &json!({"spec": wanted["spec"]})).await;
        }
        (Deed::GoBack(tag), there) => {
            let there = there.unwrap();
            let version = version(&there.data, tag);
            patch(&api, &json!({"metadata": {"annotations": {"e6data.io/rollback-to": version}}})).await;
        }
    }
}

async fn patch(api: &Api<DynamicObject>, patch: &Value) {
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// The version of the recorded release with a tag.
fn version(resource: &Value, tag: &str) -> String {
    let records = resource.pointer("/status/releaseHistory").and_then(Value::as_array).unwrap();
    let found = records.iter().find(|record| record["storageTag"] == tag).unwrap();
    found["version"].as_str().unwrap().to_owned()
}

fn resource(scenario: Scenario, tag: &str) -> Value {
    // The broken release breaks one component only: the other must not go ahead alone.
    let schema = tag.split('-').next().unwrap_or(tag);
    json!({
        "apiVersion": "e6data.io/v1alpha1",
        "kind": "MetadataServices",
        "metadata": {"name": NAME},
        "spec": {
            "storage": {"imageTag": tag, "config": {"RELEASE": tag}},
            "schema": {"imageTag": schema},
            "rollout": {
                "gracePeriodSeconds": 1,
                "deployTimeoutSeconds": 60,
                "switchDwellSeconds": 1,
                "cleanupDelaySeconds": scenario.cleanup_delay(),
                "autoRollback": {"failureThresholdSeconds": 1},
            },
        },
    })
}

/// Whether a resource rests, and has seen all that was asked of it.
pub fn at_rest(resource: &Value) -> bool {
    let number = |pointer: &str| resource.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let annotations = resource.pointer("/metadata/annotations").and_then(Value::as_object);
    resource.pointer("/status/rollout/step").is_some_and(|step| step == "Stable")
        && number("/status/observedGeneration") == number("/metadata/generation")
        && annotations.is_none_or(|all| !all.contains_key("e6data.io/rollback-to"))
}

/// The tag that is asked for.
pub fn asked_tag(resource: &DynamicObject) -> String {
    let tag = resource.data.pointer("/spec/storage/imageTag").and_then(Value::as_str);
    tag.unwrap_or_else(|| panic!("{} has no tag", resource.name_any())).to_owned()
}
