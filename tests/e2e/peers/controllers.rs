//! The peers: how each is installed, and how it is asked for a release.

use std::path::PathBuf;
use std::process::Command;

use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use testbed::resource::merge;
use testbed::{Cluster, Operator, assets};

use crate::resource_under_load::NAME;
use testbed::harness::TestEnv;

const COMPONENTS: [(&str, u16); 2] = [("storage", 9005), ("schema", 9006)];

/// The old release stays as long as Argo's does by default.
fn no_waits() -> Value {
    json!({"gracePeriodSeconds": 0, "switchDwellSeconds": 0, "cleanupDelaySeconds": 30})
}

/// Who brings the releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This operator, with no waits but the one that keeps the old release warm, which is Argo's default.
    Ours,
    /// This operator with its default timings.
    OursByDefault,
    /// Argo Rollouts: a Rollout a component, blue-green.
    Argo,
    /// A Deployment a component.
    Plain,
}

/// A peer at work.
pub struct PeerRun {
    pub env: TestEnv,
    peer: Peer,
    tag: u32,
    _controller: Option<Operator>,
}

impl Peer {
    pub const ALL: [Self; 4] = [Self::Ours, Self::OursByDefault, Self::Argo, Self::Plain];

    /// How the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "this operator, no waits",
            Self::OursByDefault => "this operator, default timings (one run)",
            Self::Argo => "Argo Rollouts, two Rollouts, `blueGreen`",
            Self::Plain => "two Deployments, `RollingUpdate`",
        }
    }

    /// Returns a word for names of files.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursByDefault => "default",
            Self::Argo => "argo",
            Self::Plain => "plain",
        }
    }

    /// Returns whether upgrades are measured. With other timers they are the same, and take minutes.
    pub fn upgrades(self) -> bool {
        self != Self::OursByDefault
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursByDefault)
    }

    /// Installs the controller and a first release.
    pub async fn open(self, cluster: &Cluster, mut env: TestEnv) -> PeerRun {
        let mut controller = None;
        match self {
            Self::Ours | Self::OursByDefault => {
                env.start();
                let mut spec = json!({"imageRepository": "e2e", "rollout": no_waits()});
                merge(&mut spec, &ours(1, &[], &[]));
                let (subject, _) = env.deploy(NAME, &spec).await;
                if self == Self::OursByDefault {
                    subject.edit(&json!({"rollout": null})).await.unwrap();
                }
            }
            Self::Argo | Self::Plain => {
                if self == Self::Argo {
                    controller = Some(argo(cluster, &env).await);
                }
                for (component, port) in COMPONENTS {
                    apply(&env, "v1", "Service", service(component, port)).await;
                }
            }
        }
        let mut run = PeerRun { env, peer: self, tag: 0, _controller: controller };
        run.ask(&[], &[]).await;
        run
    }
}

impl PeerRun {
    /// Asks for a release with a new tag and further variables for storage and schema. Returns the tag.
    pub async fn ask(&mut self, storage: &[(&str, &str)], schema: &[(&str, &str)]) -> u32 {
        self.tag += 1;
        let (tag, env) = (self.tag, &self.env);
        if self.peer.is_ours() {
            env.subject(NAME).edit(&ours(tag, storage, schema)).await.unwrap();
            return tag;
        }
        for ((component, port), more) in COMPONENTS.into_iter().zip([storage, schema]) {
            let (version, kind) = match self.peer {
                Peer::Argo => ("argoproj.io/v1alpha1", "Rollout"),
                _ => ("apps/v1", "Deployment"),
            };
            let mut workload = workload(component, port, tag, more);
            if kind == "Rollout" {
                workload["spec"]["strategy"] = json!({"blueGreen": {"activeService": front(component)}});
            }
            apply(env, version, kind, workload).await;
        }
        tag
    }
}

fn front(component: &str) -> String {
    format!("{NAME}-{component}")
}

fn env(component: &str, tag: u32, more: &[(&str, &str)]) -> Vec<Value> {
    let mut env = vec![
        json!({"name": "COMPONENT", "value": component}),
        json!({"name": "RELEASE", "value": tag.to_string()}),
        json!({"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    ];
    env.extend(more.iter().map(|(name, value)| json!({"name": name, "value": value})));
    env
}

fn probe(port: u16) -> Value {
    json!({"httpGet": {"path": "/readyz", "port": port}, "periodSeconds": 1, "failureThreshold": 2})
}

/// Returns a release of both components as part of the spec.
fn ours(tag: u32, storage: &[(&str, &str)], schema: &[(&str, &str)]) -> Value {
    let component = |(component, port): (&str, u16), more| {
        json!({
            "imageTag": tag.to_string(), "replicas": 2, "env": env(component, tag, more),
            "readinessProbe": probe(port),
        })
    };
    json!({"storage": component(COMPONENTS[0], storage), "schema": component(COMPONENTS[1], schema)})
}

/// The same pods in a Deployment or a Rollout.
fn workload(component: &str, port: u16, tag: u32, more: &[(&str, &str)]) -> Value {
    let labels = json!({"app": NAME, "component": component});
    json!({
        "metadata": {"name": front(component)},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 30, "containers": [{
                "name": component, "image": format!("e2e/{component}:{tag}"), "env": env(component, tag, more),
                "ports": [{"containerPort": port}], "readinessProbe": probe(port),
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            }]},
        }},
    })
}

fn service(component: &str, port: u16) -> Value {
    json!({
        "metadata": {"name": front(component)},
        "spec": {"selector": {"app": NAME, "component": component}, "ports": [{"port": port}]},
    })
}

fn of_kind(env: &TestEnv, version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
}

/// Server-side apply keeps the fields of other clients.
async fn apply(env: &TestEnv, version: &str, kind: &str, mut object: Value) {
    merge(&mut object, &json!({"apiVersion": version, "kind": kind}));
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("peers").force();
    of_kind(env, version, kind).patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
}

/// Installs the CRDs and starts the controller beside the control plane, as our operator runs.
async fn argo(cluster: &Cluster, env: &TestEnv) -> Operator {
    let (program, crds) = tokio::task::spawn_blocking(assets::argo_rollouts).await.unwrap().unwrap();
    let apply = Command::new(assets::kubectl().unwrap())
        .args(["apply", "--server-side", "-k"])
        .arg(crds)
        .env("KUBECONFIG", cluster.kubeconfig())
        .output()
        .unwrap();
    assert!(apply.status.success(), "{}", String::from_utf8_lossy(&apply.stderr));
    while of_kind(env, "argoproj.io/v1alpha1", "Rollout").list(&ListParams::default()).await.is_err() {
        env.linger(1).await;
    }
    let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e/{}-argo.log", env.namespace));
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    Operator::spawn(&program, cluster.kubeconfig(), &["--leader-elect=false"], &log).unwrap()
}
