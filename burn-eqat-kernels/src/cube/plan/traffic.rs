//! What a plan moves, before anything is measured: the bytes, loads and barriers of `x W` by each strategy.
//!
//! It is a model on paper. Registers are not in it, as the device's assembler gives them out, nor is what caches make of the order of
//! cubes.

use super::gemv::GemvPlan;
use super::limits::Limits;
use super::mma::{MmaPlan, STEP};
use super::slab::slabs;
use super::strategy::Strategy;
use super::tile::{DEPTH, MatmulKind, TilePlan};
use crate::problem::Problem;
use burn::tensor::DType;

/// Bytes of a step size, as files have them.
const SCALE: usize = 2;

/// The traffic of a matmul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes that memory reads and writes at least: operands once, and what kernels hand to each other.
    pub memory: usize,
    /// Bytes that cubes load in all, most of them from caches.
    pub loaded: usize,
    /// Loads of words that a unit makes, in vectors of columns.
    pub word_loads: usize,
    /// Barriers that a cube waits at.
    pub barriers: usize,
    /// Cubes of the largest kernel, and the units of each.
    pub cubes: usize,
    pub units: usize,
    /// Kernels that are launched, Burn's own included.
    pub launches: usize,
}

impl Traffic {
    /// The traffic of `problem` by `strategy`, for activations of type `dtype`, packed zero points, and columns in vectors of `width`.
    /// `None` where there is no plan.
    pub fn of(
        strategy: Strategy,
        problem: &Problem,
        dtype: DType,
        width: usize,
        limits: &Limits,
    ) -> Option<Self> {
        let Problem {
            m,
            k,
            n,
            groups,
            bits,
        } = *problem;
        let (size, vectors) = (dtype.size(), n / width);
        let words = 4 * bits.words(k) * n;
        let weight = words + groups * n * SCALE + 4 * groups * bits.words(n);
        let once = weight + (m * k + m * n) * size;
        // Sums of ranges are written in f32, and read.
        let parts = |splits: usize| {
            if splits > 1 {
                2 * 4 * splits * m * n
            } else {
                0
            }
        };
        Some(match strategy {
            Strategy::Gemv(lanes) => {
                let plan = GemvPlan::new(problem, width, lanes, limits)?;
                let range = plan.range * plan.run * problem.block().fields;
                let cubes = vectors.div_ceil(plan.lanes) * plan.splits;
                Traffic {
                    memory: once + parts(plan.splits),
                    loaded: weight + cubes * m * range.min(k) * size + parts(plan.splits) / 2,
                    word_loads: plan.range / plan.slices * plan.run * problem.block().words,
                    barriers: 2 * usize::from(plan.aligned) + 2 + 2 * plan.rows,
                    cubes,
                    units: plan.units(),
                    launches: 1 + usize::from(plan.splits > 1),
                }
            }
            Strategy::Mma(across) => {
                let (plan, split) = MmaPlan::new(problem, dtype, width, across, limits)?;
                let steps = split.chunks * split.runs * plan.slices * plan.run;
                let cubes = plan.cubes(m, vectors) * split.splits;
                let down = m.div_ceil(plan.rows());
                Traffic {
                    memory: once + parts(split.splits),
                    loaded: down * weight
                        + cubes * m.min(plan.rows()) * (steps * STEP).min(k) * size
                        + parts(split.splits) / 2,
                    word_loads: (split.chunks * split.runs + 1) * plan.run * plan.codes.words(),
                    barriers: 2 * split.chunks + usize::from(plan.slices > 1),
                    cubes,
                    units: plan.units(),
                    launches: 1 + usize::from(split.splits > 1),
                }
            }
            Strategy::Tile(engine) => {
                let kind = MatmulKind::Forward;
                let plan = TilePlan::new(engine, kind, [m, n, k], width, limits)?;
                let (down, right) = (m.div_ceil(plan.rows), n.div_ceil(plan.columns));
                let cubes = down * right * plan.splits;
                let tile_words = 4 * DEPTH / problem.block().fields * problem.block().words;
                let step_loads = tile_words / 4 * (plan.columns / width);
                Traffic {
                    memory: once + parts(plan.splits),
                    loaded: down * weight + right * m * k * size + parts(plan.splits) / 2,
                    word_loads: plan.steps(k) * step_loads.div_ceil(plan.units()),
                    barriers: 2 * plan.steps(k),
                    cubes,
                    units: plan.units(),
                    launches: 1 + usize::from(plan.splits > 1),
                }
            }
            Strategy::Slab => {
                let slabs = slabs(n, k * size, DEPTH).len();
                // The dense weight is written and read; parts of the result are put together.
                let dense = 2 * k * n * size;
                let joined = if slabs > 1 { 2 * m * n * size } else { 0 };
                Traffic {
                    memory: once + dense + joined + (slabs.max(1) - 1) * m * k * size,
                    loaded: weight + dense / 2 + joined / 2 + slabs * m * k * size,
                    word_loads: problem.block().words,
                    barriers: 0,
                    cubes: k.div_ceil(problem.block().fields) * vectors / 256,
                    units: 256,
                    launches: 1 + slabs * if slabs > 1 { 3 } else { 2 },
                }
            }
        })
    }

