//! How a test starts an operator, and starts it again.

use std::path::PathBuf;

use crate::Operator;

/// The binary of an operator with everything it is started with. Clones start further operators of the same kind.
#[derive(Debug, Clone)]
pub struct OperatorCommand {
    /// The binary.
    pub binary: PathBuf,
    /// The kubeconfig, and so the user the operator acts as.
    pub kubeconfig: PathBuf,
    /// The file to which all processes of this command append their output.
    pub log: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl OperatorCommand {
    /// Returns a command without ports for metrics and probes.
    pub fn new(binary: PathBuf, kubeconfig: PathBuf, log: PathBuf) -> Self {
        let mut command = Self { binary, kubeconfig, log, args: vec![], env: vec![] };
        command.set_flag("--metrics-bind-address=0");
        command.set_flag("--health-probe-bind-address=0");
        command
    }

    /// Sets a flag, as `--flag=value`. It replaces the flag of the same name.
    pub fn set_flag(&mut self, flag: &str) {
        let name = flag.split('=').next();
        self.args.retain(|known| known.split('=').next() != name);
        self.args.push(flag.to_owned());
    }

    /// Sets several flags.
    #[must_use]
    pub fn with_flags<T: AsRef<str>>(mut self, flags: impl IntoIterator<Item = T>) -> Self {
        flags.into_iter().for_each(|flag| self.set_flag(flag.as_ref()));
        self
    }

    /// Adds variables to the environment of the operator.
    #[must_use]
    pub fn with_env(mut self, env: &[(&str, &str)]) -> Self {
        self.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// Starts an operator. It is killed when the returned handle is dropped.
    pub fn start(&self) -> Operator {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let env: Vec<(&str, &str)> =
            self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Operator::spawn_with(&self.binary, &self.kubeconfig, &args, &env, &self.log).unwrap()
    }

    /// Returns the output of all operators that this command has started.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }
}
