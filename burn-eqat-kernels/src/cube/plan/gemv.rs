//! Plan of the matrix-vector kernel, for inputs of few rows.

use super::limits::Limits;
use super::sizes::power_at_most;
use crate::problem::{Problem, gcd};

/// The split of a matmul of up to eight rows.
///
/// A cube takes `lanes` column vectors and a range of `range` runs of blocks along `k`. Each of its `slices` takes
/// every `slices`-th run. A run stays within a group, so a unit applies step size and zero point once per run.
/// Slices are added up first in their plane, then through shared memory. If there are several ranges, a second
/// kernel adds up their sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GemvPlan {
    /// Rows of the input per unit: 1, 2, 4 or 8. Rows past the last are zeros.
    pub rows: usize,
    /// Column vectors of a cube.
    pub lanes: usize,
    /// Units that share a column vector.
    pub slices: usize,
    /// Units of a plane if planes add up slices, else 0.
    pub plane: usize,
    /// Blocks of a run.
    pub run: usize,
    /// Runs of a cube's range.
    pub range: usize,
    /// Ranges along `k`.
    pub splits: usize,
    /// Whether each block is within one group.
    pub aligned: bool,
}

/// The most input rows of one launch.
pub(crate) const MAX_ROWS: usize = 8;

/// Floats of padding between runs of the staged input, so that slices read from different banks of shared
/// memory.
const RUN_SKEW: usize = 4;

/// The most bytes of shared memory of a cube.
const SHARED: usize = 32 << 10;

impl GemvPlan {
    /// A plan for at most [`MAX_ROWS`] rows and columns in vectors of `width`; `lanes` is how many
    /// column vectors a plane should read side by side. `None` if shared memory is too small.
    pub fn new(problem: &Problem, width: usize, lanes: usize, limits: &Limits) -> Option<Self> {
        let block = problem.block();
        let rows = problem.m.max(1).next_power_of_two();
        if rows > MAX_ROWS {
            return None;
        }
        let aligned = problem.aligned();
        let run = if aligned {
            gcd(problem.group() / block.fields, 4)
        } else {
            1
        };
        let runs = block.blocks(problem.k).div_ceil(run);
        let vectors = (problem.n / width).max(1);
        let units = power_at_most(limits.units.min(256));
        let lanes = lanes.min(units).min(vectors.next_power_of_two());

        // The input of a range, and one sum of a column vector for each unit. Some devices have much
        // more shared memory than a cube can take without keeping others off its multiprocessor.
        let shared = limits.shared.min(SHARED);
        let run_bytes = rows * (run * block.fields + RUN_SKEW + 1) * 4;
        let fit = shared.saturating_sub(units * width * 4) / run_bytes;
        if fit == 0 {
            return None;
        }
        let slices = power_at_most((units / lanes).min(fit).min(runs).max(1));
        let plane = match limits.plane {
            Some(plane) if lanes < plane && (lanes * slices).is_multiple_of(plane) => plane,
            _ => 0,
        };
        // Ranges: short enough for shared memory, and enough of them to keep the device busy.
        let tiles = vectors.div_ceil(lanes);
        let wanted = runs.div_ceil(limits.busy.div_ceil(tiles));
        // A power of two of slices: a kernel is compiled for each length.
        let range = slices
            * wanted
                .div_ceil(slices)
                .next_power_of_two()
                .min(power_at_most(fit / slices));
        Some(GemvPlan {
            rows,
            lanes,
            slices,
            plane,
            run,
            range,
            splits: runs.div_ceil(range),
            aligned,
        })
    }

    /// Floats from one staged run to the next, for runs of `run_rows` rows.
    pub fn run_stride(&self, run_rows: usize) -> usize {
        run_rows + RUN_SKEW
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.lanes * self.slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bits;
    use proptest::prelude::*;

    #[test]
    fn a_large_matmul_fills_a_large_device() {
        let problem = Problem {
            m: 1,
            k: 8192,
            n: 28672,
            groups: 128,
            bits: Bits::Two,
        };
        let plan = GemvPlan::new(&problem, 4, 8, &Limits::GPU).unwrap();
        assert_eq!((plan.units(), plan.plane, plan.run), (256, 32, 4));
        assert!(problem.n / 4 / plan.lanes * plan.splits >= Limits::GPU.busy);
    }

    proptest! {
        #[test]
        fn ranges_cover_the_weight_and_fit(
            m in 0usize..12, rows in 1usize..300, groups in 1usize..20, n in 1usize..2000,
            width in 0usize..4, lanes in 0usize..6, which in 0usize..3,
        ) {
            let limits = [Limits::GPU, Limits::CPU, Limits::SMALL_GPU][which];
            let problem = Problem { m, k: rows * groups, n, groups, bits: Bits::ALL[width] };
            let vector = crate::cube::plan::sizes::vector_width(n, limits.vector);
            let Some(plan) = GemvPlan::new(&problem, vector, 1 << lanes, &limits) else {
                prop_assert!(m > MAX_ROWS);
                return Ok(());
            };
            let block = problem.block();
            prop_assert!(plan.rows >= m);
            prop_assert!(plan.units() <= limits.units);
            let covered = plan.splits * plan.range * plan.run * block.fields;
            prop_assert!(covered >= problem.k, "{:?}", plan);
            prop_assert_eq!(plan.range % plan.slices, 0);
            if plan.aligned {
                prop_assert_eq!(problem.group() % (plan.run * block.fields), 0);
            }
            let bytes = plan.rows * plan.range * (plan.run_stride(plan.run * block.fields) + 1) * 4
                + plan.units() * vector * 4;
            prop_assert!(bytes <= limits.shared, "{:?}", plan);
            if plan.plane > 0 {
                prop_assert!(plan.units() % plan.plane == 0 && plan.lanes < plan.plane);
            }
        }
    }
}