    /// Microseconds in which memory of `bandwidth` bytes a second moves what it has to.
    pub fn microseconds(&self, bandwidth: f64) -> f64 {
        self.memory as f64 / bandwidth * 1e6
    }

    /// Turns in which the multiprocessors of an NVIDIA GPU take all cubes, if registers and shared memory leave room for `resident` units of
    /// each.
    pub fn waves(&self, multiprocessors: usize, resident: usize) -> f64 {
        self.cubes as f64 / (multiprocessors * (resident / self.units).max(1)) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategy::strategies;
    use super::*;
    use crate::Bits;

    const LARGE: Problem = Problem {
        m: 1,
        k: 8192,
        n: 28672,
        groups: 128,
        bits: Bits::Two,
    };

    fn of(strategy: Strategy, m: usize) -> Traffic {
        let problem = Problem { m, ..LARGE };
        Traffic::of(strategy, &problem, DType::BF16, 4, &Limits::GPU).unwrap()
    }

    #[test]
    fn every_strategy_reads_the_weight_once_from_memory() {
        let weight = 8192 * 28672 / 4 + 128 * 28672 * 2 + 128 * 28672 / 4;
        for m in [1, 16, 64, 2048] {
            for strategy in strategies(MatmulKind::Forward, m, &Limits::GPU) {
                let traffic = of(strategy, m);
                let least = weight + 2 * m * (8192 + 28672);
                assert!(traffic.memory >= least, "{strategy:?} {traffic:?}");
                assert!(
                    traffic.loaded >= weight + 2 * m * 8192,
                    "{strategy:?} {traffic:?}"
                );
                assert!(traffic.cubes > 0 && traffic.launches > 0);
            }
        }
        // One launch, and nothing but the operands.
        let single = of(Strategy::Mma(1), 1);
        assert_eq!(
            (single.memory, single.launches),
            (weight + 2 * (8192 + 28672), 1)
        );
    }

    #[test]
    fn units_load_all_words_between_them() {
        for (strategy, m) in [(Strategy::Mma(8), 8), (Strategy::Gemv(8), 1)] {
            let traffic = of(strategy, m);
            let vectors = traffic.cubes * traffic.units * traffic.word_loads;
            assert!(16 * vectors >= 8192 * 28672 / 4, "{strategy:?} {traffic:?}");
        }
    }

    /// The table of docs/kernels.md: `cargo test -p burn-eqat-kernels --lib -- --nocapture on_paper`.
    #[test]
    fn on_paper() {
        println!(
            "| M | strategy | MB of memory | us at 3.35 TB/s | MB loaded | barriers | cubes | waves | launches |"
        );
        for m in [1, 16, 64, 2048] {
            let mut fastest = f64::INFINITY;
            for strategy in strategies(MatmulKind::Forward, m, &Limits::GPU) {
                let traffic = of(strategy, m);
                let time = traffic.microseconds(3.35e12);
                fastest = fastest.min(time);
                println!(
                    "| {m} | {strategy:?} | {:.1} | {time:.1} | {:.0} | {} | {} x {} | {:.1} | {} |",
                    traffic.memory as f64 / 1e6,
                    traffic.loaded as f64 / 1e6,
                    traffic.barriers,
                    traffic.cubes,
                    traffic.units,
                    traffic.waves(132, 1024),
                    traffic.launches,
                );
            }
            // With all others, the dense weight never goes through memory.
            let slab = of(Strategy::Slab, m).microseconds(3.35e12);
            assert!(fastest < slab);
        }
    }
}
