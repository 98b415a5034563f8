//! Sends requests to both front Services as their clients do, and records each response and each failure.
//!
//! `load --storage 10.96.0.20:9005 --schema 10.96.0.21:9006 --seconds 60` prints a summary at the end. With `--records FILE`
//! (`-` for standard output) it writes a line per response: see [`traffic::record`]. It ends early on SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Parser;
use traffic::load::{self, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match load::run(Options::parse()).await {
        Ok(summary) => {
            eprintln!("{summary}");
            if summary.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
