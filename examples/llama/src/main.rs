//! `llama`: see `llama --help`.

use clap::Parser;

/// Tensors come and go by the megabyte: an allocator that keeps their pages spares a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has the allocator keep freed pages, rather than give them back to the system a moment before they
/// are wanted again.
fn keep_pages() {
    /// `mi_option_purge_delay` of mimalloc.h; -1 stands for never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: it sets a number, and no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}

fn main() -> std::process::ExitCode {
    keep_pages();
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
