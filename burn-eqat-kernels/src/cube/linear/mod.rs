//! The packed linear layer: its matmul and the two matmuls of its gradients.
//!
//! [`select`] selects the strategy of each. The strategies are the matrix-vector kernel
//! ([`gemv`]), matrix units that are fed from registers ([`mma`]), the tiled kernels ([`tile`]), and Burn's own matmul over slabs of
//! the weight ([`slab`]).

pub(in crate::cube) mod gemv;
pub(crate) mod matmul;
pub(in crate::cube) mod mma;
pub(crate) mod select;
mod slab;
pub(in crate::cube) mod tile;
#[cfg(feature = "autotune")]
mod tune;
mod unavailable;
