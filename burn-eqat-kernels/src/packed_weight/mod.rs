//! A packed weight and its ops.

mod affine;
mod cat;
mod columns;
mod linear;
mod quantize;
mod repacked;

pub use affine::AffineWeight;
pub use quantize::quantize_codes;
pub use repacked::RepackedCopy;

use crate::api::expect_word_type;
use crate::check::{PackedShapes, ZeroPointShape};
use crate::{Bits, OpError, QuantOps, unpack, unpack_columns};
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
use linear::LinearOperands;
use repacked::Place;

/// A weight matrix `[d_input, d_output]` as integer codes, with a step size and a zero point for each group of rows
/// and each column: its value is `(code - zero point) * step size`.
///
/// Gradients reach the step sizes, the input and the bias. (For those of zero points see [`AffineWeight`].)
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat_kernels::{Bits, PackedWeight};
///
/// let device = Device::flex();
/// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device);
/// // Two groups of 32 rows.
/// let scales = Tensor::full([2, 16], 0.07, &device);
/// let zero_points = Tensor::full([2, 16], 1.0, &device);
/// let packed = PackedWeight::quantize(weight, scales, zero_points, Bits::Four)?;
///
/// let x = Tensor::<2>::random([3, 64], Distribution::Default, &device);
/// let y = packed.linear(x.clone(), None)?;
/// let same = x.matmul(packed.dequantize()?);
/// assert!((y - same).abs().max().into_scalar::<f32>() < 1e-4);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// Clones share their tensors and a [repacked copy](Self::keep_copy). A clone whose tensors change makes a new copy.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    /// Codes in words along `d_input`, `[ceil(d_input * b / 32), d_output]`.
    pub codes: Tensor<2, Int>,
    /// Step sizes, `[groups, d_output]`, where `groups` divides `d_input`.
    pub scales: Tensor<2>,
    /// Zero points in words along `d_output`, `[groups, ceil(d_output * b / 32)]`.
    pub zero_points: Tensor<2, Int>,
    /// Bits of a code.
    pub bits: Bits,
    /// Rows of the weight.
    pub d_input: usize,
    copy: Option<Place>,
}

impl PackedWeight {
    /// A packed weight from its tensors.
    ///
    /// ```
    /// use burn::tensor::{Device, Int, Tensor};
    /// use burn_eqat_kernels::{Bits, PackedWeight};
    ///
    /// let device = Device::flex();
    /// // The codes 0, 1, 2 and 3 of a single column, which is one group with the zero point 1.
    /// let codes = Tensor::<2, Int>::from_data([[0b11_10_01_00]], &device);
    /// let scales = Tensor::<2>::from_data([[0.5]], &device);
    /// let zero_points = Tensor::<2, Int>::from_data([[1]], &device);
    /// let weight = PackedWeight::from_parts(codes, scales, zero_points, Bits::Two, 4)?;
    /// let dense: Vec<f32> = weight.dequantize()?.into_data().iter().collect();
    /// assert_eq!(dense, [-0.5, 0.0, 0.5, 1.0]);
    /// # Ok::<(), burn_eqat_kernels::OpError>(())
    /// ```
    ///
    /// # Shapes
    ///
    /// - `codes`: words, `[ceil(d_input * b / 32), d_output]`
    /// - `scales`: `[groups, d_output]`, where `groups` divides `d_input`
    /// - `zero_points`: words, `[groups, ceil(d_output * b / 32)]`
    ///
    /// # Errors
    ///
    /// When the shapes do not fit together, or codes or zero points are not 32- or 64-bit integers.
    pub fn from_parts(
        codes: Tensor<2, Int>,
        scales: Tensor<2>,
        zero_points: Tensor<2, Int>,
        bits: Bits,
        d_input: usize,
    ) -> Result<Self, OpError> {
        let weight = Self {
            codes,
            scales,
            zero_points,
            bits,
            d_input,
            copy: None,
        };
        weight.expect_valid("PackedWeight::from_parts")?;
        Ok(weight)
    }

    /// Columns of the weight.
    pub fn d_output(&self) -> usize {
        self.scales.dims()[1]
    }

    /// The codes as integers, `[d_input, d_output]`.
    ///
    /// # Errors
    ///
    /// When the shape of the codes does not fit `d_input` rows.
    pub fn unpacked_codes(&self) -> Result<Tensor<2, Int>, OpError> {
        unpack(self.codes.clone(), self.bits, self.d_input)
    }

    /// The zero points as integers, `[groups, d_output]`.
    ///
    /// # Errors
    ///
    /// When the shape of the zero points does not fit `d_output` columns.
    pub fn unpacked_zero_points(&self) -> Result<Tensor<2, Int>, OpError> {
        unpack_columns(self.zero_points.clone(), self.bits, self.d_output())
    }

    /// The same weight with its zero points as numbers, in the type of the step sizes.
    ///
    /// # Errors
    ///
    /// When the shape of the zero points does not fit `d_output` columns.
    pub fn affine(&self) -> Result<AffineWeight, OpError> {
        let zero_points = self.unpacked_zero_points()?.float();
        let zero_points = zero_points.cast(self.scales.dtype());
        let zero_points = if self.scales.is_autodiff() && !zero_points.is_autodiff() {
            Tensor::from_inner(zero_points)
        } else {
            zero_points
        };
        Ok(AffineWeight {
            codes: self.codes.clone(),
            scales: self.scales.clone(),
            zero_points,
            bits: self.bits,
            d_input: self.d_input,
        })
    }

