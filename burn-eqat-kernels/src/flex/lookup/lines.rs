//! Memory that is read in long runs.

use memmap2::MmapMut;

/// The size of a large page.
const LARGE_PAGE: usize = 2 << 20;

/// Bytes aligned to a cache line, initially zeros. They are in large pages if they fill some and the system has them.
/// With small pages a core reads memory more slowly, since it must look up the address of each page.
pub(super) struct Lines {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

impl Lines {
    /// `None` if there is not enough memory.
    pub fn new(len: usize) -> Option<Self> {
        let large = len / LARGE_PAGE * LARGE_PAGE;
        // Room to begin with a large page; what is not used of it takes no memory.
        let room = if large > 0 { LARGE_PAGE } else { 0 };
        let map = MmapMut::map_anon((len + room).max(1)).ok()?;
        let start = match large {
            0 => 0,
            _ => map.as_ptr().addr().next_multiple_of(LARGE_PAGE) - map.as_ptr().addr(),
        };
        #[cfg(target_os = "linux")]
        if large > 0 {
            // Small pages do as well, where it cannot be had.
            let _ = map.advise_range(memmap2::Advice::HugePage, start, large);
        }
        Some(Lines { map, start, len })
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.map[self.start..].as_ptr()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..][..self.len]
    }
}
