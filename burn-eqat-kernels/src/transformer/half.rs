//! Half precision (f16 and bf16): ops that add many numbers up compute in f32, and round their result once.

use crate::api::in_type;
#[cfg(feature = "flex")]
use crate::flex::transformer::is_flex;
use burn::tensor::{DType, Tensor};

/// Whether a type has 16 bits.
pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The tensor in f32 if it is in half precision.
pub(super) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_half(x.dtype()) {
        in_type(x, DType::F32)
    } else {
        x
    }
}

/// Whether an op on this tensor should run in f32: on Flex, whose bodies here are in f32, and whose ops in half precision
/// convert one number at a time.
pub(super) fn runs_wide<const D: usize>(x: &Tensor<D>) -> bool {
    is_half(x.dtype()) && is_flex(x)
}

#[cfg(not(feature = "flex"))]
fn is_flex<const D: usize>(_x: &Tensor<D>) -> bool {
    false
}
