//! The binary: parses the command line, runs the command and returns its exit code. Under the name `kubectl-mds` it is the
//! kubectl plugin.

use std::path::Path;
use std::process::ExitCode;

use api::crd;
use clap::Parser;
use e6_operator::cli::{Cli, Command, CrdArgs};
use e6_operator::{plugin, process};

fn main() -> ExitCode {
    let program = std::env::args_os().next();
    if plugin::is_called(program.as_ref().map(Path::new)) {
        return finish("kubectl mds", plugin::run(&plugin::Cli::parse()));
    }
    match Cli::parse().into_command() {
        Command::Crd(args) => print_crd(args),
        Command::Run(args) => finish("e6-operator", process::run(&args)),
    }
}

fn finish(program: &str, outcome: Result<(), impl std::fmt::Display>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd(args: CrdArgs) -> ExitCode {
    let crd = match args {
        CrdArgs { legacy: true, .. } => crd::legacy(),
        CrdArgs { next: true, .. } => crd::next(),
        CrdArgs { .. } => crd::crd(),
    };
    match crd::to_yaml(&crd) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("e6-operator: the CRD cannot be written as YAML: {failure}");
            ExitCode::FAILURE
        }
    }
}
