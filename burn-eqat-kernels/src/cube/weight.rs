//! A packed weight on a device, ready for launches.

use crate::Bits;
use crate::cube::plan::limits::Limits;
use crate::cube::tensors::{column_width, dims, rows, word_rows};
use crate::cube::unpack;
use crate::cube::words::{WeightSizesLaunch, sizes};
use crate::problem::Problem;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;

/// The zero points of a packed weight, in contiguous rows.
#[derive(Clone)]
pub(crate) enum ZeroPoints {
    /// Numbers `[groups, n]`, of the type of the step sizes.
    Numbers(CubeTensor),
    /// Words that are packed along the columns.
    Words(CubeTensor),
}

/// Codes, step sizes and zero points in contiguous rows, and values derived from their sizes.
#[derive(Clone)]
pub(crate) struct DeviceWeight {
    /// Words of codes.
    pub codes: CubeTensor,
    pub scales: CubeTensor,
    pub zero_points: ZeroPoints,
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
        zero_points: ZeroPoints,
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
            zero_points: match zero_points {
                ZeroPoints::Numbers(numbers) => ZeroPoints::Numbers(rows(numbers, dtype)),
                ZeroPoints::Words(words) => ZeroPoints::Words(word_rows(words)),
            },
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

    /// Zero points as numbers of the type of the step sizes; words are unpacked.
    pub fn zero_points(&self) -> CubeTensor {
        match &self.zero_points {
            ZeroPoints::Numbers(numbers) => numbers.clone(),
            ZeroPoints::Words(words) => unpack::unpack_columns(
                words.clone(),
                self.problem.bits,
                self.problem.n,
                self.scales.dtype,
            ),
        }
    }

    /// The same weight with zero points as numbers, for those who read them several times.
    pub fn with_numbers(&self) -> Self {
        DeviceWeight {
            zero_points: ZeroPoints::Numbers(self.zero_points()),
            ..self.clone()
        }
    }

    /// Column vectors in a row.
    pub fn vectors(&self) -> usize {
        self.problem.n / self.width
    }

    /// The sizes that kernels read.
    pub fn sizes(&self) -> WeightSizesLaunch {
        let problem = &self.problem;
        sizes(
            problem.k,
            problem.bits.words(problem.k),
            self.vectors(),
            problem.group(),
        )
    }
}
