//! The operands of a packed weight, ready for launches.

use super::codes::WeightLaunch;
use super::tensors::{column_width, rows, word_rows};
use crate::cube::plan::Limits;
use crate::problem::Problem;
use burn_cubecl::tensor::CubeTensor;

/// Words, step sizes and zero points in rows without gaps, and what is derived from their sizes.
#[derive(Clone)]
pub(crate) struct PackedWeight {
    pub words: CubeTensor,
    pub s: CubeTensor,
    pub z: CubeTensor,
    pub problem: Problem,
    pub limits: Limits,
    /// Columns of a vector.
    pub width: usize,
}

impl PackedWeight {
    pub fn new(
        words: CubeTensor,
        s: CubeTensor,
        z: CubeTensor,
        problem: Problem,
        limits: Limits,
    ) -> Self {
        let dtype = s.dtype;
        PackedWeight {
            words: word_rows(words),
            s: rows(s, dtype),
            z: rows(z, dtype),
            problem,
            limits,
            width: column_width(problem.n, &limits),
        }
    }

    /// Column vectors in a row.
    pub fn vectors(&self) -> usize {
        self.problem.n / self.width
    }

    /// The sizes that kernels read.
    pub fn sizes(&self) -> WeightLaunch {
        let problem = &self.problem;
        WeightLaunch::new(
            problem.k,
            problem.bits.words(problem.k),
            self.vectors(),
            problem.group(),
        )
    }
}
