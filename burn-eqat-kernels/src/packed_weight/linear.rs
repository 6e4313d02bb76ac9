//! The operands of a linear layer.

use crate::OpError;
use crate::api::{beside, in_type};
use crate::capability::{Operand, expect_capable};
use crate::check::{expect_matrix, expect_shape};
use burn::tensor::Tensor;

/// Checked operands of a linear layer, in the types that they are computed with.
pub(super) struct LinearOperands<const D: usize> {
    /// `[rows, d_input]`.
    pub x: Tensor<2>,
    /// `[groups, d_output]`.
    pub scales: Tensor<2>,
    /// `[d_output]`.
    pub bias: Option<Tensor<1>>,
    /// The shape of the result.
    pub shape: [usize; D],
}

impl<const D: usize> LinearOperands<D> {
    /// Expects step sizes that were checked already; `more` are further operands to check.
    pub fn new(
        op: &'static str,
        x: Tensor<D>,
        d_input: usize,
        scales: &Tensor<2>,
        bias: Option<Tensor<1>>,
        more: &[Operand],
    ) -> Result<Self, OpError> {
        let mut shape = x.dims();
        let [_, d_output] = scales.dims();
        let mut expected = shape;
        expected[D - 1] = d_input;
        expect_shape(op, "x", &shape, &expected)?;
        if let Some(bias) = &bias {
            expect_shape(op, "bias", &bias.dims(), &[d_output])?;
        }
        let rows = shape[..D - 1].iter().product();
        let mut operands = vec![
            Operand::new("x", &[rows, d_input], x.dtype()),
            Operand::new("scales", &scales.dims(), scales.dtype()),
            Operand::new("y", &[rows, d_output], x.dtype()),
        ];
        operands.extend(
            bias.iter()
                .map(|b| Operand::new("bias", &b.dims(), b.dtype())),
        );
        operands.extend(more);
        expect_capable(op, &x.device(), &operands)?;
        expect_matrix(op, "y", &[rows, d_output])?;
        shape[D - 1] = d_output;
        Ok(Self {
            scales: beside(scales.clone(), x.dtype()),
            bias: bias.map(|bias| in_type(bias, x.dtype())),
            x: x.reshape([rows, d_input]),
            shape,
        })
    }
}
