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
