//! The operator's binary as a child process, to be killed, paused and started again at will.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;

use crate::error::{Error, IoContext, Result};
use crate::process::{self, Guard, Program};

/// A running operator. Killed on drop, and also when this process dies without dropping it.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    mark: String,
    log: PathBuf,
    record: PathBuf,
    guard: Option<Guard>,
}

impl Operator {
    /// Starts `binary` with `args`, with `KUBECONFIG` naming `kubeconfig` and both outputs appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the binary not started.
    pub fn spawn(binary: &Path, kubeconfig: &Path, args: &[&str], log: &Path) -> Result<Self> {
        Self::spawn_with(binary, kubeconfig, args, &[], log)
    }

    /// As [`Operator::spawn`], with variables added to the environment.
    ///
    /// # Errors
    /// When the log cannot be opened or the binary not started.
    pub fn spawn_with(
        binary: &Path,
        kubeconfig: &Path,
        args: &[&str],
        env: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        let mut variables = vec![("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
        variables.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let program = Program {
            name: "operator".to_owned(),
            path: binary.to_path_buf(),
            args: args.iter().map(ToString::to_string).collect(),
            env: variables,
            log: log.to_path_buf(),
        };
        let mark = binary.display().to_string();
        let child = program.start()?;
        // Built first, so that the child is killed should the guard fail.
        let record = log.with_extension(format!("{}.pid", child.id()));
        let mut operator = Self { child, mark, log: log.to_path_buf(), record, guard: None };
        process::record(&operator.record, &[(program.name, operator.pid())])?;
        operator.guard = Some(Guard::start(&operator.record, &operator.mark, Some(&operator.record))?);
        Ok(operator)
    }

    /// Copies the binary into `dir`: a build meanwhile would change it under the test.
    ///
    /// # Errors
    /// When there is no such binary, or no room.
    pub fn own_copy(binary: &Path, dir: &Path) -> Result<PathBuf> {
        let own = dir.join("e6-operator");
        let _ = std::fs::remove_file(&own);
        std::fs::copy(binary, &own).at("copy the operator's binary (`make build` builds it)", binary)?;
        Ok(own)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True until the process has ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it by SIGKILL, as a crash or a lost node would, and waits until it is gone.
    pub fn kill(&mut self) {
        process::kill(self.pid(), &self.mark);
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits for at most `patience`.
    ///
    /// # Errors
    /// When it does not end in time (it is then killed), or ended with another code than 0.
    pub fn terminate(&mut self, patience: Duration) -> Result<()> {
        let trouble = |reason: String, log: &Path| Error::Component {
            name: "operator".to_owned(),
            reason,
            log: log.to_path_buf(),
        };
        if self.is_running() && !process::end(self.pid(), &self.mark, patience) {
            let _ = self.child.wait();
            return Err(trouble(format!("still ran {patience:?} after SIGTERM"), &self.log));
        }
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(trouble(format!("ended with {status}"), &self.log)),
            Err(error) => Err(trouble(error.to_string(), &self.log)),
        }
    }

    /// Freezes it (SIGSTOP): it keeps its connections and its lease, and does nothing.
    ///
    /// Returns false when it has ended.
    pub fn pause(&self) -> bool {
        process::signal(self.pid(), &self.mark, Signal::STOP)
    }

    /// Lets it go on (SIGCONT); false when it has ended.
    pub fn resume(&self) -> bool {
        process::signal(self.pid(), &self.mark, Signal::CONT)
    }

    /// Lets the process outlive this handle and this program, and returns its id.
    pub fn leave(mut self) -> u32 {
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        let _ = std::fs::remove_file(&self.record);
        let pid = self.pid();
        // Dropping it would kill the process.
        std::mem::forget(self);
        pid
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns its output, including that of earlier processes with the same log.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        let _ = std::fs::remove_file(&self.record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(dir: &Path, script: &str) -> Operator {
        let log = dir.join("operator.log");
        Operator::spawn(Path::new("/bin/sh"), Path::new("/kubeconfig"), &["-c", script], &log).unwrap()
    }

    fn wait_for(operator: &Operator, text: &str) {
        let start = Instant::now();
        while !operator.log_text().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(10), "{}", operator.log_text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn it_gets_the_kubeconfig_and_ends_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap 'echo bye; exit 0' TERM; echo $KUBECONFIG; while true; do sleep 0.05; done";
        let mut operator = shell(dir.path(), script);
        wait_for(&operator, "/kubeconfig");
        assert!(operator.is_running());
        assert!(operator.pause());
        assert!(operator.resume());
        operator.terminate(Duration::from_secs(5)).unwrap();
        assert!(operator.log_text().contains("bye"));
        assert!(!operator.is_running());
        assert!(!operator.pause());
        drop(operator);
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["operator.log"]);
    }

    #[test]
    fn deafness_and_failure_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut deaf = shell(dir.path(), "trap '' TERM; echo deaf; while true; do sleep 0.05; done");
        wait_for(&deaf, "deaf");
        assert!(deaf.terminate(Duration::from_millis(200)).is_err());
        assert!(!deaf.is_running());
        let mut failing = shell(dir.path(), "echo failing; exit 3");
        wait_for(&failing, "failing");
        assert!(
            failing.terminate(Duration::from_secs(5)).unwrap_err().to_string().contains("exit status: 3")
        );
    }

    #[test]
    fn a_dropped_operator_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let operator = shell(dir.path(), "echo up; while true; do sleep 0.05; done");
        wait_for(&operator, "up");
        let pid = operator.pid();
        drop(operator);
        assert!(!process::is_ours(pid, "/bin/sh"));
    }
}
