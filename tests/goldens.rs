//! Compares the rendered objects of a release with golden files, byte for byte.
//!
//! A difference means that this version renders releases of an earlier version differently (design D4). If the change is
//! intended, run `UPDATE=1 cargo test --test goldens` to rewrite the files, and read the difference.

// A test fails by unwrapping or indexing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::{fs, path::PathBuf};

use api::names::{Color, Component, Owner};
use api::{MetadataServicesSpec, status::MetadataServicesStatus, template::ReleaseTemplate};
use e6_operator::resources::{
    Defaults, Release, config_map, controller_revision,
    deployment::{self, InPlace},
    pdb,
    service::{self, Stamp},
    service_account,
};
use serde::Serialize;
use serde_json::{Value, json};

const MINIMAL: &str = r#"{"storage": {"imageTag": "1.0.437"}, "schema": {"imageTag": "1.0.547"}}"#;
const FULL: &str = include_str!("data/full-spec.json");

struct Case {
    name: &'static str,
    spec: MetadataServicesSpec,
    owner: Owner,
    defaults: Defaults,
    color: Color,
    version: &'static str,
}

fn cases() -> [Case; 2] {
    let owner = Owner {
        name: "sample1".into(),
        namespace: "autoscalingv2".into(),
        uid: "6a8c9a3e-0000-4000-8000-000000000001".into(),
    };
    let defaults = Defaults { image_repository: "registry.example.com/default".into(), sleep_action: true };
    let case = |name, text, color, version| Case {
        name,
        spec: serde_json::from_str(text).unwrap(),
        owner: owner.clone(),
        defaults: defaults.clone(),
        color,
        version,
    };
    [
        case("minimal", MINIMAL, Color::Blue, "v20261122-101500-e994e90"),
        case("full", FULL, Color::Green, "v2026.11"),
    ]
}

/// Documents of a golden file.
#[derive(Default)]
struct Documents(String);

impl Documents {
    fn add(&mut self, object: &impl Serialize) {
        // The same form as in a request: sorted keys, and no defaults of absent fields.
        let value = serde_json::to_value(object).unwrap();
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        self.0.push_str("---\n");
        self.0.push_str(&serde_saphyr::to_string_with_options(&value, options).unwrap());
    }

