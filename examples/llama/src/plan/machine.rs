//! What there is.

use std::path::Path;
use sysinfo::System;

/// Where a run keeps its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk<'a> {
    /// The directory; it need not be there yet.
    pub directory: &'a Path,
    /// Whether the run directory is on the same disk.
    pub run_dir: bool,
}

/// The memory of a machine and where there is room on disk; `None` for what is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine<'a> {
    /// Bytes of the host's memory that a program may still take.
    pub host: Option<u64>,
    /// Bytes of the device's own memory.
    pub device: Option<u64>,
    /// Where activations go.
    pub disk: Option<Disk<'a>>,
}

impl Machine<'_> {
    /// What the system says of the host's memory, a limit on the process among it. Of a device nothing is known.
    pub fn look() -> Self {
        let mut system = System::new();
        system.refresh_memory();
        let limits = system.cgroup_limits();
        let limits = limits.filter(|limits| limits.total_memory < system.total_memory());
        // What it calls free leaves out pages of files, which give way.
        let limit = limits.map(|limits| limits.total_memory.saturating_sub(limits.rss));
        let free = Some(system.available_memory()).filter(|bytes| *bytes > 0);
        let host = match (free, limit) {
            (Some(free), Some(limit)) => Some(free.min(limit)),
            (free, limit) => free.or(limit),
        };
        Self {
            host,
            device: None,
            disk: None,
        }
    }
}

/// Fails where there is no room for a number of bytes in a directory, with what there is.
pub(super) fn lacks_room(directory: &Path, bytes: u64) -> Option<u64> {
    use burn_eqat::files::{FileError, check_room};
    match check_room(&directory.join("plan"), bytes) {
        Err(FileError::NoRoom { free, .. }) => Some(free),
        _ => None,
    }
}
