use crate::error::Error;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C asks the work to stop at the next step, where nothing is half-written; a second
/// one ends the process at once.
pub(super) fn watch_interrupts() {
    // Fails where a handler is set already, as in a test that runs two commands; that one serves.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("interrupted: stopping (again to stop at once)");
    });
}

/// Fails once Ctrl-C was pressed.
pub(super) fn check_interrupted() -> Result<(), Error> {
    match interrupted() {
        true => Err(Error::Interrupted),
        false => Ok(()),
    }
}

/// Whether Ctrl-C was pressed.
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// A progress bar on standard error, silent where that is no terminal.
pub(super) fn bar(len: usize, what: impl Into<String>) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} [{elapsed}<{eta}] {msg}")
            .expect("a valid template");
    ProgressBar::with_draw_target(Some(len as u64), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_prefix(what.into())
}
