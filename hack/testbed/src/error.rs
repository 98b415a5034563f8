//! The error type of the test bed. Every message names a remedy or a log.

use std::path::{Path, PathBuf};

/// An error of the test bed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a process could not be read, written or started.
    #[error("{what}: {source}")]
    Io {
        /// The action, with the path.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The Go toolchain is missing, too old, or could not build; the message names the remedy.
    #[error("{0}")]
    Go(String),
    /// A component of the control plane ended by itself or could not be signaled.
    #[error("{name}: {reason}; its log is {}", log.display())]
    Component {
        /// The component, as `kube-apiserver`.
        name: String,
        /// The observed failure.
        reason: String,
        /// Where it wrote its log.
        log: PathBuf,
    },
    /// Something was not seen within its time.
    #[error("not within {seconds:.1} s: {what}")]
    Timeout {
        /// The expected state, and the observed state.
        what: String,
        /// The time given, in seconds.
        seconds: f64,
    },
    /// The API server refused or did not answer.
    #[error("API server: {0}")]
    Kube(#[from] kube::Error),
    /// A kubeconfig could not be read.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Text that should be JSON is not.
    #[error("{what}: {source}")]
    Json {
        /// Which text.
        what: String,
        /// The parser's answer.
        source: serde_json::Error,
    },
    /// The request makes no sense for this cluster, as stopping a component of one that is not ours.
    #[error("{0}")]
    Unsupported(String),
}

/// `Result` with the error of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the action and its path to an I/O error.
pub(crate) trait IoContext<T> {
    /// `doing` is a phrase such as "create"; the path is appended.
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { what: format!("{doing} {}", path.display()), source })
    }
}
