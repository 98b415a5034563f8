//! Writes the generated files of the repository; `--check` instead fails if a file differs from the code.
//!
//! `make generate` and `make check-generated` call it.

mod reference;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use api::crd;
use e6_operator::metrics;

/// Head of the metrics reference.
const METRICS_HEAD: &str = "# Metrics

Generated from the code by `make generate`; do not edit. Served at `/metrics` (flag `--metrics-bind-address`).

";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let check = std::env::args().any(|argument| argument == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut differing = vec![];
    for (path, content) in files()? {
        let file = root.join(&path);
        let same = fs::read_to_string(&file).is_ok_and(|committed| committed == content);
        if same {
            continue;
        }
        differing.push(path);
        if !check {
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&file, content)?;
        }
    }
    let verb = if check { "differs from what the code generates" } else { "written" };
    for path in &differing {
        println!("{path}: {verb}");
    }
    if check && !differing.is_empty() {
        println!("Run `make generate` and commit the result.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the generated files: path from the root of the repository, and content.
fn files() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut files = vec![
        ("docs/api-reference.md".to_owned(), reference::api_reference()),
        ("docs/metrics-reference.md".to_owned(), format!("{METRICS_HEAD}{}", metrics::reference())),
    ];
    for (path, crd) in crd::files() {
        files.push((path.to_owned(), crd::to_yaml(&crd)?));
    }
    Ok(files)
}
