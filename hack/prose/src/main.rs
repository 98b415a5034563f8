//! Prints how plain the English of the repository is, and the lines with the most findings.
//!
//! `prose` shows all areas. `prose --check` fails if an area is above a limit, and shows the lines of these areas. Words
//! after that select the files whose path contains one of them: `prose docs/ README.md`.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use prose::survey::Survey;

/// Lines of the report.
const LINES: usize = 20;

fn main() -> ExitCode {
    let (options, paths): (Vec<String>, Vec<String>) =
        env::args().skip(1).partition(|word| word.starts_with("--"));
    let is_check = options.iter().any(|option| option == "--check");
    let survey = match Survey::read(Path::new("."), &paths) {
        Ok(survey) => survey,
        Err(error) => {
            eprintln!(
                "error: the repository cannot be read: {error}. Remedy: run it in the root of the repository"
            );
            return ExitCode::FAILURE;
        }
    };
    let excesses = survey.excesses();
    if is_check && excesses.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{}\n", survey.table());
    for line in survey.worst(LINES, |area, kind| !is_check || excesses.contains(&(area, kind))) {
        println!("{line}");
    }
    if is_check {
        eprintln!(
            "\nAbove a limit of hack/prose/src/areas.rs. Remedy: rewrite these lines by the rules in CONTRIBUTING.md"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
