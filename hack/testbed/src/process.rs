//! Child processes: started in a process group of their own, signaled, and never left behind.
//!
//! Signals go to a process only while its command line holds a known text (for a cluster: its run directory),
//! so that a process id that the system has given to somebody else is never hit.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{IoContext, Result};
use crate::pace;

/// Time between two checks of a process that should end.
const POLL: Duration = Duration::from_millis(10);

/// Variables that make a client use an HTTP proxy.
pub(crate) const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// A program with its arguments and its log, as often started as wanted.
#[derive(Debug, Clone)]
pub struct Program {
    /// A short name: for messages and for the file of process ids.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables added to the environment.
    pub env: Vec<(String, String)>,
    /// Its standard output and error are appended here.
    pub log: PathBuf,
}

impl Program {
    /// Starts the program in its own process group, without a terminal, without HTTP proxies, and without the variables
    /// of the operator's flags.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not started.
    pub fn start(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log).at("open", &self.log)?;
        let errors = log.try_clone().at("open", &self.log)?;
        let mut command = Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| !is_inherited(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().at("start", &self.path)?;
        wait_for_command_line(&mut child);
        Ok(child)
    }
}

/// Returns whether a program inherits a variable of this name. Proxy variables would redirect loopback requests, and
/// `E6_*` and `POD_*` variables would change the flags of an operator.
fn is_inherited(name: &str) -> bool {
    !(PROXIES.contains(&name) || ["E6_", "POD_"].iter().any(|prefix| name.starts_with(prefix)))
}

/// Waits the moment it takes the kernel to show a new process's command line, by which it is known later.
fn wait_for_command_line(child: &mut Child) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1)
        && std::fs::read(format!("/proc/{}/cmdline", child.id())).is_ok_and(|line| line.is_empty())
        && matches!(child.try_wait(), Ok(None))
    {
        std::thread::yield_now();
    }
}

/// True while process `pid` lives and its command line holds `mark`.
pub fn is_ours(pid: u32, mark: &str) -> bool {
    // A zombie's command line is empty.
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark))
}

/// Sends `signal` to `pid` when it is ours; false when it is not, or is gone.
pub fn signal(pid: u32, mark: &str, signal: Signal) -> bool {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    is_ours(pid, mark) && target.is_some_and(|target| kill_process(target, signal).is_ok())
}

/// Ends a process: SIGTERM (and SIGCONT, in case it was paused), then after `patience` SIGKILL.
/// Returns true when it was there and ended by SIGTERM alone.
pub fn end(pid: u32, mark: &str, patience: Duration) -> bool {
    if !signal(pid, mark, Signal::TERM) {
        return false;
    }
    signal(pid, mark, Signal::CONT);
    if wait_gone(pid, mark, patience) {
        return true;
    }
    kill(pid, mark);
    false
}

/// Ends a process by SIGKILL and waits until it is gone.
pub fn kill(pid: u32, mark: &str) {
    signal(pid, mark, Signal::KILL);
    wait_gone(pid, mark, Duration::from_secs(5));
}

/// Waits until the process is gone (or a zombie); false when it is still there after `patience` of the cluster's time.
pub fn wait_gone(pid: u32, mark: &str, patience: Duration) -> bool {
    let start = Instant::now();
    while is_ours(pid, mark) {
        if pace::elapsed(start) > patience {
            return false;
        }
        sleep(POLL);
    }
    true
}

/// The processes recorded in a file, one `name pid` a line, in the order they were started.
pub fn recorded(file: &Path) -> Vec<(String, u32)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, pid) = line.split_once(' ')?;
            Some((name.to_owned(), pid.trim().parse().ok()?))
        })
        .collect()
}

/// Replaces the record of processes, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn record(file: &Path, processes: &[(String, u32)]) -> Result<()> {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (name, pid) in processes {
        let _ = writeln!(text, "{name} {pid}");
    }
    let draft = file.with_extension("new");
    std::fs::write(&draft, text).at("write", &draft)?;
    std::fs::rename(&draft, file).at("replace", file)
}

/// The script of [`Guard`]. Its standard input ends when the owner exits for any reason. Then it kills the recorded
/// processes and removes the directory, if there is one.
const GUARD: &str = r#"
cat >/dev/null
while read -r name pid; do
  if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$2"; then kill -KILL "$pid"; fi
done <"$1"
if [ -n "$3" ]; then sleep 0.2; rm -rf -- "$3"; fi
"#;

/// Watches over recorded processes: should this process die without stopping them, a small shell does.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
}

impl Guard {
    /// Guards the processes listed in `record` now or later whose command line holds `mark`;
    /// `remove` is a directory to delete afterwards.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn start(record: &Path, mark: &str, remove: Option<&Path>) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", GUARD, "testbed-guard"])
            .arg(record)
            .arg(mark)
            .arg(remove.unwrap_or(Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .at("start", Path::new("sh"))?;
        Ok(Self { shell })
    }

    /// Lets the guard do its work now and waits for it.
    pub fn release(mut self) {
        self.finish();
    }

    /// Ends the guard without its work: the processes live on.
    pub fn dismiss(mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }

    fn finish(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path, mark: &str) -> Child {
        let args = vec!["-c".to_owned(), "sleep 60; true".to_owned(), mark.to_owned()];
        let log = dir.join("log");
        Program { name: "sleeper".into(), path: "sh".into(), args, env: vec![], log }.start().unwrap()
    }

    #[test]
    fn only_a_process_with_the_mark_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sleeper(dir.path(), "mark-one");
        assert!(!end(child.id(), "another mark", Duration::from_secs(1)));
        assert!(is_ours(child.id(), "mark-one"));
        assert!(end(child.id(), "mark-one", Duration::from_secs(5)));
        child.wait().unwrap();
        assert!(!is_ours(child.id(), "mark-one"));
    }

    #[test]
    fn a_paused_process_is_ended_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sleeper(dir.path(), "mark-two");
        assert!(signal(child.id(), "mark-two", Signal::STOP));
        assert!(end(child.id(), "mark-two", Duration::from_secs(5)));
        child.wait().unwrap();
    }

    #[test]
    fn the_guard_ends_what_is_recorded_and_removes_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let mut child = sleeper(dir.path(), "mark-three");
        let pids = dir.path().join("pids");
        let guard = Guard::start(&pids, "mark-three", Some(&scratch)).unwrap();
        record(&pids, &[("sleeper".to_owned(), child.id())]).unwrap();
        assert_eq!(recorded(&pids), [("sleeper".to_owned(), child.id())]);
        guard.release();
        assert!(!is_ours(child.id(), "mark-three"));
        assert!(!scratch.exists());
        child.wait().unwrap();
    }
}
