//! The namespaces of a node, held by one process: network, mounts, processes.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::addresses::REAL_NODE_ADDRESS;
use crate::error::{Error, IoContext, Result};
use crate::process::{self, Guard, Program};
use crate::repository::hack_dir;
use crate::run_dir::mark;

/// Begins the name of a node's control groups; the id of the holding process follows.
const CGROUP: &str = "e6-node-";

/// Where the control groups are: every controller in a directory of its own (v1), or all in one (v2).
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel may take to end the processes of a namespace.
const END_TIME: Duration = Duration::from_secs(20);

/// Namespaces that live as long as their holder, which ends when the last handle is dropped, or with this process.
#[derive(Debug, Clone)]
pub struct Namespaces {
    pid: u32,
    /// None if another process started them.
    holder: Option<Arc<Holder>>,
}

#[derive(Debug)]
struct Holder {
    child: Mutex<Child>,
    guard: Mutex<Option<Guard>>,
    detached: bool,
    pid: u32,
    mark: String,
    record: PathBuf,
}

impl Namespaces {
    /// Creates namespaces for a cluster with the run directory `dir`. If `detached`, they outlive this process until
    /// [`Namespaces::end_recorded`].
    ///
    /// # Errors
    /// When the kernel refuses one, as in a container without rights; the message contains its output.
    pub fn new(dir: &Path, detached: bool) -> Result<Self> {
        let logs = dir.join("logs");
        let state = dir.join("node");
        for path in [&logs, &state] {
            std::fs::create_dir_all(path).at("create", path)?;
        }
        let program = holder(dir, logs.join("node-init.log"));
        let record = record_in(dir);
        let mark = mark(dir);
        let guard = if detached { None } else { Some(Guard::start(&record, &mark, None)?) };
        let child = program.start()?;
        let pid = child.id();
        let holder =
            Holder { child: Mutex::new(child), guard: Mutex::new(guard), detached, pid, mark, record };
        process::record(&holder.record, &[(program.name.clone(), pid)])?;
        holder.wait_ready(&state.join("ready"), &program.log)?;
        make_cgroups(pid)?;
        Ok(Self { pid, holder: Some(Arc::new(holder)) })
    }

    /// Returns the namespaces that another process created for the cluster in `dir`.
    ///
    /// # Errors
    /// When none live.
    pub fn recorded(dir: &Path) -> Result<Self> {
        let dir = dir.canonicalize().at("find", dir)?;
        let recorded = process::recorded(&record_in(&dir)).into_iter().map(|(_, pid)| pid);
        let none = || Error::Unsupported(format!("no cluster with a real node runs in {}", dir.display()));
        let pid = recorded.into_iter().find(|pid| process::is_ours(*pid, &mark(&dir))).ok_or_else(none)?;
        Ok(Self { pid, holder: None })
    }

    /// Ends the namespaces that an earlier process left in `dir`, and removes their control groups.
    pub fn end_recorded(dir: &Path) -> bool {
        let mut any = false;
        let record = record_in(dir);
        for (_, pid) in process::recorded(&record) {
            any |= process::is_ours(pid, &mark(dir));
            process::kill(pid, &mark(dir));
            remove_cgroups(pid);
        }
        let _ = std::fs::remove_file(record);
        any
    }

