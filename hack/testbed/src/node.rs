//! A real node: containerd, kubelet and kube-proxy beside the control plane, all in their own namespaces.
//!
//! The whole cluster runs in a network namespace without an uplink, so no packet can leave the machine. The node's daemons
//! also have their own mount and process namespaces. When the first process of these namespaces ends, the kernel removes
//! all Pods, mounts and interfaces. This also happens if the test process crashes.
//!
//! ```no_run
//! # use std::path::Path;
//! # use testbed::{Options, Result, cluster::with_node, node::Image};
//! # fn main() -> Result<()> {
//! with_node(Options::default(), async |cluster| {
//!     // Sockets and child processes of this block are in the cluster's network namespace.
//!     let node = cluster.node()?;
//!     node.import(&Image::of_program(Path::new("target/hello"), &["local/hello:1"]))?; // static binary
//!     node.import_archive(Path::new("image.tar"))?; // docker-archive or OCI
//!     node.command("curl").arg("http://10.96.0.20").status().ok(); // from any other process
//!     println!("{}", cluster.kubeconfig().display());
//!     Ok(())
//! })?
//! # }
//! ```
//!
//! `with_node` reports missing programs, and installs them as root on Debian and Ubuntu. It builds kubelet and kube-proxy
//! once, and stops all processes at the end. The node has no registry and no DNS. So import the images first, and use
//! `imagePullPolicy: IfNotPresent` (the operator's default) or `Never`. `make cluster NODE=real` starts the same cluster.

mod files;
mod image;
mod machine;
mod namespaces;
pub mod static_programs;

use std::path::Path;
use std::process::{Command, Stdio};

pub use image::Image;
pub use machine::check as check_machine;
pub use namespaces::Namespaces;
pub(crate) use namespaces::remove_stale_cgroups;

use crate::error::{Error, IoContext, Result};
use crate::options::Options;
use crate::process::Program;
pub(crate) use files::Files;

/// Handle of the real node of a running cluster.
#[derive(Debug)]
pub struct RealNode {
    pub(crate) namespaces: Namespaces,
    pub(crate) files: Files,
}

impl RealNode {
    /// Writes the files of the node's daemons. The kubeconfigs of kubelet and kube-proxy exist already.
    pub(crate) fn new(dir: &Path, namespaces: Namespaces, options: &Options) -> Result<Self> {
        let files = Files::write(dir, &namespaces.cgroup(), options)?;
        Ok(Self { namespaces, files })
    }

    /// Returns the node of the cluster that another process started in `dir`, for example `make cluster NODE=real`.
    ///
    /// # Errors
    /// When no node runs there.
    pub fn recorded(dir: &Path) -> Result<Self> {
        let namespaces = Namespaces::recorded(dir)?;
        Ok(Self { namespaces, files: Files::written(&dir.canonicalize().at("find", dir)?) })
    }

    /// Returns the node's daemons in the order of their start.
    pub(crate) fn programs(&self, kubelet: &Path, proxy: &Path) -> Vec<Program> {
        let programs = self.files.programs(kubelet, proxy);
        programs.into_iter().map(|program| self.namespaces.hold(program)).collect()
    }

    /// Returns whether containerd answers.
    pub(crate) fn serves(&self) -> bool {
        self.ctr(&["version"]).is_ok()
    }

    /// Ends all processes of the node.
    pub(crate) fn end(&self) {
        self.namespaces.end();
    }

    /// Returns a command that runs `program` in the cluster's network namespace, from any namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut words = self.namespaces.network_prefix().into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg(program);
        command
    }

    /// Returns the prefix by which a user or a script runs a command in the network namespace.
    pub fn prefix(&self) -> Vec<String> {
        self.namespaces.network_prefix()
    }

    /// Imports an image of the test bed into the node's store.
    ///
    /// # Errors
    /// When a file cannot be read, or containerd refuses the image.
    pub fn import(&self, image: &Image) -> Result<()> {
        let archive = tempfile::Builder::new().suffix(".tar").tempfile_in(self.files.dir());
        let archive = archive.at("create a file in", self.files.dir())?;
        image.write(archive.path())?;
        self.import_archive(archive.path())
    }

    /// Imports an image archive (docker-archive or OCI tar) into the node's store.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub fn import_archive(&self, archive: &Path) -> Result<()> {
        self.ctr(&["images", "import", &archive.display().to_string()])
    }

    /// Runs containerd's client.
    fn ctr(&self, command: &[&str]) -> Result<()> {
        let ctr = self.namespaces.hold(self.files.ctr(command));
        let answer = Command::new(&ctr.path).args(&ctr.args).stdin(Stdio::null()).output();
        let answer = answer.at("run", &ctr.path)?;
        if answer.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        Err(Error::Unsupported(format!("ctr {}: {said}", command.join(" "))))
    }
}

/// Returns the image of the pause containers, which hold the namespaces of Pods.
pub(crate) fn pause_image() -> Result<Image> {
    Ok(Image::of_program(&static_programs::workload()?, &[files::PAUSE_IMAGE]).with_args(&["pause"]))
}