    /// The dense weight, `[d_input, d_output]`, in the type of the step sizes, with gradients by them.
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_eqat_kernels::{Bits, PackedWeight, fake_quantize};
    ///
    /// let device = Device::flex();
    /// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device);
    /// let scales = Tensor::<2>::full([2, 16], 0.3, &device);
    /// let zero_points = Tensor::<2>::zeros([2, 16], &device);
    /// let bits = Bits::Two;
    /// let packed = PackedWeight::quantize(weight.clone(), scales.clone(), zero_points.clone(), bits)?;
    /// let trained = fake_quantize(weight, scales, zero_points, bits)?;
    /// assert_eq!(packed.dequantize()?.into_data(), trained.into_data());
    /// # Ok::<(), burn_eqat_kernels::OpError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the shapes do not fit together, or the device lacks a type of the operands or room for the result.
    pub fn dequantize(&self) -> Result<Tensor<2>, OpError> {
        self.affine()?.dequantize()
    }

    /// A linear layer: `x W + bias`, with gradients by `x`, the step sizes and `bias`.
    ///
    /// Without autodiff, activations may be quantized if [`Activations`](crate::Activations) allows it.
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_eqat_kernels::{Bits, PackedWeight};
    ///
    /// let device = Device::flex().autodiff();
    /// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device);
    /// let scales = Tensor::full([2, 16], 0.07, &device);
    /// let zero_points = Tensor::zeros([2, 16], &device);
    /// let mut packed = PackedWeight::quantize(weight, scales, zero_points, Bits::Four)?;
    ///
    /// // Train the step sizes.
    /// packed.scales = packed.scales.require_grad();
    /// let x = Tensor::<3>::ones([2, 3, 64], &device);
    /// let bias = Tensor::<1>::zeros([16], &device);
    /// let y = packed.linear(x, Some(bias))?;
    /// assert_eq!(y.dims(), [2, 3, 16]);
    /// let grads = y.square().mean().backward();
    /// assert_eq!(packed.scales.grad(&grads).unwrap().dims(), [2, 16]);
    /// # Ok::<(), burn_eqat_kernels::OpError>(())
    /// ```
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
        &self,
        x: Tensor<D>,
        bias: Option<Tensor<1>>,
    ) -> Result<Tensor<D>, OpError> {
        const OP: &str = "linear";
        self.expect_valid(OP)?;
        let operands = LinearOperands::new(OP, x, self.d_input, &self.scales, bias, &[])?;
        if let Some(place) = &self.copy
            && let Some(y) = place.linear(self, &operands.x, operands.bias.as_ref())
        {
            return Ok(y.reshape(operands.shape));
        }
        let (codes, zero_points) = (self.codes.clone(), self.zero_points.clone());
        let (codes, zero_points) = (codes.into_dispatch(), zero_points.into_dispatch());
        let (x, scales) = (operands.x.into_dispatch(), operands.scales.into_dispatch());
        let y = match operands.bias {
            Some(bias) => Dispatch::quant_linear_packed_bias(
                x,
                codes,
                scales,
                zero_points,
                bias.into_dispatch(),
                self.bits,
            ),
            None => Dispatch::quant_linear_packed(x, codes, scales, zero_points, self.bits),
        };
        Ok(Tensor::<2>::from_dispatch(y).reshape(operands.shape))
    }

    /// Keeps a private copy of the weight for [`linear`](Self::linear), in the order in which the backend's fastest
    /// matmul of few rows reads it. This makes decoding faster, and takes the memory of the codes and step sizes again.
    ///
    /// The first `linear` makes the copy; a later one makes it again if the tensors have changed. Only Flex on x86-64
    /// with AVX2 uses a copy, for 2- and 3-bit weights whose groups are multiples of 8 rows, with step sizes in f32.
    /// Elsewhere none is made. The matmul looks sums up in tables of the input. It is exact (as close to a matmul in
    /// f64 as sums in f32 are), or uses 8-bit tables with [`Activations::Int8`](crate::Activations::Int8).
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_eqat_kernels::{Bits, PackedWeight};
    ///
    /// let device = Device::flex();
    /// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device);
    /// let scales = Tensor::<2>::full([2, 16], 0.3, &device);
    /// let zero_points = Tensor::<2>::zeros([2, 16], &device);
    /// let packed = PackedWeight::quantize(weight, scales, zero_points, Bits::Two)?;
    /// let x = Tensor::<2>::ones([1, 64], &device);
    /// let y = packed.linear(x.clone(), None)?;
    /// let fast = packed.keep_copy();
    /// let same = fast.linear(x, None)?;
    /// assert!((y - same).abs().max().into_scalar::<f32>() < 1e-3);
    /// # Ok::<(), burn_eqat_kernels::OpError>(())
    /// ```
    pub fn keep_copy(self) -> Self {
        self.keep_copy_in(&RepackedCopy::default())
    }

    /// Like [`keep_copy`](Self::keep_copy), but keeps the copy in a place that outlives this weight.
    pub fn keep_copy_in(self, place: &RepackedCopy) -> Self {
        Self {
            copy: Some(place.place()),
            ..self
        }
    }

    /// Fails unless the tensors fit together. The fields are public, so every op checks.
    fn expect_valid(&self, op: &'static str) -> Result<(), OpError> {
        let shapes = PackedShapes {
            codes: &self.codes.dims(),
            scales: &self.scales.dims(),
            zero_points: ZeroPointShape::Packed(&self.zero_points.dims()),
            bits: self.bits,
            d_input: self.d_input,
        };
        shapes.expect(op)?;
        expect_word_type(op, "codes", &self.codes)?;
        expect_word_type(op, "zero_points", &self.zero_points)
    }
}
