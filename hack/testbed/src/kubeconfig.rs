//! Kubeconfig files, and clients for them. A file contains its certificates, so a copy works anywhere on this machine.

use std::path::Path;

use futures::FutureExt;
use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::certs::{Authority, Identity, write_private};
use crate::error::{Error, Result};

/// Writes a kubeconfig for `server` (an URL) with the client certificate `identity`.
pub(crate) fn write(path: &Path, server: &str, authority: &Authority, identity: &Identity) -> Result<()> {
    let text = format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: testbed\n\
         clusters:\n\
         - name: testbed\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
         users:\n\
         - name: testbed\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
         contexts:\n\
         - name: testbed\n  context:\n    cluster: testbed\n    user: testbed\n    namespace: default\n",
        ca = base64(&authority.pem())?,
        certificate = base64(&identity.certificate)?,
        key = base64(&identity.key)?,
    );
    write_private(path, &text)
}

/// The way Kubernetes writes bytes into YAML.
fn base64(text: &str) -> Result<String> {
    serde_json::to_value(ByteString(text.as_bytes().to_vec()))
        .map(|value| value.as_str().unwrap_or_default().to_owned())
        .map_err(|source| Error::Json { what: "certificate".into(), source })
}

/// Returns a client for a kubeconfig, with the user agent `testbed`. It ignores the proxy variables of the environment.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub fn client_of(kubeconfig: &Path) -> Result<Client> {
    Ok(Client::try_from(config_of(kubeconfig)?)?)
}

/// Returns a client that does not repeat a failed request.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub(crate) fn probe_of(kubeconfig: &Path) -> Result<Client> {
    let mut config = config_of(kubeconfig)?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn config_of(kubeconfig: &Path) -> Result<Config> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    // The function is asynchronous by its signature only.
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .now_or_never()
        .ok_or_else(|| Error::Unsupported(format!("{} could not be read at once", kubeconfig.display())))??;
    config.proxy_url = None;
    // A client of kube-rs sends no user agent by default; the audit log identifies clients by it.
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static("testbed")));
    Ok(config)
}
