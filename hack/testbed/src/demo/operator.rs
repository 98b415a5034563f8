//! The operator's process: started beside the cluster, killed, started again, left behind when asked to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::process::{self, Program};
use testbed::{Operator, Result, ports};

use super::view::NAMESPACE;

/// The name of its record among the cluster's processes.
const RECORD: &str = "e6-operator";

/// The operator's binary with everything that it is started with.
///
/// It is run from a copy in the demo's directory: so a build in the meantime does not disturb it, and
/// `make cluster-down`, which knows its processes by their directory, ends one that was kept.
#[derive(Debug)]
pub struct Process {
    binary: PathBuf,
    kubeconfig: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    running: Option<Operator>,
}

impl Process {
    /// Copies `binary` into `dir`, its log is there too.
    ///
    /// # Errors
    /// When there is no such binary.
    pub fn new(binary: &Path, dir: &Path, kubeconfig: &Path, images: Option<&str>) -> Result<Self> {
        let own = Operator::own_copy(binary, dir)?;
        let mut args = vec![
            "run".to_owned(),
            format!("--watch-namespace={NAMESPACE}"),
            format!("--leader-elect-namespace={NAMESPACE}"),
            format!("--metrics-bind-address=127.0.0.1:{}", ports::free_port()?),
            format!("--health-probe-bind-address=127.0.0.1:{}", ports::free_port()?),
        ];
        args.extend(images.map(|images| format!("--default-image-repository={images}")));
        let log = dir.join("operator.log");
        let _ = std::fs::remove_file(&log);
        Ok(Self { binary: own, kubeconfig: kubeconfig.to_path_buf(), args, log, running: None })
    }

    /// The command line, without the paths.
    pub fn command(&self) -> String {
        format!("e6-operator {}", self.args.join(" "))
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<u32> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let operator = Operator::spawn(&self.binary, &self.kubeconfig, &args, &self.log)?;
        let pid = operator.pid();
        self.running = Some(operator);
        Ok(pid)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut operator) = self.running.take() {
            operator.kill();
        }
    }

    /// True when it was started and has ended without being asked to.
    pub fn died(&mut self) -> bool {
        self.running.as_mut().is_some_and(|operator| !operator.is_running())
    }

    /// Asks it to end (SIGTERM) and waits; nothing to do when it does not run.
    ///
    /// # Errors
    /// When it does not end in time, or with another code than 0.
    pub fn terminate(&mut self, patience: Duration) -> Result<()> {
        self.running.take().map_or(Ok(()), |mut operator| operator.terminate(patience))
    }

    /// Lets it run on after this process: ends the one that would be killed, starts one that will not.
    /// It is recorded in `dir` and, with a cluster of ours, among its processes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn leave(&mut self, dir: &Path, cluster: Option<&Path>) -> Result<u32> {
        let _ = self.terminate(Duration::from_secs(5));
        let program = Program {
            name: RECORD.to_owned(),
            path: self.binary.clone(),
            args: self.args.clone(),
            env: vec![("KUBECONFIG".to_owned(), self.kubeconfig.display().to_string())],
            log: self.log.clone(),
        };
        let pid = program.start()?.id();
        process::record(&kept(dir), &[(RECORD.to_owned(), pid)])?;
        if let Some(cluster) = cluster {
            let mut all = process::recorded(&cluster.join("pids"));
            all.push((RECORD.to_owned(), pid));
            process::record(&cluster.join("pids"), &all)?;
        }
        Ok(pid)
    }
}

/// Ends an operator that an earlier demo left in `dir`; true when there was one.
///
/// # Errors
/// When the record of processes cannot be written.
pub fn stop_kept(dir: &Path, cluster: &Path) -> Result<bool> {
    let mark = dir.join("e6-operator").display().to_string();
    let left = process::recorded(&kept(dir));
    let mut any = false;
    for (_, pid) in &left {
        any |= process::is_ours(*pid, &mark);
        process::end(*pid, &mark, Duration::from_secs(5));
    }
    let _ = std::fs::remove_file(kept(dir));
    let pids = cluster.join("pids");
    let mut all = process::recorded(&pids);
    if all.iter().any(|(name, _)| name == RECORD) {
        all.retain(|(name, _)| name != RECORD);
        process::record(&pids, &all)?;
    }
    Ok(any)
}

fn kept(dir: &Path) -> PathBuf {
    dir.join("kept")
}
