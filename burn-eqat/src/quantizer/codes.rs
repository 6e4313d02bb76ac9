use burn::tensor::{Int, Tensor};
use burn_eqat_kernels::{Bits, SCALE_MAX, SCALE_MIN};

/// The codes of a weight: `clamp(round(weight / scale) + zero_point, 0, 2^b - 1)`. Step sizes are clamped
/// to `[1e-4, 1e4]` and zero points are rounded and clamped first, as in fake quantization.
///
/// # Shapes
///
/// - `weight`: `[d_input, d_output]`
/// - `scales`, `zero_points`: `[groups, d_output]`
/// - output: `[d_input, d_output]`
pub fn quantize_codes(
    weight: Tensor<2>,
    scales: Tensor<2>,
    zero_points: Tensor<2>,
    bits: Bits,
) -> Tensor<2, Int> {
    let ([k, n], [groups, _]) = (weight.dims(), scales.dims());
    let max_code = f64::from(bits.max_code());
    let weight: Tensor<3> = weight.detach().reshape([groups, k / groups, n]);
    let scales = scales.detach().clamp(SCALE_MIN, SCALE_MAX);
    let scales: Tensor<3> = scales.unsqueeze_dim(1);
    let zero_points = zero_points.detach().round().clamp(0.0, max_code);
    let zero_points: Tensor<3> = zero_points.unsqueeze_dim(1);
    let codes = ((weight / scales).round() + zero_points).clamp(0.0, max_code);
    codes.reshape([k, n]).int()
}
