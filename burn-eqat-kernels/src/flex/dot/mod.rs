//! Matmuls of few rows in integers. Codes are bytes, the input is split into signed bytes (digits), and integer dot
//! products multiply four codes of a column at a time.
//!
//! With three digits, the input keeps 24 bits relative to the largest value of its chunk, as much as sums in f32 keep;
//! integer sums are exact. This is the fastest exact strategy for one or two rows, for up to eight with AVX-512 VNNI. With one digit, activations are
//! quantized to 8 bits per chunk. This is faster still, and used with [`Activations::Int8`](crate::Activations).
//!
//! Codes are taken from words in the order in which masks give them, and the input is reordered to match, see
//! [`layout`]. Eight-bit codes would overflow 16-bit sums, so they are multiplied only where sums have 32 bits, exactly, and
//! elsewhere use [`super::matvec`].

mod digits;
#[cfg(test)]
mod emulated;
mod kernel;
mod layout;
#[cfg(target_arch = "aarch64")]
mod neon;
mod registers;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::level::Level;
use super::parallel::{self, Shared};
use super::weight::Weight;
use crate::problem::Problem;
use digits::Digits;
#[cfg(test)]
pub(super) use emulated::forward as forward_emulated;
use kernel::Task;
#[cfg(target_arch = "aarch64")]
use neon as arch;
#[cfg(target_arch = "x86_64")]
use x86 as arch;

/// The most columns of a task: runs of words of two pages, which are read in advance, but enough tasks to balance threads.
const COLUMNS: usize = 2048;

impl Level {
    /// Whether this level has integer dot products.
    pub(super) fn dots(self) -> bool {
        arch::dots(self)
    }

    /// The most rows that exact products are fastest for: sums of four rows with three digits need many registers.
    pub(super) fn exact_dot_rows(self) -> usize {
        match self.byte_dots() {
            true => 8,
            false => 2,
        }
    }

    /// Whether they take 8-bit codes, which they do where sums have 32 bits.
    pub(super) fn byte_dots(self) -> bool {
        arch::byte_dots(self)
    }

    /// Splits rows of an input into digits. Requires [`dots`](Self::dots).
    fn cut(self, weight: &Weight, x: &[f32], rows: usize, digits: usize) -> Option<Digits> {
        assert!(self.dots());
        // SAFETY: the CPU has what the level stands for.
        unsafe { arch::cut(weight, x, rows, digits) }
    }

    /// Runs the kernel. Requires [`dots`](Self::dots).
    fn dot(self, task: Task) {
        assert!(self.dots());
        // SAFETY: as above.
        unsafe { arch::run(self, task) }
    }
}

/// `y [m, n] = x [m, k] W + y`, where `y` has the bias or zeros before. Returns false and does nothing if the input
/// has numbers without digits: infinities, NaN, and tiny values.
pub(super) fn forward(
    level: Level,
    weight: &Weight,
    digits: usize,
    x: &[f32],
    y: &mut [f32],
) -> bool {
    forward_by(|task| level.dot(task), level, weight, digits, x, y)
}

/// [`forward`], with the kernel that `dot` runs.
fn forward_by(
    dot: impl Fn(Task) + Sync,
    level: Level,
    weight: &Weight,
    digits: usize,
    x: &[f32],
    y: &mut [f32],
) -> bool {
    let Problem { m, k, n, .. } = weight.problem;
    let mut inputs = Vec::new();
    let mut first = 0;
    // Rows in powers of two, as kernels take them.
    let most = if digits == 1 {
        8
    } else {
        level.exact_dot_rows().min(4)
    };
    while first < m {
        let rows = 1 << (m - first).min(most).ilog2();
        let x = &x[first * k..(first + rows) * k];
        let Some(input) = level.cut(weight, x, rows, digits) else {
            return false;
        };
        inputs.push((first, input));
        first += rows;
    }
    let y = Shared::new(y);
    let threads = parallel::threads(m * k * n);
    let tasks = n
        .div_ceil(COLUMNS)
        .next_multiple_of(threads)
        .min(n.div_ceil(64));
    parallel::each(tasks, threads, |at| {
        let columns = parallel::part(n, 64, tasks, at);
        for (first, input) in &inputs {
            let task = Task {
                weight,
                input,
                columns: columns.clone(),
                y: y.offset(first * n),
            };
            dot(task);
        }
    });
    true
}
