//! The RBAC rights that the operator is shipped with. Operators of a [`super::TestEnv`] run with them, as their Pods
//! would. The rights that they use are noted for `tests/rights.rs`, which compares the two sets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::limits::TIME_LIMIT;
use crate::Cluster;
use crate::audit::{AuditLog, Request};
use crate::cluster::client_of;
use crate::pace;

/// The name by which the API server knows the ServiceAccount of the operator's Pod.
const USER: &str = "system:serviceaccount:e6-operator-system:e6-operator-controller-manager";

/// The file with the shipped rights.
const ROLES: &str = "config/rbac/role.yaml";

/// The text by which a line of the audit log shows a request for a CRD, which has no namespace.
pub(super) const CRD_REQUEST: &str = "\"resource\":\"customresourcedefinitions\"";

/// The name of the role for leases.
const LEASES: &str = "e6-operator-leader-election-role";

/// A user with exactly the shipped rights.
#[derive(Debug)]
pub struct ShippedRights {
    /// The kubeconfig of the user.
    pub kubeconfig: PathBuf,
}

impl ShippedRights {
    /// Grants the shipped rights to a new user. None for an existing cluster, which has no such user.
    pub async fn grant(cluster: &Cluster) -> Option<Self> {
        let kubeconfig = cluster.kubeconfig_for(USER, None).ok()?;
        install(&cluster.client().unwrap()).await;
        // The API server applies a binding a moment after its creation.
        let leases: Api<Lease> = Api::namespaced(client_of(&kubeconfig).unwrap(), "default");
        let start = Instant::now();
        while leases.get_opt("none").await.is_err() {
            assert!(pace::elapsed(start) < TIME_LIMIT, "the shipped rights are not in force");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(Self { kubeconfig })
    }
}

/// Returns the documents of the shipped rights.
fn shipped() -> Vec<Value> {
    let path = crate::repository::root().join(ROLES);
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Grants the shipped rights to [`USER`].
async fn install(client: &Client) {
    for document in shipped() {
        match document["kind"].as_str().unwrap() {
            "ClusterRole" => create::<ClusterRole>(client, document).await,
            "ClusterRoleBinding" => create::<ClusterRoleBinding>(client, document).await,
            // The shipped Role is for the operator's namespace. Here the leases are in the namespace of each test.
            "Role" => {
                let role = json!({"metadata": {"name": LEASES}, "rules": document["rules"]});
                create::<ClusterRole>(client, role).await;
                let binding = json!({"metadata": {"name": LEASES},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": LEASES},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]});
                create::<ClusterRoleBinding>(client, binding).await;
            }
            _ => {}
        }
    }
}

async fn create<K>(client: &Client, object: Value)
where
    K: kube::Resource<DynamicType = ()> + serde::Serialize + serde::de::DeserializeOwned,
    K: Clone + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::<K>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
}

/// Notes the rights that the requests used in `dir`, and returns the requests that the API server denied.
pub(super) fn record<'a>(
    audit: impl Iterator<Item = &'a AuditLog>,
    dir: &Path,
    namespace: &str,
) -> Vec<String> {
    let requests: Vec<Request> = audit.flat_map(|log| log.by_user(USER).requests().to_vec()).collect();
    let requests = requests.iter().filter(|request| !request.resource.is_empty());
    let (denied, allowed): (Vec<&Request>, Vec<&Request>) = requests.partition(|request| request.denied);
    let used: BTreeSet<String> = allowed.into_iter().map(right).collect();
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join(namespace), used.into_iter().collect::<Vec<_>>().join("\n")).unwrap();
    denied.into_iter().map(|request| format!("forbidden: {}", right(request))).collect()
}

fn right(request: &Request) -> String {
    format!("{} {} {}", request.verb, request.group, request.target())
}
