//! The binary: reads the command line, runs, and turns the outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;
use e6_operator::api::crd;
use e6_operator::cli::{Cli, Command, CrdArgs};
use e6_operator::process;

fn main() -> ExitCode {
    match Cli::parse().into_command() {
        Command::Crd(args) => print_crd(args),
        Command::Run(args) => match process::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("e6-operator: {failure}");
                ExitCode::FAILURE
            }
        },
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
