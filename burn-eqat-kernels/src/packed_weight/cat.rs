//! Packed weights side by side.

use super::PackedWeight;
use crate::check::expect_shape;
use crate::{OpError, pack_columns};
use burn::tensor::Tensor;

impl PackedWeight {
    /// One weight with the columns of all, in this order: layers that read the same input run as one, in one launch.
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_eqat_kernels::{Bits, PackedWeight};
    ///
    /// let device = Device::flex();
    /// let packed = |columns: usize| {
    ///     let weight = Tensor::<2>::random([64, columns], Distribution::Default, &device);
    ///     let (scales, zero_points) = (Tensor::full([2, columns], 0.3, &device), Tensor::zeros([2, columns], &device));
    ///     PackedWeight::quantize(weight, scales, zero_points, Bits::Two)
    /// };
    /// let (gate, up) = (packed(40)?, packed(24)?);
    /// let both = PackedWeight::cat(&[gate.clone(), up])?;
    ///
    /// let x = Tensor::<2>::ones([1, 64], &device);
    /// let y = both.linear(x.clone(), None)?;
    /// assert_eq!(y.dims(), [1, 64]);
    /// let of_gate = gate.linear(x, None)?;
    /// assert!((y.slice([0..1, 0..40]) - of_gate).abs().max().into_scalar::<f32>() < 1e-4);
    /// # Ok::<(), burn_eqat_kernels::OpError>(())
    /// ```
    ///
    /// # Shapes
    ///
    /// - `weights`: `[d_input, columns]` each, at least one of them
    /// - output: `[d_input, sum of the columns]`; no [copy](Self::keep_copy) is kept yet
    ///
    /// # Errors
    ///
    /// When the weights have not all the same bits, rows and groups, or one does not fit together.
    ///
    /// # Panics
    ///
    /// If there is no weight, or as Burn's `cat` does: when they are on several devices or of several types.
    pub fn cat(weights: &[Self]) -> Result<Self, OpError> {
        const OP: &str = "PackedWeight::cat";
        let (bits, d_input) = (weights[0].bits, weights[0].d_input);
        let [groups, _] = weights[0].scales.dims();
        for weight in weights {
            weight.expect_valid(OP)?;
            if weight.bits != bits {
                return Err(OpError::Size {
                    op: OP,
                    size: "bits",
                    actual: weight.bits.get(),
                    expected: format!("{}, as of the first weight", bits.get()),
                });
            }
            let expected = [d_input, weight.d_output()];
            expect_shape(
                OP,
                "weight",
                &[weight.d_input, weight.d_output()],
                &expected,
            )?;
            let expected = [groups, weight.d_output()];
            expect_shape(OP, "scales", &weight.scales.dims(), &expected)?;
        }
        let (_, before) = weights.split_last().expect("there is a first");
        let whole = |weight: &Self| (weight.d_output() * bits.get()).is_multiple_of(32);
        let zero_points = if before.iter().all(whole) {
            let words = weights.iter().map(|weight| weight.zero_points.clone());
            Tensor::cat(words.collect(), 1)
        } else {
            // The words of one weight's zero points begin within those of another's.
            let numbers: Result<_, OpError> =
                (weights.iter().map(|weight| weight.unpacked_zero_points())).collect();
            pack_columns(Tensor::cat(numbers?, 1), bits)
                .map_err(|error| OpError::Pack { op: OP, error })?
        };
        let codes = weights.iter().map(|weight| weight.codes.clone()).collect();
        let scales = weights.iter().map(|weight| weight.scales.clone()).collect();
        Self::from_parts(
            Tensor::cat(codes, 1),
            Tensor::cat(scales, 1),
            zero_points,
            bits,
            d_input,
        )
    }
}
