//! `llama`: see `llama --help`.

use clap::Parser;

fn main() -> std::process::ExitCode {
    match llama::Cli::parse().run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(llama::Error::Interrupted) => {
            eprintln!("interrupted");
            std::process::ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
