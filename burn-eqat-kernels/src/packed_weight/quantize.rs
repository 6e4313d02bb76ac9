//! From a dense weight to a packed one.

use super::PackedWeight;
use crate::check::expect_quantizer;
use crate::{Bits, OpError, SCALE_MAX, SCALE_MIN, pack, pack_columns};
use burn::tensor::{Int, Tensor};

/// The number of unpacked codes in memory at a time while a weight is packed.
const CODES: usize = 1 << 20;

impl PackedWeight {
    /// Quantizes a dense weight with the given step sizes and zero points, as
    /// [`fake_quantize`](crate::fake_quantize) does: step sizes are clamped to `[1e-4, 1e4]`, zero points rounded and
    /// clamped to the code range. No gradients pass through.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_eqat_kernels::{Bits, PackedWeight};
    ///
    /// let device = Device::flex();
    /// let weight = Tensor::<2>::from_data([[-0.6], [0.1], [0.4], [9.0]], &device);
    /// let scales = Tensor::<2>::from_data([[0.5]], &device);
    /// let zero_points = Tensor::<2>::from_data([[1.0]], &device);
    /// let packed = PackedWeight::quantize(weight, scales, zero_points, Bits::Two)?;
    /// // The largest code stands for 1, so 9 becomes 1.
    /// let dense: Vec<f32> = packed.dequantize()?.into_data().iter().collect();
    /// assert_eq!(dense, [-0.5, 0.0, 0.5, 1.0]);
    /// # Ok::<(), burn_eqat_kernels::OpError>(())
    /// ```
    ///
    /// # Shapes
    ///
    /// - `weight`: `[d_input, d_output]`
    /// - `scales`, `zero_points`: `[groups, d_output]`, where `groups` divides `d_input`
    ///
    /// # Errors
    ///
    /// When the shapes do not fit together, or an operand is NaN, so that there is no code.
    pub fn quantize(
        weight: Tensor<2>,
        scales: Tensor<2>,
        zero_points: Tensor<2>,
        bits: Bits,
    ) -> Result<Self, OpError> {
        let shapes = [weight.dims(), scales.dims(), zero_points.dims()];
        const OP: &str = "PackedWeight::quantize";
        let [groups, d_output] = expect_quantizer(OP, &shapes[0], &shapes[1], &shapes[2])?;
        let refused = |error| OpError::Pack { op: OP, error };
        let [d_input, _] = shapes[0];
        let weight = weight.detach();
        let scales = scales.detach().clamp(SCALE_MIN, SCALE_MAX);
        let zero_points = round_zero_points(zero_points, bits);
        // A few groups at a time: unpacked codes take as much memory as the weight.
        let rows = d_input / groups;
        // The number of groups that fill whole words: a multiple of 32 rows, for any bits.
        let unit = (1..=32).find(|groups| (groups * rows).is_multiple_of(32));
        let unit = unit.expect("32 groups do");
        let step = (CODES / (rows * d_output).max(1))
            .next_multiple_of(unit)
            .max(unit);
        let words = (0..groups).step_by(step).map(|first| {
            let part = first..(first + step).min(groups);
            let weight = weight
                .clone()
                .slice_dim(0, part.start * rows..part.end * rows);
            let scales = scales.clone().slice_dim(0, part.clone());
            let zero_points = zero_points.clone().slice_dim(0, part);
            pack(quantize_codes(weight, scales, zero_points, bits), bits).map_err(refused)
        });
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let zero_points = pack_columns(zero_points.int(), bits).map_err(refused)?;
        Self::from_parts(Tensor::cat(words, 0), scales, zero_points, bits, d_input)
    }
}

/// The codes of a weight: `clamp(round(w / s) + z, 0, 2^b - 1)`, with step sizes `s` clamped to `[1e-4, 1e4]`
/// and zero points `z` rounded and clamped, as fake quantization does.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat_kernels::{Bits, quantize_codes};
///
/// let device = Device::flex();
/// let weight = Tensor::<2>::from_data([[-0.6], [0.1], [0.4], [9.0]], &device);
/// let scales = Tensor::<2>::from_data([[0.5]], &device);
/// let zero_points = Tensor::<2>::from_data([[1.0]], &device);
/// let codes = quantize_codes(weight, scales, zero_points, Bits::Two);
/// assert_eq!(codes.into_data().iter::<i32>().collect::<Vec<_>>(), [0, 1, 2, 3]);
/// ```
///
/// # Shapes
///
/// - `weight`: `[d_input, d_output]`
/// - `scales`, `zero_points`: `[groups, d_output]`, where `groups` divides `d_input`
/// - output: `[d_input, d_output]`
///
/// # Panics
///
/// When the shapes do not fit together.
pub fn quantize_codes(
    weight: Tensor<2>,
    scales: Tensor<2>,
    zero_points: Tensor<2>,
    bits: Bits,
) -> Tensor<2, Int> {
    let ([d_input, d_output], [groups, _]) = (weight.dims(), scales.dims());
    let max_code = f64::from(bits.max_code());
    let w: Tensor<3> = weight
        .detach()
        .reshape([groups, d_input / groups, d_output]);
    let s: Tensor<3> = scales.detach().clamp(SCALE_MIN, SCALE_MAX).unsqueeze_dim(1);
    let z: Tensor<3> = round_zero_points(zero_points, bits).unsqueeze_dim(1);
    let q = ((w / s).round() + z).clamp(0.0, max_code);
    q.reshape([d_input, d_output]).int()
}

/// Zero points rounded, and clamped to the code range.
fn round_zero_points(zero_points: Tensor<2>, bits: Bits) -> Tensor<2> {
    let max_code = f64::from(bits.max_code());
    zero_points.detach().round().clamp(0.0, max_code)
}
