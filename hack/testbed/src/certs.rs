//! A certificate authority of our own: the server's certificate, client certificates for any user, and the
//! key that signs `ServiceAccount` tokens.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::error::{IoContext, Result};

/// The names by which pods and people reach the API server.
const SERVER_NAMES: [&str; 6] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"];

/// Whom others see in the API server.
pub(crate) const APISERVER: &str = "testbed:kube-apiserver";

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PKCS#8 PEM, ECDSA P-256.
    pub key: String,
}

/// A certificate authority whose key lives in memory only.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Where [`Authority::write`] put the files the servers need.
#[derive(Debug, Clone)]
pub struct Files {
    /// The authority's certificate: `ca.crt`.
    pub ca: PathBuf,
    /// The API server's certificate.
    pub server_certificate: PathBuf,
    /// The API server's key.
    pub server_key: PathBuf,
    /// Signs `ServiceAccount` tokens: ECDSA P-256, PKCS#8 PEM.
    pub service_account_key: PathBuf,
    /// By which the API server speaks to kubelets (logs, exec) and, for others, to servers of further APIs (metrics).
    pub client_certificate: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
    /// Verifies the tokens. The API server finds no public key in a PKCS#8 file of this kind, so it has one of its own.
    pub service_account_public: PathBuf,
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "testbed-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server certificate for the API server's usual names and for `extra` ones (names or addresses).
    ///
    /// # Errors
    /// When a name is not a DNS name or an address.
    pub fn server(&self, extra: &[String]) -> Result<Identity> {
        let names = SERVER_NAMES.iter().map(ToString::to_string).chain(extra.iter().cloned());
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client certificate: the API server takes `user` as the user's name and `group` as its one group.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Writes the authority, a server certificate and the `ServiceAccount` key into `dir`.
    ///
    /// # Errors
    /// When a certificate cannot be made or a file not written.
    pub fn write(&self, dir: &Path, extra_names: &[String]) -> Result<Files> {
        std::fs::create_dir_all(dir).at("create", dir)?;
        let server = self.server(extra_names)?;
        let files = Files {
            ca: dir.join("ca.crt"),
            server_certificate: dir.join("apiserver.crt"),
            server_key: dir.join("apiserver.key"),
            service_account_key: dir.join("sa.key"),
            service_account_public: dir.join("sa.pub"),
            client_certificate: dir.join("apiserver-client.crt"),
            client_key: dir.join("apiserver-client.key"),
        };
        write_private(&files.ca, &self.pem())?;
        write_private(&files.server_certificate, &server.certificate)?;
        write_private(&files.server_key, &server.key)?;
        let client = self.client(APISERVER, Some("system:masters"))?;
        write_private(&files.client_certificate, &client.certificate)?;
        write_private(&files.client_key, &client.key)?;
        let signer = KeyPair::generate()?;
        write_private(&files.service_account_key, &signer.serialize_pem())?;
        write_private(&files.service_account_public, &signer.public_key_pem())?;
        Ok(files)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .at("create", path)?;
    file.write_all(text.as_bytes()).at("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_pem_and_differ() {
        let authority = Authority::new().unwrap();
        let first = authority.client("alice", Some("system:masters")).unwrap();
        let second = authority.client("bob", None).unwrap();
        assert!(first.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(first.key.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_ne!(first.key, second.key);
    }

    #[test]
    fn a_server_name_must_be_one() {
        let authority = Authority::new().unwrap();
        assert!(authority.server(&["10.89.0.10".to_owned(), "node.test".to_owned()]).is_ok());
        assert!(authority.server(&["not a name \u{e9}".to_owned()]).is_err());
    }
}
