//! The files and command lines of the node's daemons.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::machine;
use crate::addresses::{POD_RANGE, REAL_NODE, REAL_NODE_ADDRESS};
use crate::error::{Error, IoContext, Result};
use crate::options::Options;
use crate::process::Program;

/// The container that holds a pod's namespaces; its image is of our own making.
pub(crate) const PAUSE_IMAGE: &str = "docker.io/local/pause:1";

/// The node's files, all below one directory.
#[derive(Debug)]
pub(crate) struct Files {
    run: PathBuf,
    dir: PathBuf,
}

impl Files {
    /// Writes them into `run`/node.
    pub fn write(run: &Path, cgroup: &str, options: &Options) -> Result<Self> {
        let files = Self::written(run);
        let network = files.dir.join("cni");
        std::fs::create_dir_all(&network).at("create", &network)?;
        files.text("containerd.toml", &files.containerd())?;
        files.json("cni/10-pods.conflist", &files.network())?;
        files.json("kubelet.json", &files.kubelet(cgroup))?;
        files.json("kube-proxy.json", &files.proxy(options.proxy_mode.as_deref()))?;
        Ok(files)
    }

    /// Returns the files of an existing node.
    pub fn written(run: &Path) -> Self {
        Self { run: run.to_path_buf(), dir: run.join("node") }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// containerd's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// The daemons in the order they are started.
    pub fn programs(&self, kubelet: &Path, proxy: &Path) -> Vec<Program> {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.dir.join(file).display());
        let kubelet_args = vec![
            flag("config", "kubelet.json"),
            format!("--kubeconfig={}", self.run.join("kubelet.kubeconfig").display()),
            flag("root-dir", "kubelet"),
            flag("cert-dir", "kubelet-pki"),
            format!("--node-ip={REAL_NODE_ADDRESS}"),
            format!("--hostname-override={REAL_NODE}"),
        ];
        vec![
            self.program("containerd", Path::new("containerd"), vec![flag("config", "containerd.toml")]),
            self.program("kube-proxy", proxy, vec![flag("config", "kube-proxy.json")]),
            self.program("kubelet", kubelet, kubelet_args),
        ]
    }

    /// containerd's client, for a command on the node's images.
    pub fn ctr(&self, command: &[&str]) -> Program {
        let socket = format!("--address={}", self.socket().display());
        let words = command.iter().map(ToString::to_string);
        let args = [socket, "--namespace=k8s.io".into()].into_iter().chain(words).collect();
        self.program("ctr", Path::new("ctr"), args)
    }

    fn program(&self, name: &str, path: &Path, args: Vec<String>) -> Program {
        let log = self.run.join("logs").join(format!("{name}.log"));
        Program { name: name.into(), path: path.to_path_buf(), args, env: Vec::new(), log }
    }

    fn text(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).at("write", &path)
    }

    fn json(&self, name: &str, value: &Value) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|source| Error::Json { what: name.to_owned(), source })?;
        self.text(name, &text)
    }

    fn containerd(&self) -> String {
        let dir = self.dir.display();
        let plugins = machine::plugin_dir();
        format!(
            "version = 2\n\
             root = \"{dir}/containerd\"\n\
             state = \"{dir}/containerd-state\"\n\
             [grpc]\n  address = \"{socket}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n  \
               sandbox_image = \"{PAUSE_IMAGE}\"\n  \
               # Machines without CAP_SYS_RESOURCE may not lower the score.\n  \
               restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  \
               bin_dir = \"{plugins}\"\n  \
               conf_dir = \"{dir}/cni\"\n",
            socket = self.socket().display(),
            plugins = plugins.display(),
        )
    }

    fn network(&self) -> Value {
        json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true, "ipMasq": false,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": self.dir.join("addresses"),
                        "ranges": [[{"subnet": POD_RANGE}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
    }

    fn kubelet(&self, cgroup: &str) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.run.join("pki/ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup,
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "eventRecordQPS": 0,
            // A full disk of the machine must not evict Pods.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "failCgroupV1": false,
            "failSwapOn": false,
            "healthzPort": 0,
            "imageGCHighThresholdPercent": 100,
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
            "maxPods": 200,
            "podLogsDir": "/var/log/pods",
            "resolvConf": "",
            "volumePluginDir": self.dir.join("volume-plugins"),
        })
    }

    fn proxy(&self, mode: Option<&str>) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": self.run.join("kube-proxy.kubeconfig")},
            "clusterCIDR": POD_RANGE,
            // These would change settings of the whole machine's kernel.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "hostnameOverride": REAL_NODE,
            "mode": mode.unwrap_or("iptables"),
        })
    }
}
