//! `llama`: see `llama --help`.

use clap::Parser;

/// Tensors come and go by the megabyte: an allocator that keeps their pages spares a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
