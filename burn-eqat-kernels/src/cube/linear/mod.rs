//! The packed linear layer: its matmul and the two matmuls of its gradients.
//!
//! [`select`] selects the strategy of each. The strategies are the matrix-vector kernel
//! ([`gemv`]), the tiled kernels ([`tile`]), and Burn's own matmul over slabs of the weight ([`slab`]).

pub(in crate::cube) mod gemv;
pub(crate) mod matmul;
pub(crate) mod select;
mod slab;
pub(in crate::cube) mod tile;
#[cfg(feature = "autotune")]
mod tune;
mod unavailable;
