//! Commands as a user types them: printed, run by bash with the cluster's kubectl, their output printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use testbed::assets::hack_dir;
use testbed::{Error, Result};

use super::console::Console;

/// A shell in the root of the repository, with `KUBECONFIG` set.
#[derive(Debug, Clone)]
pub struct Shell {
    console: Arc<Console>,
    kubeconfig: PathBuf,
    path: String,
}

impl Shell {
    /// A shell in which `kubectl` is this program.
    pub fn new(console: Arc<Console>, kubeconfig: &Path, kubectl: &Path) -> Self {
        let inherited = std::env::var("PATH").unwrap_or_default();
        let dir = kubectl.parent().filter(|dir| dir.is_absolute());
        let path = dir.map_or_else(|| inherited.clone(), |dir| format!("{}:{inherited}", dir.display()));
        Self { console, kubeconfig: kubeconfig.to_path_buf(), path }
    }

    /// Prints a command, runs it, prints its output and returns what it wrote to its standard output.
    ///
    /// # Errors
    /// When it cannot be run or does not succeed.
    pub async fn run(&self, text: &str) -> Result<String> {
        self.console.command(text);
        let done = self.call(text).await;
        let said = done.as_ref().map_or_else(ToString::to_string, |output| {
            format!("{}{}", utf8(&output.stdout), utf8(&output.stderr))
        });
        self.console.output(said.trim_end());
        succeeded(text, &done?)
    }

    /// The same without a word.
    ///
    /// # Errors
    /// When it cannot be run or does not succeed.
    pub async fn quietly(&self, text: &str) -> Result<String> {
        succeeded(text, &self.call(text).await?)
    }

    /// Prints a command and runs it; its output is left to the caller, who must end it with [`Console::output`].
    ///
    /// # Errors
    /// When it cannot be run or does not succeed.
    pub async fn ask(&self, text: &str) -> Result<String> {
        self.console.command(text);
        let done = self.quietly(text).await;
        if done.is_err() {
            self.console.release();
        }
        done
    }

    async fn call(&self, text: &str) -> Result<Output> {
        let mut command = Command::new("bash");
        command.args(["-c", text]).env("KUBECONFIG", &self.kubeconfig).env("PATH", &self.path);
        command.current_dir(hack_dir().parent().unwrap_or(hack_dir())).stdin(Stdio::null());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name);
        }
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let output =
            done.map_err(|error| Error::Unsupported(format!("a background task failed: {error}")))?;
        output.map_err(|source| Error::Io { what: "start bash, which the demo needs".to_owned(), source })
    }
}

fn succeeded(text: &str, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(utf8(&output.stdout));
    }
    let command = text.lines().next().unwrap_or_default();
    let said = utf8(&output.stderr);
    Err(Error::Unsupported(format!("`{command}` failed ({}): {}", output.status, said.trim())))
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
