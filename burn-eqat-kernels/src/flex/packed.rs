//! The tensors of a packed weight, checked.

use super::tensors::{Floats, Words, shape};
use super::weight::{Weight, Zeros};
use crate::Bits;
use crate::check::{PackedShapes, ZeroPointShape, required};
use crate::problem::Problem;
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};

/// The tensors of a packed weight. Their shapes fit together, so kernels may read them without another check.
pub(super) struct PackedTensors {
    codes: Words,
    scales: Floats,
    zero_points: ReadZeroPoints,
    /// Sizes; `m` is that of the current matmul.
    pub problem: Problem,
}

/// Zero points, as numbers or in packed words.
pub(super) enum ZeroPoints {
    Numbers(FloatTensor<Flex>),
    Packed(IntTensor<Flex>),
}

/// [`ZeroPoints`] in memory.
enum ReadZeroPoints {
    Numbers(Floats),
    Packed(Words),
}

impl PackedTensors {
    /// The tensors for an input of `m` rows and `d_input` columns.
    ///
    /// Raises an [`OpError`](crate::OpError) if the shapes do not fit together.
    pub fn new(
        op: &'static str,
        codes: IntTensor<Flex>,
        scales: FloatTensor<Flex>,
        zero_points: ZeroPoints,
        bits: Bits,
        [m, d_input]: [usize; 2],
    ) -> Self {
        let shapes = PackedShapes {
            codes: shape(&codes),
            scales: shape(&scales),
            zero_points: match &zero_points {
                ZeroPoints::Numbers(z) => ZeroPointShape::Numbers(shape(z)),
                ZeroPoints::Packed(z) => ZeroPointShape::Packed(shape(z)),
            },
            bits,
            d_input,
        };
        let [groups, n] = required(shapes.expect(op));
        PackedTensors {
            codes: Words::new(codes),
            scales: Floats::new(scales),
            zero_points: match zero_points {
                ZeroPoints::Numbers(z) => ReadZeroPoints::Numbers(Floats::new(z)),
                ZeroPoints::Packed(z) => ReadZeroPoints::Packed(Words::new(z)),
            },
            problem: Problem {
                m,
                k: d_input,
                n,
                groups,
                bits,
            },
        }
    }

    /// Runs `body` on the weight.
    pub fn with<R>(&self, body: impl FnOnce(&Weight) -> R) -> R {
        let codes = self.codes.values();
        let weight = |zero_points| Weight {
            problem: self.problem,
            codes: &codes,
            scales: self.scales.values(),
            zero_points,
        };
        match &self.zero_points {
            ReadZeroPoints::Numbers(z) => body(&weight(Zeros::Numbers(z.values()))),
            ReadZeroPoints::Packed(z) => body(&weight(Zeros::Packed(&z.values()))),
        }
    }
}
