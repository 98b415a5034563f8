//! Kubeconfig files: written with everything inside, so that a copy works anywhere on this machine.

use std::path::Path;

use k8s_openapi::ByteString;

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
