//! Builds programs from the pinned Go modules in `hack/cluster`, once, into a cache outside the work tree.
//!
//! The version of a program is the one its `go.mod` requires, and is part of the cache's path. Builders exclude
//! each other by a lock file; a program appears in the cache by a rename, so it is there whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, IoContext, Result};

/// The oldest Go that builds the pinned modules: major and minor.
const OLDEST_GO: (u32, u32) = (1, 26);

const REMEDY: &str = "install Go >= 1.26 (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a directory with etcd, \
    kube-apiserver and kubectl, or set E6_KUBECONFIG to the kubeconfig of an existing cluster";

/// A Go module whose programs are built together.
pub(crate) struct Module {
    /// Its folder in `hack/cluster`.
    pub folder: &'static str,
    /// The module whose version counts.
    pub path: &'static str,
    /// The name of its directory in the cache, before the version.
    pub cache: &'static str,
    /// The programs: name in the cache, package.
    pub programs: &'static [(&'static str, &'static str)],
    /// Flags of the linker. `{v}`, `{major}` and `{minor}` stand for the version.
    pub stamp: &'static str,
    /// How long a cold build takes, for the person who waits.
    pub duration: &'static str,
}

/// Without it the server calls itself v0.0.0-master.
const KUBERNETES_STAMP: &str = "-X k8s.io/component-base/version.gitVersion={v} -X k8s.io/component-base/version.gitMajor={major} \
    -X k8s.io/component-base/version.gitMinor={minor} -X k8s.io/client-go/pkg/version.gitVersion={v} \
    -X k8s.io/client-go/pkg/version.gitMajor={major} -X k8s.io/client-go/pkg/version.gitMinor={minor}";

/// The control plane of Kubernetes.
pub(crate) const KUBERNETES: Module = Module {
    folder: "kubernetes",
    path: "k8s.io/kubernetes",
    cache: "k8s",
    programs: &[
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ],
    stamp: KUBERNETES_STAMP,
    duration: "6 to 8 minutes",
};

/// The programs of a node of the same Kubernetes version, separate because few tests need them.
pub(crate) const NODE: Module = Module {
    folder: KUBERNETES.folder,
    path: KUBERNETES.path,
    cache: KUBERNETES.cache,
    programs: &[
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ],
    stamp: KUBERNETES_STAMP,
    duration: "2 minutes after the control plane, 8 without",
};

/// An older version of it, for `make compat`. (1.29 cannot be built: not all of its modules are published.)
pub(crate) const KUBERNETES_1_30: Module = Module { folder: "kubernetes-1.30", ..KUBERNETES };

/// The store below the API server.
pub(crate) const ETCD: Module = Module {
    folder: "etcd",
    path: "go.etcd.io/etcd/server/v3",
    cache: "etcd",
    programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
    stamp: "",
    duration: "half a minute",
};

/// The player of nodes and pods.
pub(crate) const KWOK: Module = Module {
    folder: "kwok",
    path: "sigs.k8s.io/kwok",
    cache: "kwok",
    programs: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
    stamp: "-X sigs.k8s.io/kwok/pkg/consts.Version={v}",
    duration: "1 to 2 minutes",
};

/// The installer of charts.
pub(crate) const HELM: Module = Module {
    folder: "helm",
    path: "helm.sh/helm/v4",
    cache: "helm",
    programs: &[("helm", "helm.sh/helm/v4/cmd/helm")],
    stamp: "-X helm.sh/helm/v4/internal/version.version={v}",
    duration: "2 to 3 minutes",
};

/// The same, of the version before: both are supported by the charts.
pub(crate) const HELM3: Module = Module {
    folder: "helm3",
    path: "helm.sh/helm/v3",
    cache: "helm",
    programs: &[("helm", "helm.sh/helm/v3/cmd/helm")],
    // Without the last two, `helm template` plays Kubernetes 1.20, which the charts refuse.
    stamp: "-X helm.sh/helm/v3/internal/version.version={v} \
        -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37",
    duration: "2 to 3 minutes",
};

