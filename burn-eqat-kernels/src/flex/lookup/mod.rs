//! Matmuls of few rows by looking them up: of four bits of codes there are 16 values, so what they
//! contribute to a product stands in a table of 16 bytes, and one shuffle looks it up for 32 columns.
//!
//! The tables of an input hold, for each pair of its values, `c0 x0 + c1 x1` for all pairs of two-bit codes, as
//! integers beside the chunk's largest: of 22 bits in three bytes where the product is to be exact, of 8 in
//! one where activations may be quantized. The third bit of 3-bit codes is looked up by itself, of four rows
//! at once, and counts four. (Four bits would make a table of one row, which is no faster than to multiply.)
//!
//! - Supports: 2 and 3 bits; groups of whole chunks (multiples of 8 rows, at most 64 each); AVX2.
//! - Refuses: other levels; inputs that are not finite or next to nothing.
//! - Work: tasks of columns. A task goes through the groups one after the other; the tables of a group are in
//!   the first cache, and the codes are read in one long run, each byte once: at the speed of memory.
//!
//! The codes have to lie in the order of the lookups, so they are read from a [`LookupWeight`] of their own.

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
    /// `y [m, n] = x [m, k] W + y`, where the result holds the bias, or zeros. False, and nothing done, for
    /// inputs that tables cannot hold.
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
