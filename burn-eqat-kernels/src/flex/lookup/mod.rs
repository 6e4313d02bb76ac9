//! Matmuls of few rows by lookups. Four bits of codes have 16 values, so their contribution to a sum fits in a
//! table of 16 bytes, and one shuffle looks it up for 32 columns.
//!
//! For each pair of input values, a table has `c0 x0 + c1 x1` for all pairs of two-bit codes, as integers scaled by
//! the chunk's largest: of 22 bits in three bytes if the result must be exact, of 8 bits in one byte if activations may
//! be quantized. The third bit of 3-bit codes is looked up separately, for four rows at once, and counts four.
//! (With four bits, a table would cover one row, which is no faster than a multiplication.)
//!
//! - Supports: 2 and 3 bits; groups of whole chunks (multiples of 8 rows, at most 64 each); AVX2.
//! - Refuses: other levels; inputs that are not finite, or tiny.
//! - Work: tasks of columns. A task goes through the groups one after the other. The tables of a group are in the
//!   first cache, and the codes are read in one long run, each byte once, at the speed of memory.
//!
//! The codes must be in the order of the lookups, so they are read from a separate copy, a [`LookupWeight`].

mod kernel;
mod lines;
mod shape;
mod tables;
mod weight;

pub(crate) use weight::LookupWeight;

use super::level::Level;
use super::parallel::{self, Shared};
use crate::Activations;
use crate::problem::Problem;
use tables::Tables;

impl LookupWeight {
    /// `y [m, n] = x [m, k] W + y`, where `y` has the bias or zeros before. Returns false and does nothing for inputs
    /// that tables cannot hold.
    pub fn forward(
        &self,
        level: Level,
        activations: Activations,
        x: &[f32],
        y: &mut [f32],
    ) -> bool {
        let Problem { k, n, .. } = self.problem;
        let m = y.len() / n;
        assert!(level.dots());
        let mut tables = Vec::with_capacity(m);
        for x in x.chunks_exact(k) {
            // SAFETY: the CPU has AVX2 where the level has dot products.
            let Some(made) = (unsafe { Tables::new(self.shape, x, activations) }) else {
                return false;
            };
            tables.push(made);
        }
        let y = Shared::new(y);
        let threads = parallel::threads(m * k * n);
        parallel::each(self.blocks(), threads, |at| {
            // SAFETY: as above.
            unsafe { kernel::run(self, &tables, self.block(at), y) }
        });
        true
    }
}
