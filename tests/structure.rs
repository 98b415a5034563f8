//! The house's own rules that a compiler does not check: the core stays pure, files and paths stay as they should.

#![allow(clippy::unwrap_used)] // a test that cannot read its own repository fails

use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = vec![];
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has no Rust files: was it moved?");
    files
}

/// Design D19: no I/O, no clock, no client in what decides, renders and describes.
#[test]
fn the_core_knows_no_client_no_runtime_and_no_clock() {
    let forbidden = [
        "kube::Client",
        "kube::Api",
        "kube::client",
        "tokio",
        "Timestamp::now",
        "SystemTime",
        "Instant",
        "std::fs",
        "std::net",
        "std::env",
    ];
    // What decides; the searches of the model say how long they took.
    let stopwatch = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/model/src/tests.rs");
    for folder in ["src/rollout", "src/resources", "src/api", "src/observe"] {
        for file in rust_files(folder).into_iter().filter(|file| *file != stopwatch) {
            let text = fs::read_to_string(&file).unwrap();
            for word in forbidden {
                let uses = text
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .any(|line| line.contains(word));
                assert!(
                    !uses,
                    "{} uses {word}; move it to src/controller or pass it in as a value",
                    file.display()
                );
            }
        }
    }
}

/// The core decides on facts, not on Kubernetes objects.
#[test]
fn the_state_machine_knows_no_kubernetes_objects() {
    for file in rust_files("src/rollout") {
        let text = fs::read_to_string(&file).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in
            ["k8s_openapi::api::", "kube::", "crate::observe", "crate::resources", "crate::controller"]
        {
            assert!(!code.iter().any(|line| line.contains(word)), "{} uses {word}", file.display());
        }
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    for folder in ["src", "tests", "examples", "hack/testbed"] {
        for file in rust_files(folder) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines: split it by idea", file.display());
        }
    }
}

/// `make fuzz` runs the tests of these modules; one that it leaves out plays the same inputs for ever.
#[test]
fn every_test_with_random_inputs_is_fuzzed() {
    let makefile = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).unwrap();
    let fuzzed = makefile.lines().find_map(|line| line.strip_prefix("FUZZED = ")).unwrap();
    let random = rust_files("src")
        .into_iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains("proptest! {"));
    for file in random {
        let module = format!("{}::", file.file_stem().unwrap().to_string_lossy());
        assert!(
            fuzzed.split(' ').any(|word| word == module),
            "the Makefile does not fuzz {}",
            file.display()
        );
    }
}
