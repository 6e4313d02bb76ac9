//! A packed weight on a device, ready for launches.

use crate::Bits;
use crate::cube::plan::limits::Limits;
use crate::cube::tensors::{column_width, dims, rows, word_rows};
use crate::cube::words::WeightSizesLaunch;
use crate::problem::Problem;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;

/// Codes, step sizes and zero points in contiguous rows, and values derived from their sizes.
#[derive(Clone)]
pub(crate) struct DeviceWeight {
    /// Words of codes.
    pub codes: CubeTensor,
    pub scales: CubeTensor,
    pub zero_points: CubeTensor,
    pub problem: Problem,
    pub limits: Limits,
    /// Columns of a vector.
    pub width: usize,
}

impl DeviceWeight {
    /// A weight from operands whose shapes were checked, for an input of `m` rows of type `activations`; `k` is
    /// `d_input`.
    pub fn new(
        codes: CubeTensor,
        scales: CubeTensor,
        zero_points: CubeTensor,
        bits: Bits,
        [m, k]: [usize; 2],
        activations: DType,
    ) -> Self {
        let limits = Limits::of(&scales.client, activations);
        let [groups, n] = dims(&scales);
        let dtype = scales.dtype;
        DeviceWeight {
            codes: word_rows(codes),
            scales: rows(scales, dtype),
            zero_points: rows(zero_points, dtype),
            problem: Problem {
                m,
                k,
                n,
                groups,
                bits,
            },
            limits,
            width: column_width(n, &limits),
        }
    }

    /// Column vectors in a row.
    pub fn vectors(&self) -> usize {
        self.problem.n / self.width
    }

    /// The sizes that kernels read.
    pub fn sizes(&self) -> WeightSizesLaunch {
        let problem = &self.problem;
        WeightSizesLaunch::new(
            problem.k,
            problem.bits.words(problem.k),
            self.vectors(),
            problem.group(),
        )
    }
}
