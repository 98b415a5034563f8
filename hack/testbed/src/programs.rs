//! The command lines of the control plane's processes.

use std::path::{Path, PathBuf};

use crate::addresses::{LOOPBACK, REAL_NODE, REAL_NODE_ADDRESS, SERVICE_RANGE};
use crate::assets::ControlPlane;
use crate::certs::{APISERVER, Authority, Files};
use crate::error::{IoContext, Result};
use crate::options::Options;
use crate::ports::free_port;
use crate::process::Program;
use crate::repository::hack_dir;
use crate::{kubeconfig, kwok};

/// Where one control plane listens: on loopback, but with a real node its API server on the node's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The API server's address.
    host: &'static str,
    pub etcd: u16,
    etcd_peer: u16,
    pub apiserver: u16,
    kwok: u16,
}

impl Ports {
    pub fn free(real_node: bool) -> Result<Self> {
        Ok(Self {
            host: if real_node { REAL_NODE_ADDRESS } else { LOOPBACK },
            etcd: free_port()?,
            etcd_peer: free_port()?,
            apiserver: free_port()?,
            kwok: free_port()?,
        })
    }

    pub fn server(self) -> String {
        format!("https://{}:{}", self.host, self.apiserver)
    }
}

/// Everything on disk that the processes read.
#[derive(Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
    files: Files,
    stages: PathBuf,
    policy: PathBuf,
    pub admin: PathBuf,
    pub probe: PathBuf,
    pub audit: PathBuf,
}

impl Layout {
    /// Writes certificates, kubeconfigs and stages into `dir`.
    pub fn write(dir: &Path, ports: Ports, authority: &Authority, extra_names: &[String]) -> Result<Self> {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs).at("create", &logs)?;
        let names: Vec<String> =
            extra_names.iter().cloned().chain([ports.host, REAL_NODE].map(str::to_owned)).collect();
        let files = authority.write(&dir.join("pki"), &names)?;
        let kubelet = format!("system:node:{REAL_NODE}");
        let users = [
            ("kubeconfig", "testbed:admin", Some("system:masters")),
            ("probe.kubeconfig", "testbed:probe", Some("system:masters")),
            ("kwok.kubeconfig", "testbed:kwok", Some("system:masters")),
            ("controller-manager.kubeconfig", "system:kube-controller-manager", None),
            ("scheduler.kubeconfig", "system:kube-scheduler", None),
            ("kubelet.kubeconfig", &kubelet, Some("system:nodes")),
            ("kube-proxy.kubeconfig", "system:kube-proxy", None),
        ];
        for (name, user, group) in users {
            kubeconfig::write(&dir.join(name), &ports.server(), authority, &authority.client(user, group)?)?;
        }
        Ok(Self {
            files,
            stages: kwok::write_stages(dir)?,
            policy: hack_dir().join("cluster").join("audit-policy.yaml"),
            admin: dir.join("kubeconfig"),
            probe: dir.join("probe.kubeconfig"),
            audit: logs.join("audit.log"),
            dir: dir.to_path_buf(),
        })
    }

    /// The processes in the order they are started; they are stopped in the opposite order.
    pub fn control_plane(&self, plane: &ControlPlane, ports: Ports, options: &Options) -> Vec<Program> {
        let mut apiserver = self.apiserver_args(ports);
        apiserver.extend(options.apiserver_args.iter().cloned());
        vec![
            self.program("etcd", &plane.etcd, self.etcd_args(ports)),
            self.program("kube-apiserver", &plane.kube_apiserver, apiserver),
            self.program("kube-controller-manager", &plane.kube_controller_manager, self.manager_args()),
            self.program("kube-scheduler", &plane.kube_scheduler, self.scheduler_args()),
        ]
    }

    /// The player of a node that is not there.
    pub fn kwok(&self, path: &Path, ports: Ports) -> Program {
        self.program("kwok", path, self.kwok_args(ports))
    }

    fn program(&self, name: &str, path: &Path, args: Vec<String>) -> Program {
        Program {
            name: name.to_owned(),
            path: path.to_path_buf(),
            args,
            // KWOK would read a configuration from the home directory.
            env: vec![("KWOK_WORKDIR".to_owned(), self.dir.display().to_string())],
            log: self.dir.join("logs").join(format!("{name}.log")),
        }
    }

    fn etcd_args(&self, ports: Ports) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", ports.etcd);
        let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
        vec![
            format!("--data-dir={}", self.dir.join("etcd").display()),
            "--unsafe-no-fsync".into(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ]
    }

    fn apiserver_args(&self, ports: Ports) -> Vec<String> {
        let files = &self.files;
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
            format!("--bind-address={}", ports.host),
            format!("--advertise-address={}", ports.host),
            format!("--secure-port={}", ports.apiserver),
            format!("--tls-cert-file={}", files.server_certificate.display()),
            format!("--tls-private-key-file={}", files.server_key.display()),
            format!("--client-ca-file={}", files.ca.display()),
            format!("--service-account-key-file={}", files.service_account_public.display()),
            format!("--service-account-signing-key-file={}", files.service_account_key.display()),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--authorization-mode=Node,RBAC".into(),
            "--allow-privileged=true".into(),
            format!("--audit-policy-file={}", self.policy.display()),
            format!("--audit-log-path={}", self.audit.display()),
            "--audit-log-mode=blocking".into(),
            "--audit-log-maxsize=2000".into(),
        ];
        if ports.host == LOOPBACK {
            // On loopback the server cannot publish an address of its own.
            args.push("--endpoint-reconciler-type=none".into());
        } else {
            // For `kubectl logs` and `exec`.
            args.push("--kubelet-preferred-address-types=InternalIP".into());
            args.push(format!("--kubelet-client-certificate={}", files.client_certificate.display()));
            args.push(format!("--kubelet-client-key={}", files.client_key.display()));
            args.extend(self.aggregation_args());
        }
        args
    }

    /// For servers of further APIs, which believe the API server who asks.
    fn aggregation_args(&self) -> Vec<String> {
        let files = &self.files;
        vec![
            format!("--proxy-client-cert-file={}", files.client_certificate.display()),
            format!("--proxy-client-key-file={}", files.client_key.display()),
            format!("--requestheader-client-ca-file={}", files.ca.display()),
            format!("--requestheader-allowed-names={APISERVER}"),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        ]
    }

    fn manager_args(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.dir.join("controller-manager.kubeconfig").display()),
            format!("--service-account-private-key-file={}", self.files.service_account_key.display()),
            format!("--root-ca-file={}", self.files.ca.display()),
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            // With the default of 20 requests a second it takes five seconds to give every controller its account.
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
            format!("--flex-volume-plugin-dir={}", self.dir.join("flexvolume").display()),
            // On a slow machine the node must not count as lost.
            "--node-monitor-grace-period=5m".into(),
        ]
    }

    fn scheduler_args(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.dir.join("scheduler.kubeconfig").display()),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ]
    }

    fn kwok_args(&self, ports: Ports) -> Vec<String> {
        vec![
            format!("--config={}", self.stages.display()),
            format!("--kubeconfig={}", self.dir.join("kwok.kubeconfig").display()),
            "--manage-all-nodes=true".into(),
            "--node-ip=127.0.0.1".into(),
            format!("--server-address=127.0.0.1:{}", ports.kwok),
            "--cidr=10.1.0.0/16".into(),
            "--node-lease-duration-seconds=40".into(),
        ]
    }
}
