use crate::{Scheme, SchemeError};
use burn::tensor::Tensor;
use burn_eqat_kernels::{SCALE_MAX, SCALE_MIN};

/// Step sizes and zero points that span the range of each group. Training starts with them.
///
/// Asymmetric: the step size is `(max - min) / (2^b - 1)`, clamped to `[1e-4, 1e4]`, and the zero point
/// `round(-min / step)`, clamped to the code range, so that groups of only positive or only negative
/// weights pack correctly. Symmetric: the step size is `2 max|w| / (2^b - 1)` and the zero point `2^(b-1)`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::{Scheme, min_max_start};
///
/// let scheme: Scheme = "w2g4".parse()?;
/// let weight = Tensor::<2>::from_data([[-1.0], [0.0], [1.0], [2.0]], &Device::flex());
/// let (scales, zero_points) = min_max_start(weight, &scheme)?;
/// // Four codes from -1 to 2, of which code 1 stands for 0.
/// assert_eq!(scales.into_scalar::<f32>(), 1.0);
/// assert_eq!(zero_points.into_scalar::<f32>(), 1.0);
/// # Ok::<(), burn_eqat::SchemeError>(())
/// ```
///
/// # Shapes
///
/// - `weight`: `[d_input, d_output]`
/// - output: step sizes and zero points, each `[groups, d_output]`
///
/// # Errors
///
/// When the group size does not divide `d_input`.
pub fn min_max_start(
    weight: Tensor<2>,
    scheme: &Scheme,
) -> Result<(Tensor<2>, Tensor<2>), SchemeError> {
    let [k, n] = weight.dims();
    let groups = scheme.groups(k)?;
    let steps = f64::from(scheme.bits.max_code());
    let weight: Tensor<3> = weight.detach().reshape([groups, k / groups, n]);

    if scheme.symmetric {
        let largest = weight.abs().max_dim(1).reshape([groups, n]);
        let scales = largest.mul_scalar(2.0 / steps).clamp(SCALE_MIN, SCALE_MAX);
        let zero_points = scales.full_like(scheme.middle_code());
        return Ok((scales, zero_points));
    }
    let max: Tensor<2> = weight.clone().max_dim(1).reshape([groups, n]);
    let min: Tensor<2> = weight.min_dim(1).reshape([groups, n]);
    let scales = ((max - min.clone()) / steps).clamp(SCALE_MIN, SCALE_MAX);
    let zero_points = (min.neg() / scales.clone()).clamp(-1e4, 1e4).round();
    Ok((scales, zero_points.clamp(0.0, steps)))
}
