//! Rotary positions.

use super::half::{is_half, widen};
use crate::OpError;
use crate::api::in_type;
use crate::check::{expect_shape, expect_size};
#[cfg(feature = "flex")]
use crate::flex::transformer::{self as flex, Argument, Arguments};
use burn::tensor::Tensor;

/// Rotary positions in the layout of Hugging Face checkpoints, with gradients by `x`. The first half of each head is
/// rotated against the second half, by the angles of its position. The tables may be of another type than `x`,
/// whose type the result has.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat_kernels::transformer::rotary;
///
/// let device = Device::flex();
/// // Angles of three positions, for heads of width 4.
/// let angles = Tensor::<2>::from_data([[0.0, 0.0], [1.0, 0.01], [2.0, 0.02]], &device);
/// let q = Tensor::<4>::random([1, 2, 3, 4], Distribution::Default, &device);
/// let rotated = rotary(q.clone(), angles.clone().cos(), angles.sin())?;
/// assert_eq!(rotated.dims(), [1, 2, 3, 4]);
/// // Rotations keep lengths.
/// let squares = |x: Tensor<4>| x.square().sum().into_scalar::<f32>();
/// assert!((squares(rotated) - squares(q)).abs() < 1e-4);
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
///
/// # Shapes
///
/// - `x` and output: `[batch, heads, positions, width]`, where `width` is even
/// - `cos`, `sin`: `[positions, width / 2]`
///
/// # Errors
///
/// When the tables have other sizes, or the width is odd.
pub fn rotary(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Result<Tensor<4>, OpError> {
    const OP: &str = "rotary";
    let [_, _, positions, width] = x.dims();
    expect_size(
        OP,
        "the width of a head",
        width,
        width.is_multiple_of(2),
        || "an even number".into(),
    )?;
    let table = [positions, width / 2];
    expect_shape(OP, "cos", &cos.dims(), &table)?;
    expect_shape(OP, "sin", &sin.dims(), &table)?;
    let dtype = x.dtype();
    if is_half(dtype) {
        // Angles of far positions need more than 16 bits.
        return Ok(in_type(rotary(widen(x), cos, sin)?, dtype));
    }
    let (cos, sin) = (in_type(cos, dtype), in_type(sin, dtype));
    #[cfg(feature = "flex")]
    if let Some(x) = Arguments::all([Argument::of(&x)])
        && let (Some(cos), Some(sin)) = (Argument::of(&cos), Argument::of(&sin))
    {
        return Ok(flex::rotary(x, [cos, sin]));
    }
    let (cos, sin): (Tensor<4>, Tensor<4>) = (cos.unsqueeze(), sin.unsqueeze());
    let first = x.clone().slice_dim(3, 0..width / 2);
    let second = x.slice_dim(3, width / 2..width);
    Ok(Tensor::cat(
        vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ],
        3,
    ))
}
