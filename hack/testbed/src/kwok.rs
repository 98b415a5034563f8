//! The simulated node: a Node object, and the stages by which KWOK simulates the node and its Pods.
//!
//! The tag of a Pod's first image selects its behavior. `hack/cluster/stages.yaml` lists the tags.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::addresses::SIMULATED_NODE as NODE;
use crate::error::{Error, IoContext, Result};
use crate::repository::hack_dir;

/// The stages, for a person to read.
pub fn stages() -> PathBuf {
    hack_dir().join("cluster").join("stages.yaml")
}

/// Copies the stages into the run directory, so that a running cluster keeps the ones it started with.
pub(crate) fn write_stages(dir: &Path) -> Result<PathBuf> {
    let from = stages();
    let path = dir.join("stages.yaml");
    std::fs::copy(&from, &path).at("copy", &from)?;
    Ok(path)
}

/// Creates the node, with room for all Pods.
pub(crate) async fn create_node(client: &Client) -> Result<()> {
    let room = json!({"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": "10000"});
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": NODE,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": "local",
            },
        },
        "status": {"allocatable": room, "capacity": room},
    }))
    .map_err(|source| Error::Json { what: "the node".into(), source })?;
    match Api::<Node>::all(client.clone()).create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

/// True when the node of that name is Ready and takes pods.
pub(crate) async fn node_ready(client: &Client, name: &str) -> bool {
    let Ok(node) = Api::<Node>::all(client.clone()).get(name).await else { return false };
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let tainted = node.spec.and_then(|spec| spec.taints).is_some_and(|taints| !taints.is_empty());
    !tainted && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
