use burn::train::Interrupter;
use burn_eqat::lm::LmError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{LazyLock, OnceLock};

/// Stopped by Ctrl-C or SIGTERM. Training checks it after each step.
static INTERRUPTER: LazyLock<Interrupter> = LazyLock::new(Interrupter::new);

/// From now on Ctrl-C or SIGTERM makes the work stop after its current step, so that nothing is half-written. A
/// second one ends the process at once.
pub(super) fn watch_interrupts() {
    static WATCHING: OnceLock<()> = OnceLock::new();
    WATCHING.get_or_init(|| {
        let hangup = Hangup::look();
        // If no handler can be set, these signals end the process as usual.
        let _ = ctrlc::set_handler(|| {
            if INTERRUPTER.should_stop() {
                std::process::exit(130);
            }
            INTERRUPTER.stop(Some("interrupted"));
            eprintln!("interrupted: stopping at the next step (again to stop at once)");
        });
        hangup.restore();
    });
}

/// Whether SIGHUP is ignored, as under `nohup`. It must stay so.
#[cfg(unix)]
struct Hangup {
    ignored: bool,
}

#[cfg(unix)]
impl Hangup {
    fn look() -> Self {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: no handler of ours is replaced, and the signal is handled again below.
        let before = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
        Hangup {
            ignored: matches!(before, Ok(SigHandler::SigIgn)),
        }
    }

    fn restore(self) {
        use nix::sys::signal::{SigHandler, Signal, signal};
        if self.ignored {
            // SAFETY: ignoring a signal runs no code.
            let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
        }
    }
}

#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn look() -> Self {
        Hangup
    }
    fn restore(self) {}
}

/// What stops the work at its next step, as Ctrl-C does.
pub(super) fn interrupter() -> Interrupter {
    INTERRUPTER.clone()
}

/// Whether the work was interrupted.
pub(super) fn interrupted() -> bool {
    INTERRUPTER.should_stop()
}

/// Writes a piece of text to the standard output at once. A closed pipe is not an error.
pub(super) fn say(piece: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
}

/// Fails if the work was interrupted.
pub(super) fn check_interrupted() -> Result<(), LmError> {
    if interrupted() {
        Err(LmError::Interrupted)
    } else {
        Ok(())
    }
}

/// A progress bar on standard error; hidden if that is not a terminal.
pub(super) fn bar(len: usize, what: impl Into<String>) -> ProgressBar {
    let template = "{prefix} {wide_bar} {pos}/{len} [{elapsed}<{eta}] {msg}";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    ProgressBar::with_draw_target(Some(len as u64), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_prefix(what.into())
}

/// A callback that moves a bar, and stops if the work was interrupted.
pub(super) fn moving(bar: &ProgressBar) -> impl FnMut(usize, usize) -> Result<(), LmError> + '_ {
    move |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        if done == total {
            bar.finish_and_clear();
        }
        check_interrupted()
    }
}