    /// Compares the documents with the files of all versions: this version must render an object of an earlier version
    /// unchanged.
    fn check(&self, file: &str) {
        if std::env::var_os("UPDATE").is_some() {
            let dir = corpus().join(env!("CARGO_PKG_VERSION"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(file), &self.0).unwrap();
        }
        for version in versions() {
            let committed = fs::read_to_string(version.join(file)).unwrap_or_default();
            assert!(
                committed == self.0,
                "{}/{file} differs from what is rendered now. If that is wanted, run \
                 `UPDATE=1 cargo test --test goldens`, read the difference and commit it. Rendered:\n{}",
                version.display(),
                self.0
            );
        }
    }
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Returns the directories of the versions with golden files.
fn versions() -> Vec<PathBuf> {
    let all: Vec<_> = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(all.contains(&corpus().join(env!("CARGO_PKG_VERSION"))), "this version has none: {all:?}");
    all
}

/// The files contain statuses of each version in each step, as an API server stored them. Reading and writing them loses no
/// field.
#[test]
fn statuses_are_read_whole() {
    for version in versions() {
        let mut steps = vec![];
        for entry in fs::read_dir(version.join("statuses")).unwrap() {
            let path = entry.unwrap().path();
            let stored: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let read: MetadataServicesStatus = serde_json::from_value(stored.clone()).unwrap();
            steps.push(read.rollout.as_ref().unwrap().step.as_str());
            assert_eq!(serde_json::to_value(&read).unwrap(), stored, "{}", path.display());
        }
        steps.sort_unstable();
        assert_eq!(
            steps,
            ["Deploying", "Prune", "RollingBack", "Stable", "Stable", "Switching", "Watching"],
            "{}",
            version.display()
        );
    }
}

#[test]
fn objects_of_a_color() {
    for case in cases() {
        let template = ReleaseTemplate::of(&case.spec);
        let hash = template.hash();
        let release = Release {
            owner: &case.owner,
            template: &template,
            color: case.color,
            version: case.version,
            hash: &hash,
            epoch: 3,
            defaults: &case.defaults,
        };
        for component in Component::ALL {
            let in_place = InPlace::of(case.spec.component(component));
            let mut documents = Documents::default();
            documents.add(&config_map::config_map(&release, component));
            documents.add(&service::color(&release, component));
            documents.add(&deployment::deployment(&release, component, &in_place).unwrap());
            documents.check(&format!("{}-{component}.yaml", case.name));
        }
    }
}

#[test]
fn objects_of_the_resource() {
    for case in cases() {
        let mut documents = Documents::default();
        let served = Stamp {
            color: Some(case.color),
            version: Some(case.version.into()),
            epoch: 4,
            switched_at: Some("2026-11-22T10:20:30Z".into()),
        };
        for component in Component::ALL {
            let part = case.spec.component(component);
            for stamp in [&Stamp::default(), &served] {
                documents.add(&service::front(&case.owner, component, &part.service, stamp));
            }
            let budget = &part.pod_disruption_budget;
            if let Some(budget) = pdb::disruption_budget(&case.owner, component, case.color, budget) {
                documents.add(&budget);
            }
        }
        if let Some(account) = service_account::service_account(&case.owner, &case.spec.service_account) {
            documents.add(&account);
        }
        let template = ReleaseTemplate::of(&case.spec);
        documents.add(&controller_revision::controller_revision(
            &case.owner,
            &template,
            &case.defaults,
            case.version,
            2,
            None,
        ));
        documents.check(&format!("{}-resource.yaml", case.name));
    }
}

/// Returns the rendered Deployment of a release with this spec, on blue.
fn deployment(spec: serde_json::Value, sleep_action: bool) -> serde_json::Value {
    let template = ReleaseTemplate::of(&serde_json::from_value(spec).unwrap());
    let hash = template.hash();
    let [case, _] = cases();
    let release = Release {
        owner: &case.owner,
        template: &template,
        color: Color::Blue,
        version: "v1",
        hash: &hash,
        epoch: 1,
        defaults: &Defaults { image_repository: String::new(), sleep_action },
    };
    let in_place = InPlace::of(template.component(Component::Storage));
    serde_json::to_value(deployment::deployment(&release, Component::Storage, &in_place).unwrap()).unwrap()
}

fn with_storage(storage: &serde_json::Value) -> serde_json::Value {
    json!({"storage": storage, "schema": {"imageTag": "1"}})
}

#[test]
fn the_sleep_before_the_stop_is_shorter_than_the_grace_period() {
    let sleep = |storage: serde_json::Value, known| {
        let rendered = deployment(with_storage(&storage), known);
        rendered["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            .clone()
    };
    assert_eq!(sleep(json!({"imageTag": "1"}), true), 5);
    assert!(sleep(json!({"imageTag": "1"}), false).is_null());
    assert!(sleep(json!({"imageTag": "1", "preStopSleepSeconds": 0}), true).is_null());
    assert_eq!(sleep(json!({"imageTag": "1", "terminationGracePeriodSeconds": 3}), true), 2);
    assert!(sleep(json!({"imageTag": "1", "terminationGracePeriodSeconds": 1}), true).is_null());
    assert_eq!(sleep(json!({"imageTag": "1", "preStopSleepSeconds": 20}), true), 20);
}

#[test]
fn the_labels_that_select_cannot_be_overridden() {
    let rendered = deployment(
        with_storage(&json!({"imageTag": "1", "podLabels": {"app": "x", "strategy": "green", "team": "y"}})),
        true,
    );
    let labels = &rendered["spec"]["template"]["metadata"]["labels"];
    let selector = &rendered["spec"]["selector"]["matchLabels"];
    assert_eq!(labels["team"], "y");
    for key in ["app", "component", "strategy"] {
        assert_eq!(labels[key], selector[key]);
    }
    assert_eq!(selector.as_object().unwrap().len(), 3);
}

#[test]
fn a_repository_need_not_be_given() {
    let rendered = deployment(with_storage(&json!({"imageTag": "1"})), true);
    assert_eq!(rendered["spec"]["template"]["spec"]["containers"][0]["image"], "storage:1");
}

#[test]
fn an_empty_security_context_is_obeyed() {
    let mut spec = with_storage(&json!({"imageTag": "1", "securityContext": {}}));
    spec["podSecurityContext"] = json!({});
    let rendered = deployment(spec, true);
    assert_eq!(rendered["spec"]["template"]["spec"]["securityContext"], json!({}));
    assert_eq!(rendered["spec"]["template"]["spec"]["containers"][0]["securityContext"], json!({}));
}
