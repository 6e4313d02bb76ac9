use burn::tensor::{Int, Tensor};
use burn_eqat_kernels::{Bits, SCALE_MAX, SCALE_MIN};

/// The codes of a weight: `clamp(round(w / s) + z, 0, 2^b - 1)`, with `s` clamped to `[1e-4, 1e4]`
/// and `z` rounded and clamped, as fake quantization does.
///
/// # Shapes
///
/// - `w`: `[d_input, d_output]`
/// - `s`, `z`: `[groups, d_output]`
/// - output: `[d_input, d_output]`
pub fn quantize_codes(w: Tensor<2>, s: Tensor<2>, z: Tensor<2>, bits: Bits) -> Tensor<2, Int> {
    let ([k, n], [groups, _]) = (w.dims(), s.dims());
    let max_code = f64::from(bits.max_code());
    let w: Tensor<3> = w.detach().reshape([groups, k / groups, n]);
    let s: Tensor<3> = s.detach().clamp(SCALE_MIN, SCALE_MAX).unsqueeze_dim(1);
    let z: Tensor<3> = z.detach().round().clamp(0.0, max_code).unsqueeze_dim(1);
    let q = ((w / s).round() + z).clamp(0.0, max_code);
    q.reshape([k, n]).int()
}
