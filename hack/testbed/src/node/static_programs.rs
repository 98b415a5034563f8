//! Static programs for images: built from this work tree, since an image of a single file needs nothing else.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::error::{Error, IoContext, Result};
use crate::repository;

/// The profile of programs for the images of tests: quick to build. `hack/image.sh` builds the operator as users get it.
const PROFILE: &str = "test-image";

/// The HTTP server that plays storage and schema (`examples/workload.rs`); with the argument `pause` it only sleeps.
///
/// # Errors
/// When cargo cannot build it.
pub fn workload() -> Result<PathBuf> {
    traffic().map(|dir| dir.join("workload"))
}

/// The client that asks both front Services and records every answer (`examples/load.rs`).
///
/// # Errors
/// When cargo cannot build it.
pub fn load() -> Result<PathBuf> {
    traffic().map(|dir| dir.join("load"))
}

/// The operator, as it is in its image.
///
/// # Errors
/// When cargo cannot build it.
pub fn operator() -> Result<PathBuf> {
    build_static("e6-operator").map(|dir| dir.join("e6-operator"))
}

fn traffic() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(dir) = BUILT.get() {
        return Ok(dir.clone());
    }
    let dir = build_static("traffic")?;
    Ok(BUILT.get_or_init(|| dir).clone())
}

/// Builds a package's programs statically; the directory they are in.
fn build_static(package: &str) -> Result<PathBuf> {
    let root = repository::root();
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let answer = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--profile",
            PROFILE,
            "--locked",
            "--bins",
            "--package",
            package,
            "--target",
            &target,
        ])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(root)
        .output()
        .at("run cargo in", root)?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        return Err(Error::Unsupported(format!(
            "cargo could not build {package} as static programs: {said}"
        )));
    }
    let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(built).join(target).join(PROFILE))
}
