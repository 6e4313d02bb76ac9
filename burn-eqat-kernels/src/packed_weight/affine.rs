//! A packed weight whose zero points are numbers.

use super::linear::LinearOperands;
use crate::api::{expect_word_type, in_type};
use crate::capability::{Operand, expect_capable};
use crate::check::{PackedShapes, ZeroPointShape};
use crate::{Bits, OpError, QuantOps};
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

/// A [`PackedWeight`](crate::PackedWeight) with zero points as numbers, which need not be whole and may be trained.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat_kernels::{Bits, PackedWeight};
///
/// let device = Device::flex().autodiff();
/// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device);
/// let scales = Tensor::full([2, 16], 0.3, &device);
/// let zero_points = Tensor::zeros([2, 16], &device);
/// let packed = PackedWeight::quantize(weight, scales, zero_points, Bits::Two)?;
///
/// let mut affine = packed.affine()?;
/// affine.zero_points = affine.zero_points.require_grad();
/// let y = affine.clone().linear(Tensor::<2>::ones([3, 64], &device), None)?;
/// let grads = y.square().mean().backward();
/// assert_eq!(affine.zero_points.grad(&grads).unwrap().dims(), [2, 16]);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AffineWeight {
    /// Codes in words along `d_input`, `[ceil(d_input * b / 32), d_output]`.
    pub codes: Tensor<2, Int>,
    /// Step sizes, `[groups, d_output]`, where `groups` divides `d_input`.
    pub scales: Tensor<2>,
    /// Zero points, `[groups, d_output]`.
    pub zero_points: Tensor<2>,
    /// Bits of a code.
    pub bits: Bits,
    /// Rows of the weight.
    pub d_input: usize,
}

impl AffineWeight {
    /// The dense weight, `[d_input, d_output]`, in the type of the step sizes, with gradients by step sizes and zero
    /// points.
    ///
    /// # Errors
    ///
    /// When the shapes do not fit together, or the device lacks a type of the operands or room for the result.
    pub fn dequantize(self) -> Result<Tensor<2>, OpError> {
        const OP: &str = "dequantize";
        let [groups, d_output] = self.expect_valid(OP)?;
        let (scales, zero_points) = (self.scales, self.zero_points);
        let operands = [
            Operand::new("scales", &[groups, d_output], scales.dtype()),
            Operand::new("zero_points", &[groups, d_output], zero_points.dtype()),
            Operand::new(
                "the dense weight",
                &[self.d_input, d_output],
                scales.dtype(),
            ),
        ];
        expect_capable(OP, &scales.device(), &operands)?;
        let zero_points = in_type(zero_points, scales.dtype());
        Ok(Tensor::from_dispatch(Dispatch::quant_dequantize(
            self.codes.into_dispatch(),
            scales.into_dispatch(),
            zero_points.into_dispatch(),
            self.bits,
            self.d_input,
        )))
    }

    /// A linear layer: `x W + bias`, with gradients by `x`, step sizes, zero points and `bias`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`
    /// - `bias`: `[d_output]`
    /// - output: `[.., d_output]`
    ///
    /// # Errors
    ///
    /// When the shapes do not fit together, or the device lacks a type of the operands or room for the result.
    pub fn linear<const D: usize>(
        self,
        x: Tensor<D>,
        bias: Option<Tensor<1>>,
    ) -> Result<Tensor<D>, OpError> {
        const OP: &str = "linear";
        let shape = self.expect_valid(OP)?;
        let zero_points = Operand::new("zero_points", &shape, self.zero_points.dtype());
        let operands =
            LinearOperands::new(OP, x, self.d_input, &self.scales, bias, &[zero_points])?;
        let zero_points = in_type(self.zero_points, operands.scales.dtype()).into_dispatch();
        let codes = self.codes.into_dispatch();
        let (x, scales) = (operands.x.into_dispatch(), operands.scales.into_dispatch());
        let y = match operands.bias {
            Some(bias) => Dispatch::quant_linear_bias(
                x,
                codes,
                scales,
                zero_points,
                bias.into_dispatch(),
                self.bits,
            ),
            None => Dispatch::quant_linear(x, codes, scales, zero_points, self.bits),
        };
        Ok(Tensor::<2>::from_dispatch(y).reshape(operands.shape))
    }

    /// `[groups, d_output]`; fails unless the tensors fit together.
    fn expect_valid(&self, op: &'static str) -> Result<[usize; 2], OpError> {
        let shapes = PackedShapes {
            codes: &self.codes.dims(),
            scales: &self.scales.dims(),
            zero_points: ZeroPointShape::Numbers(&self.zero_points.dims()),
            bits: self.bits,
            d_input: self.d_input,
        };
        let shape = shapes.expect(op)?;
        expect_word_type(op, "codes", &self.codes)?;
        Ok(shape)
    }
}