    /// Runs `work` on a new thread inside the network namespace; threads and processes that it starts are in it too.
    ///
    /// # Errors
    /// When the kernel does not let the thread in.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = PathBuf::from(self.link("net"));
        let network = File::open(&path).at("open", &path)?;
        let inside = || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(std::io::Error::from)
                .at("enter", &path)?;
            Ok(work())
        };
        std::thread::scope(|scope| {
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The words that lead a command into the network namespace.
    pub(super) fn network_prefix(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net={}", self.link("net"))]
    }

    /// The program, led into all the namespaces. It ends with them, not with the process that is started.
    pub(super) fn hold(&self, program: Program) -> Program {
        let mut args = vec![
            format!("--net={}", self.link("net")),
            format!("--mount={}", self.link("mnt")),
            format!("--pid={}", self.link("pid_for_children")),
            "--".into(),
            program.path.display().to_string(),
        ];
        args.extend(program.args);
        Program { path: "nsenter".into(), args, ..program }
    }

    /// The program, led into the network namespace only: the started process is the program itself.
    pub(crate) fn connect(&self, program: Program) -> Program {
        let mut args =
            vec![format!("--net={}", self.link("net")), "--".into(), program.path.display().to_string()];
        args.extend(program.args);
        Program { path: "nsenter".into(), args, ..program }
    }

    /// The control group under which the node's pods are, the same in every hierarchy.
    pub(super) fn cgroup(&self) -> String {
        format!("/{CGROUP}{}", self.pid)
    }

    fn link(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.pid)
    }

    /// Ends everything in them now.
    pub(crate) fn end(&self) {
        if let Some(holder) = &self.holder {
            holder.end();
        }
    }
}

impl Holder {
    fn wait_ready(&self, ready: &Path, log: &Path) -> Result<()> {
        let start = Instant::now();
        while !ready.exists() {
            let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
            if !matches!(ended, Ok(None)) || start.elapsed() > END_TIME {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(Error::Unsupported(format!(
                    "the namespaces of a node could not be made (root in a container may lack the rights): {}",
                    said.trim()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn end(&self) {
        process::kill(self.pid, &self.mark);
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        remove_cgroups(self.pid);
        let _ = std::fs::remove_file(&self.record);
        if let Some(guard) = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take() {
            guard.dismiss();
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if !self.detached {
            self.end();
        }
    }
}

/// Removes the control groups of nodes whose holder is gone: a killed test could not.
pub(crate) fn remove_stale_cgroups() {
    let hierarchies = hierarchies();
    let names = hierarchies.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(CGROUP)?.parse().ok());
    let mut dead: Vec<u32> = pids.filter(|pid| !process::is_ours(*pid, "init.sh")).collect();
    dead.sort_unstable();
    dead.dedup();
    dead.into_iter().for_each(remove_cgroups);
}

/// The process that holds the namespaces: `unshare`, whose child is their first process and dies with it.
fn holder(dir: &Path, log: PathBuf) -> Program {
    let script = hack_dir().join("cluster/node/init.sh");
    let words = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--", "sh"];
    let mut args: Vec<String> = words.iter().map(ToString::to_string).collect();
    args.extend([
        script.display().to_string(),
        dir.display().to_string(),
        REAL_NODE_ADDRESS.into(),
        mark(dir),
    ]);
    Program { name: "node-init".into(), path: "unshare".into(), args, env: Vec::new(), log }
}

fn record_in(dir: &Path) -> PathBuf {
    dir.join("node.pid")
}

/// The roots of all hierarchies of control groups.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(CGROUP_ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    let dirs = std::fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    dirs.filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

/// kubelet wants the control group for its pods to be there.
fn make_cgroups(pid: u32) -> Result<()> {
    for parent in hierarchies() {
        let group = parent.join(format!("{CGROUP}{pid}"));
        std::fs::create_dir(&group).at("create", &group)?;
        // In v1 a new group has neither processors nor memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (parent.join(file), group.join(file));
            if to.exists() && !parent.join("cgroup.controllers").exists() {
                let value = std::fs::read_to_string(&from).at("read", &from)?;
                std::fs::write(&to, value).at("write", &to)?;
            }
        }
    }
    Ok(())
}

/// Removes the control groups of a node, after the kernel has ended their processes.
fn remove_cgroups(pid: u32) {
    let start = Instant::now();
    for parent in hierarchies() {
        let group = parent.join(format!("{CGROUP}{pid}"));
        while group.exists() && start.elapsed() < END_TIME {
            if !remove_tree(&group) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Removes a control group and those below it; false while one is in use.
fn remove_tree(group: &Path) -> bool {
    let below = std::fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in below.filter(|path| path.is_dir()) {
        remove_tree(&path);
    }
    std::fs::remove_dir(group).is_ok()
}
