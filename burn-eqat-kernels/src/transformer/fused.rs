//! Burn's own fused attention.
//!
//! Burn fuses attention on CubeCL if it tunes its kernels. Otherwise its attention is made of separate ops, which hold
//! the attention weights of all positions at once; [`tiled`](super::tiled) avoids that. The fused kernels always
//! multiply in f16, so they are not used for f32.

use crate::is_gpu;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Tensor};

/// The fused kernels need multiples of this many positions: 16 for each of up to 8 planes.
const POSITIONS: usize = 128;

/// They need multiples of this width.
const WIDTH: usize = 16;

/// The number of first positions that go to Burn's fused attention.
pub(super) fn positions(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    window: Option<usize>,
) -> usize {
    let differentiated = q.is_autodiff() || k.is_autodiff() || v.is_autodiff();
    let ([.., queries, width], [.., v_width]) = (q.dims(), v.dims());
    let plain = window.is_none() && !differentiated;
    if plain && fits(q.dtype(), [width, v_width]) && is_fused(&q.device()) {
        queries / POSITIONS * POSITIONS
    } else {
        0
    }
}

/// Whether the fused kernels are as exact as the operands' type, and support heads of these widths.
pub(super) fn fits(dtype: DType, widths: [usize; 2]) -> bool {
    let half = matches!(dtype, DType::F16 | DType::BF16);
    half && widths.iter().all(|width| width.is_multiple_of(WIDTH))
}

/// Whether Burn's attention is fused on a device. The kernels need planes, which the CPU runtime does not have.
fn is_fused(device: &Device) -> bool {
    cfg!(feature = "autotune") && is_gpu(device)
}

/// Causal attention of queries at the last positions. Shapes are those of
/// [`causal_attention`](super::causal_attention).
pub(super) fn causal(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let share = q.dims()[1] / k.dims()[1].max(1);
    let options = AttentionModuleOptions {
        is_causal: true,
        ..Default::default()
    };
    attention(q, repeat(k, share), repeat(v, share), None, None, options)
}

/// Repeats each head, since Burn's attention does not support shared heads.
fn repeat(x: Tensor<4>, share: usize) -> Tensor<4> {
    if share == 1 {
        return x;
    }
    let [batch, heads, positions, width] = x.dims();
    let x = x.unsqueeze_dim::<5>(2);
    let x = x.expand([batch, heads, share, positions, width]);
    x.reshape([batch, heads * share, positions, width])
}
