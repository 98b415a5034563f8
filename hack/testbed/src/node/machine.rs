//! The programs that a machine needs to be a node, and their installation.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// The needed programs, and their Debian packages.
const NEEDS: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// The plugin that connects pods; the others lie beside it. A program in `PATH` has the same name.
const BRIDGE: &str = "bridge";

/// The Debian package that has the plugins.
const PLUGINS: &str = "containernetworking-plugins";

/// Where distributions and people put network plugins.
const PLUGIN_DIRS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// Where a program may be besides `PATH`: not everybody's has the administrator's directories.
const PROGRAM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Makes sure that this machine can run a node: root, and the programs. Missing ones are installed by apt-get,
/// after saying so; a package that is there is neither upgraded nor removed.
///
/// # Errors
/// When this is not root, or a program is missing and cannot be installed; the message names the remedy.
pub fn check() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Unsupported(
            "a real node needs root: it runs containers in namespaces of its own; run this as root, or use a \
             played node (NODE=kwok)"
                .into(),
        ));
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if find("apt-get").is_none() {
        return Err(Error::Unsupported(format!(
            "a real node needs these Debian packages, or what is in them: {list}; install them with this machine's \
             package manager"
        )));
    }
    eprintln!("installing the Debian packages {list} for the real node ...");
    // The lists may be old or absent: they are fetched only when it does not work without.
    if !apt(&install(&missing)) {
        apt(&["update", "-q"]);
        if !apt(&install(&missing)) {
            let remedy =
                format!("could not install {list}: run apt-get install {list}, and see what it says");
            return Err(Error::Unsupported(remedy));
        }
    }
    match self::missing().as_slice() {
        [] => Ok(()),
        still => Err(Error::Unsupported(format!(
            "still missing after apt-get: what is in {}; is PATH right?",
            still.join(" ")
        ))),
    }
}

/// The directory with the network plugins.
pub(super) fn plugin_dir() -> PathBuf {
    let dirs = PLUGIN_DIRS.iter().map(Path::new);
    let found = dirs.into_iter().find(|dir| dir.join(BRIDGE).is_file());
    found.unwrap_or(Path::new("/usr/lib/cni")).to_path_buf()
}

fn install<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends", "--no-remove", "--no-upgrade"];
    arguments.extend_from_slice(packages);
    arguments
}

fn apt(arguments: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command.status().is_ok_and(|status| status.success())
}

fn missing() -> Vec<&'static str> {
    let absent = NEEDS.iter().filter(|(program, _)| find(program).is_none());
    let mut packages: Vec<_> = absent.map(|(_, package)| *package).collect();
    packages.dedup();
    if !plugin_dir().join(BRIDGE).is_file() {
        packages.push(PLUGINS);
    }
    packages
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(PROGRAM_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_path_only_when_they_are_there() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-program-of-this-name"), None);
    }

    #[test]
    fn nothing_is_removed_or_upgraded_to_install() {
        let words = install(&["runc"]);
        assert!(words.contains(&"--no-remove") && words.contains(&"--no-upgrade"));
        assert_eq!(words.last(), Some(&"runc"));
    }
}
