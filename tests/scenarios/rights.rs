//! The shipped rights: every operator of the scenarios works under them, as its pod would, and what it used of them is
//! written down for `tests/rights.rs`, which compares the two.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use testbed::Cluster;
use testbed::audit::{AuditLog, Request};
use testbed::cluster::client_of;
use tokio::sync::OnceCell;

use crate::bed::PATIENCE;

/// The user that the pod's ServiceAccount is to the API server.
const USER: &str = "system:serviceaccount:e6-operator-system:e6-operator-controller-manager";
/// How the audit log shows a request for the CRD, which is in no namespace.
pub const OF_THE_CRD: &str = "\"resource\":\"customresourcedefinitions\"";
const LEASES: &str = "e6-operator-leader-election-role";

static KUBECONFIG: OnceCell<Option<PathBuf>> = OnceCell::const_new();

/// The kubeconfig of [`USER`], who has the shipped rights; none for a cluster that is not ours.
pub async fn kubeconfig(cluster: &Cluster) -> Option<&'static Path> {
    let grant = async || {
        let path = cluster.kubeconfig_for(USER, None).ok()?;
        install(&cluster.client().unwrap()).await;
        // The API server learns of a binding a moment after it is created.
        let leases: Api<Lease> = Api::namespaced(client_of(&path).unwrap(), "default");
        let start = Instant::now();
        while leases.get_opt("none").await.is_err() {
            assert!(start.elapsed() < PATIENCE, "the shipped rights are not in force");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(path)
    };
    KUBECONFIG.get_or_init(grant).await.as_deref()
}

/// The documents of the shipped rights.
fn shipped() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/rbac/role.yaml");
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Grants the shipped cluster-wide rights to [`USER`].
async fn install(client: &Client) {
    for document in shipped() {
        let post = PostParams::default();
        match document["kind"].as_str().unwrap() {
            "ClusterRole" => {
                let role = serde_json::from_value(document).unwrap();
                Api::<ClusterRole>::all(client.clone()).create(&post, &role).await.unwrap();
            }
            "ClusterRoleBinding" => {
                let binding = serde_json::from_value(document).unwrap();
                Api::<ClusterRoleBinding>::all(client.clone()).create(&post, &binding).await.unwrap();
            }
            // The Role for leases is for the operator's own namespace; here each scenario has one of its own.
            "Role" => {
                let role = json!({"metadata": {"name": LEASES}, "rules": document["rules"]});
                let role = serde_json::from_value(role).unwrap();
                Api::<ClusterRole>::all(client.clone()).create(&post, &role).await.unwrap();
                let binding = json!({"metadata": {"name": LEASES},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": LEASES},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]});
                let binding = serde_json::from_value(binding).unwrap();
                Api::<ClusterRoleBinding>::all(client.clone()).create(&post, &binding).await.unwrap();
            }
            _ => {}
        }
    }
}

/// Writes down what was used; answers with what was refused.
pub fn record<'a>(audit: impl Iterator<Item = &'a AuditLog>, namespace: &str) -> Vec<String> {
    let requests: Vec<Request> = audit.flat_map(|log| log.by_user(USER).requests().to_vec()).collect();
    let asked = requests.iter().filter(|request| !request.resource.is_empty());
    let (refused, used): (Vec<&Request>, Vec<&Request>) = asked.partition(|request| request.denied);
    let used: BTreeSet<String> = used.into_iter().map(right).collect();
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rights");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(namespace), used.into_iter().collect::<Vec<_>>().join("\n")).unwrap();
    refused.into_iter().map(|request| format!("forbidden: {}", right(request))).collect()
}

fn right(request: &Request) -> String {
    let resource = match request.subresource.as_str() {
        "" => request.resource.clone(),
        subresource => format!("{}/{subresource}", request.resource),
    };
    format!("{} {} {resource}", request.verb, request.group)
}
