/// Measures the cost of some work; begin with [`Meter::start`].
pub(crate) struct Meter {
    cpu_seconds: Option<f64>,
}

/// Processor time, and the peak memory of the process so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of the whole process; `None` if the system does not report it.
    pub cpu_seconds: Option<f64>,
    /// `None` if the system does not report it.
    pub peak_rss_mb: Option<f64>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            cpu_seconds: process().map(|(cpu, _)| cpu),
        }
    }

    pub(crate) fn stop(&self) -> Usage {
        let now = process();
        Usage {
            cpu_seconds: now
                .zip(self.cpu_seconds)
                .map(|((cpu, _), start)| cpu - start),
            peak_rss_mb: now.map(|(_, peak)| peak),
        }
    }
}

/// The most memory in megabytes that the process has had so far; `None` where the system does not say.
pub(crate) fn peak_rss_mb() -> Option<f64> {
    process().map(|(_, peak)| peak)
}

/// Processor seconds and peak resident megabytes of this process.
#[cfg(unix)]
fn process() -> Option<(f64, f64)> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let time = usage.user_time() + usage.system_time();
    // Linux counts kilobytes, macOS bytes.
    let unit = if cfg!(target_os = "macos") {
        1.0
    } else {
        1024.0
    };
    Some((
        time.num_microseconds() as f64 / 1e6,
        usage.max_rss() as f64 * unit / 1e6,
    ))
}

#[cfg(not(unix))]
fn process() -> Option<(f64, f64)> {
    None
}
