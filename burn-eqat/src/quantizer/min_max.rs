use crate::{Scheme, SchemeError};
use burn::tensor::Tensor;
use burn_eqat_kernels::{SCALE_MAX, SCALE_MIN};

/// Step sizes and zero points that span the range of each group: what training starts from.
///
/// Asymmetric: `s = clamp((max - min) / (2^b - 1), 1e-4, 1e4)` and `z = round(-min / s)`, clamped to
/// the code range so that a group that is all positive or all negative packs right. Symmetric:
/// `s = 2 max|w| / (2^b - 1)` and `z = 2^(b-1)`.
///
/// # Shapes
///
/// - `w`: `[d_input, d_output]`
/// - output: `(s, z)`, each `[groups, d_output]`
///
/// # Errors
///
/// When the group size does not divide `d_input`.
pub fn min_max_start(w: Tensor<2>, scheme: &Scheme) -> Result<(Tensor<2>, Tensor<2>), SchemeError> {
    let [k, n] = w.dims();
    let groups = scheme.groups(k)?;
    let steps = f64::from(scheme.bits.max_code());
    let w: Tensor<3> = w.detach().reshape([groups, k / groups, n]);

    if scheme.symmetric {
        let largest = w.abs().max_dim(1).reshape([groups, n]);
        let scale = largest.mul_scalar(2.0 / steps).clamp(SCALE_MIN, SCALE_MAX);
        let zero = scale.full_like(scheme.middle_code());
        return Ok((scale, zero));
    }
    let max: Tensor<2> = w.clone().max_dim(1).reshape([groups, n]);
    let min: Tensor<2> = w.min_dim(1).reshape([groups, n]);
    let scale = ((max - min.clone()) / steps).clamp(SCALE_MIN, SCALE_MAX);
    let zero = (min.neg() / scale.clone()).clamp(-1e4, 1e4).round();
    Ok((scale, zero.clamp(0.0, steps)))
}