/// Another controller for blue-green releases, for `make bench-peers`.
pub(crate) const ARGO_ROLLOUTS: Module = Module {
    folder: "argo-rollouts",
    path: "github.com/argoproj/argo-rollouts",
    cache: "argo-rollouts",
    programs: &[("rollouts-controller", "github.com/argoproj/argo-rollouts/cmd/rollouts-controller")],
    stamp: "",
    duration: "5 minutes",
};

/// The source of `kubectl top` on a real node.
pub(crate) const METRICS_SERVER: Module = Module {
    folder: "metrics-server",
    path: "sigs.k8s.io/metrics-server",
    cache: "metrics-server",
    programs: &[("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server")],
    stamp: "",
    duration: "a minute or two",
};

impl Module {
    /// The path of `program` in the cache, built together with the module's other programs when it is not there.
    ///
    /// # Errors
    /// When Go is missing or too old, or the build fails; the message names the remedy.
    pub fn program(&self, program: &str) -> Result<PathBuf> {
        let version = self.version()?;
        let target = self.cached(&version)?;
        let wanted = target.join(program);
        if wanted.is_file() {
            return Ok(wanted);
        }
        std::fs::create_dir_all(&target).at("create", &target)?;
        let lock_path = target.join(".lock");
        let lock = File::create(&lock_path).at("create", &lock_path)?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another process that builds {}", self.names());
            lock.lock().at("lock", &lock_path)?;
        }
        if !wanted.is_file() {
            self.build(&version, &target)?;
        }
        Ok(wanted)
    }

    /// All its programs, built when they are not there: their directory in the cache.
    pub fn all(&self) -> Result<PathBuf> {
        for (program, _) in self.programs {
            self.program(program)?;
        }
        self.cached(&self.version()?)
    }

    /// The path of `program` in the cache, if it has been built.
    pub fn built(&self, program: &str) -> Option<PathBuf> {
        let path = self.cached(&self.version().ok()?).ok()?.join(program);
        path.is_file().then_some(path)
    }

    /// The version that the module's `go.mod` requires, as `v1.37.2`.
    pub fn version(&self) -> Result<String> {
        let file = self.source().join("go.mod");
        let text = std::fs::read_to_string(&file).at("read", &file)?;
        required_version(&text, self.path)
            .ok_or_else(|| Error::Go(format!("{} does not require {}", file.display(), self.path)))
    }

    /// Where Go keeps the module's own files, manifests among them.
    ///
    /// # Errors
    /// When Go is missing, or the module cannot be downloaded.
    pub fn files(&self) -> Result<PathBuf> {
        let source = self.source();
        check_go(&source)?;
        let go = |args: &[&str]| {
            let answer =
                Command::new("go").args(args).current_dir(&source).output().at("run go in", &source)?;
            if answer.status.success() {
                return Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned());
            }
            let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
            Err(Error::Go(format!("go {} failed: {said}", args.join(" "))))
        };
        go(&["mod", "download", self.path])?;
        go(&["list", "-m", "-f", "{{.Dir}}", self.path]).map(PathBuf::from)
    }

    fn source(&self) -> PathBuf {
        crate::repository::hack_dir().join("cluster").join(self.folder)
    }

    fn cached(&self, version: &str) -> Result<PathBuf> {
        Ok(cache_dir()?.join(format!("{}-{version}", self.cache)))
    }

    fn names(&self) -> String {
        self.programs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    fn build(&self, version: &str, target: &Path) -> Result<()> {
        let source = self.source();
        check_go(&source)?;
        eprintln!("building {} {version} from Go modules: once, about {} ...", self.names(), self.duration);
        let start = Instant::now();
        let draft = tempfile::Builder::new().prefix(".build-").tempdir_in(target).at("create in", target)?;
        for (name, package) in self.programs {
            let output = draft.path().join(name);
            self.build_one(version, &source, package, &output, start)?;
            std::fs::rename(&output, target.join(name)).at("rename to", &target.join(name))?;
        }
        eprintln!("built {} in {}", self.names(), human(start.elapsed()));
        Ok(())
    }

    fn build_one(
        &self,
        version: &str,
        source: &Path,
        package: &str,
        output: &Path,
        start: Instant,
    ) -> Result<()> {
        let log_path = output.with_extension("log");
        let log = File::create(&log_path).at("create", &log_path)?;
        let mut child = Command::new("go")
            .args(["build", "-trimpath", "-ldflags", &self.linker_flags(version), "-o"])
            .arg(output)
            .arg(package)
            .current_dir(source)
            .env("CGO_ENABLED", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .at("run go in", source)?;
        let mut told = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().at("wait for go in", source)? {
                break status;
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                eprintln!("  still building {package}, {} so far", human(start.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&log_path).unwrap_or_default();
        Err(Error::Go(format!(
            "go build {package} failed ({status}):\n{said}\nIf this cannot be mended: {REMEDY}"
        )))
    }

    fn linker_flags(&self, version: &str) -> String {
        let mut parts = version.trim_start_matches('v').split('.');
        let major = parts.next().unwrap_or_default();
        let minor = parts.next().unwrap_or_default();
        let stamp = self.stamp.replace("{v}", version).replace("{major}", major).replace("{minor}", minor);
        format!("-s -w {stamp}")
    }
}

/// `${XDG_CACHE_HOME:-$HOME/.cache}/e6-operator`.
fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("e6-operator"))
        .ok_or_else(|| {
            Error::Unsupported("neither XDG_CACHE_HOME nor HOME is set: no place for a cache".into())
        })
}

/// Fails with the remedy unless a new enough Go is there for the module in `source`.
fn check_go(source: &Path) -> Result<()> {
    let answer = Command::new("go").args(["env", "GOVERSION"]).current_dir(source).output();
    let Ok(answer) = answer else {
        return Err(Error::Go(format!("Go was not found, and the control plane is built with it: {REMEDY}")));
    };
    let said = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    if answer.status.success() && go_version(&said).is_some_and(|version| version >= OLDEST_GO) {
        return Ok(());
    }
    let trouble = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
    Err(Error::Go(format!("Go is too old for the control plane ({said}{trouble}): {REMEDY}")))
}

/// Major and minor of what Go says of itself, as `go1.26.8`.
fn go_version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The version by which `go_mod` requires `module`.
fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module))
            .then(|| words.next())?
            .filter(|word| word.starts_with('v'))
            .map(str::to_owned)
    })
}

