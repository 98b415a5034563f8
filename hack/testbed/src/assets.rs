//! The programs of the control plane: from `KUBEBUILDER_ASSETS`, or built from their Go modules into the cache.

use std::path::PathBuf;

use crate::error::{Error, IoContext, Result};
use crate::golang::{
    ARGO_ROLLOUTS, ETCD, HELM, HELM3, KUBERNETES, KUBERNETES_1_30, KWOK, METRICS_SERVER, Module, NODE,
};

/// Where the programs of a control plane are.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// The store.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers of Deployments, `EndpointSlices` and the like.
    pub kube_controller_manager: PathBuf,
    /// Binds pods to nodes.
    pub kube_scheduler: PathBuf,
    /// The command-line client.
    pub kubectl: PathBuf,
}

/// Finds or builds the control plane. With `KUBEBUILDER_ASSETS`, etcd, kube-apiserver and kubectl must be there;
/// the two others are taken from there when they are, else built.
///
/// # Errors
/// When a program is neither given nor can be built; the message names the remedy.
pub fn control_plane() -> Result<ControlPlane> {
    Ok(ControlPlane {
        etcd: given_or(&ETCD, "etcd", true)?,
        kube_apiserver: given_or(&KUBERNETES, "kube-apiserver", true)?,
        kube_controller_manager: given_or(&KUBERNETES, "kube-controller-manager", false)?,
        kube_scheduler: given_or(&KUBERNETES, "kube-scheduler", false)?,
        kubectl: kubectl()?,
    })
}

/// Finds or builds the control plane of Kubernetes 1.30, as a directory for `KUBEBUILDER_ASSETS`.
///
/// # Errors
/// When it cannot be built.
pub fn kubernetes_1_30() -> Result<PathBuf> {
    let dir = KUBERNETES_1_30.all()?;
    let etcd = dir.join("etcd");
    if !etcd.exists() {
        let there = ETCD.program("etcd")?;
        std::os::unix::fs::symlink(&there, &etcd).at("link to", &there)?;
    }
    Ok(dir)
}

/// Finds or builds kubectl, of the control plane's version.
///
/// # Errors
/// When it is neither given nor can be built.
pub fn kubectl() -> Result<PathBuf> {
    given_or(&KUBERNETES, "kubectl", true)
}

/// Finds or builds KWOK, which plays nodes and pods.
///
/// # Errors
/// When it cannot be built.
pub fn kwok() -> Result<PathBuf> {
    KWOK.program("kwok")
}

/// Finds or builds Helm.
///
/// # Errors
/// When it cannot be built.
pub fn helm() -> Result<PathBuf> {
    HELM.program("helm")
}

/// Finds or builds Helm 3.
///
/// # Errors
/// When it cannot be built.
pub fn helm3() -> Result<PathBuf> {
    HELM3.program("helm")
}

/// Finds or builds the controller of Argo Rollouts; with the directory of its CRDs.
///
/// # Errors
/// When it cannot be built.
pub fn argo_rollouts() -> Result<(PathBuf, PathBuf)> {
    let program = ARGO_ROLLOUTS.program("rollouts-controller")?;
    Ok((program, ARGO_ROLLOUTS.files()?.join("manifests/crds")))
}

/// The server that `kubectl top` asks, and the directory of its manifests.
///
/// # Errors
/// When it cannot be built.
pub fn metrics_server() -> Result<(PathBuf, PathBuf)> {
    let program = METRICS_SERVER.program("metrics-server")?;
    Ok((program, METRICS_SERVER.files()?.join("manifests/base")))
}

/// Finds or builds kubelet, which runs the pods of a real node.
///
/// # Errors
/// When it is neither given nor can be built.
pub fn kubelet() -> Result<PathBuf> {
    given_or(&NODE, "kubelet", false)
}

/// Finds or builds kube-proxy, which leads the traffic of a real node.
///
/// # Errors
/// When it is neither given nor can be built.
pub fn kube_proxy() -> Result<PathBuf> {
    given_or(&NODE, "kube-proxy", false)
}

/// A kubectl without building one: from `KUBEBUILDER_ASSETS`, the cache, or else by name from `PATH`.
pub fn kubectl_at_hand() -> PathBuf {
    given("kubectl").or_else(|| KUBERNETES.built("kubectl")).unwrap_or_else(|| PathBuf::from("kubectl"))
}

fn given(program: &str) -> Option<PathBuf> {
    let path = assets_dir()?.join(program);
    path.is_file().then_some(path)
}

fn given_or(module: &Module, program: &str, required: bool) -> Result<PathBuf> {
    match (given(program), assets_dir()) {
        (Some(path), _) => Ok(path),
        (None, Some(dir)) if required => Err(Error::Unsupported(format!(
            "KUBEBUILDER_ASSETS is {} but there is no {program} in it: run `setup-envtest use`, or unset it",
            dir.display()
        ))),
        _ => module.program(program),
    }
}

fn assets_dir() -> Option<PathBuf> {
    std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from)
}
