//! Commands as a user types them, run by bash with the kubectl of the cluster.

use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use super::console::Console;
use crate::process::PROXIES;
use crate::{Error, Result, repository};

/// A shell in the root of the repository, with `KUBECONFIG` and `PATH` set.
#[derive(Clone)]
pub struct Shell {
    pub(super) console: Rc<Console>,
    env: [(&'static str, String); 2],
}

impl Shell {
    /// Returns a shell in which `kubectl` is this program and talks to this cluster.
    pub fn new(console: Rc<Console>, kubeconfig: &Path, kubectl: &Path) -> Self {
        let dir = kubectl.parent().filter(|dir| dir.is_absolute());
        let dir = dir.map(|dir| format!("{}:", dir.display())).unwrap_or_default();
        let path = dir + &std::env::var("PATH").unwrap_or_default();
        Self { console, env: [("KUBECONFIG", kubeconfig.display().to_string()), ("PATH", path)] }
    }

    /// Prints a command, runs it and prints its output.
    pub(super) async fn run(&self, text: &str) -> Result<()> {
        self.console.command(text);
        let output = self.quietly(text).await;
        self.console.output(&output.as_ref().map_or_else(ToString::to_string, String::clone));
        output.map(drop)
    }

    /// Runs a command and returns its output.
    pub(super) async fn quietly(&self, text: &str) -> Result<String> {
        let mut command = Command::new("bash");
        command.args(["-c", text]).stdin(Stdio::null()).envs(self.env.iter().map(|(name, it)| (name, it)));
        command.current_dir(repository::root());
        for name in PROXIES {
            command.env_remove(name);
        }
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let trouble = |error: &dyn std::error::Error| Error::Unsupported(format!("bash: {error}"));
        let output = done.map_err(|error| trouble(&error))?.map_err(|error| trouble(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let (command, why) =
            (text.lines().next().unwrap_or_default(), String::from_utf8_lossy(&output.stderr));
        Err(Error::Unsupported(format!("`{command}` failed ({}): {}", output.status, why.trim())))
    }
}