fn human(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_has_a_version() {
        for module in
            [KUBERNETES, KUBERNETES_1_30, NODE, ETCD, KWOK, HELM, HELM3, ARGO_ROLLOUTS, METRICS_SERVER]
        {
            assert!(module.version().unwrap().starts_with('v'), "{}", module.path);
        }
    }

    #[test]
    fn versions_are_read_from_go_mod() {
        let text = "module m\nrequire (\n\ta.b/c/v3 v3.6.16 // indirect\n)\nrequire d.e/f v0.8.0\n";
        assert_eq!(required_version(text, "a.b/c/v3").as_deref(), Some("v3.6.16"));
        assert_eq!(required_version(text, "d.e/f").as_deref(), Some("v0.8.0"));
        assert_eq!(required_version(text, "a.b/c"), None);
    }

    #[test]
    fn go_versions_compare() {
        assert_eq!(go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(go_version("go1.27rc1"), Some((1, 27)));
        assert!(go_version("go1.9").unwrap() < OLDEST_GO);
        assert_eq!(go_version("devel"), None);
    }

    #[test]
    fn the_version_is_stamped() {
        let flags = KUBERNETES.linker_flags("v1.37.2");
        assert!(flags.contains("version.gitVersion=v1.37.2 "));
        assert!(flags.contains("version.gitMinor=37"));
        assert!(!flags.contains('{'));
    }
}
