//! Work over threads.

use rayon::prelude::*;
use std::ops::Range;

/// Multiplications below which threads cost more than they gain.
const SERIAL: usize = 1 << 18;

/// How many threads a product of so many multiplications is worth.
pub(super) fn threads(multiplications: usize) -> usize {
    match multiplications < SERIAL {
        true => 1,
        false => rayon::current_num_threads(),
    }
}

/// Runs `task` for each number below `tasks`, on threads if there are several.
pub(super) fn each(tasks: usize, threads: usize, task: impl Fn(usize) + Send + Sync) {
    // With one thread a pool would only hand work over and wait.
    match threads == 1 || tasks == 1 {
        true => (0..tasks).for_each(task),
        false => (0..tasks).into_par_iter().for_each(task),
    }
}

/// Part `at` of `parts` of `len`, cut at multiples of `unit`.
pub(super) fn part(len: usize, unit: usize, parts: usize, at: usize) -> Range<usize> {
    let units = len.div_ceil(unit);
    let cut = |at: usize| (units * at / parts * unit).min(len);
    cut(at)..cut(at + 1)
}

/// A result that tasks write to, each its own elements.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: whoever writes through it keeps to elements of its own.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(data: &mut [f32]) -> Self {
        Shared(data.as_mut_ptr())
    }

    /// The result from element `by` on.
    pub fn offset(self, by: usize) -> Self {
        Shared(self.at(by))
    }

    /// A pointer to element `at`, which is in bounds.
    #[inline(always)]
    pub fn at(self, at: usize) -> *mut f32 {
        self.0.wrapping_add(at)
    }
}
