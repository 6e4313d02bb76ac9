//! `llama`: see `llama --help`.

use clap::Parser;

/// Large tensors are allocated and freed all the time. An allocator that keeps their pages saves a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When the allocator gives freed pages back to the system.
#[derive(Clone, Copy)]
enum Pages {
    /// Never: they are needed again soon.
    Kept,
    /// At once.
    GivenBack,
}

impl Pages {
    fn set(self) {
        /// `mi_option_purge_delay` of mimalloc.h, in milliseconds; -1 stands for never.
        const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
        let delay = match self {
            Pages::Kept => -1,
            Pages::GivenBack => 0,
        };
        // SAFETY: it sets a number, and no other thread runs yet.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, delay) }
    }
}

fn main() -> std::process::ExitCode {
    let command = llama::Cli::parse();
    match command.spares_memory() {
        true => Pages::GivenBack.set(),
        false => Pages::Kept.set(),
    }
    match command.run() {
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
