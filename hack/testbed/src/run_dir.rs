//! The run directory of a cluster: certificates, kubeconfigs, logs, data, and the record of its processes.

use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};
use crate::options::{KEEP_VARIABLE, Options};
use crate::process::Guard;

/// Folders that a cluster creates in its run directory. The next cluster in the same directory starts without them.
const FOLDERS: [&str; 4] = ["etcd", "logs", "node", "pki"];

/// The run directory of one cluster.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// Its absolute path.
    pub path: PathBuf,
    /// Nobody asked for this directory: it is removed when the cluster stops, unless it is to be kept.
    pub temporary: bool,
}

impl RunDir {
    /// Creates the directory that `options` names, or a temporary one.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn create(options: &Options) -> Result<Self> {
        let Some(dir) = &options.dir else {
            let fresh = tempfile::Builder::new()
                .prefix("e6-cluster-")
                .tempdir()
                .at("create in", &std::env::temp_dir())?;
            let dir = fresh.keep();
            return Ok(Self { path: dir.canonicalize().at("find", &dir)?, temporary: true });
        };
        std::fs::create_dir_all(dir).at("create", dir)?;
        Ok(Self { path: dir.canonicalize().at("find", dir)?, temporary: false })
    }

    /// Removes the folders that an earlier cluster left. Other files in the directory stay.
    ///
    /// # Errors
    /// When a folder cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for folder in FOLDERS.map(|name| self.path.join(name)).iter().filter(|folder| folder.exists()) {
            std::fs::remove_dir_all(folder).at("remove", folder)?;
        }
        Ok(())
    }

    /// Returns whether the directory is removed when the cluster stops.
    pub fn is_removed(&self, options: &Options) -> bool {
        self.temporary && !options.keep && std::env::var_os(KEEP_VARIABLE).is_none()
    }

    /// Starts the guard that ends the cluster's processes if this process dies. None if they are to outlive it.
    ///
    /// # Errors
    /// When the guard cannot be started.
    pub fn guard(&self, options: &Options) -> Result<Option<Guard>> {
        if options.detached {
            return Ok(None);
        }
        let removed = self.is_removed(options).then_some(self.path.as_path());
        Guard::start(&record(&self.path), &mark(&self.path), removed).map(Some)
    }
}

/// The file that lists the processes of the cluster in `dir`.
pub fn record(dir: &Path) -> PathBuf {
    dir.join("pids")
}

/// The text that identifies the processes of the cluster in `dir`: each command line contains the run directory.
pub fn mark(dir: &Path) -> String {
    format!("{}/", dir.display())
}
