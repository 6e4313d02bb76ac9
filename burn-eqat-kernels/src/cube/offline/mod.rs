//! Every kernel compiled to PTX, to CUDA and HIP C++ and to AMD's instructions, without a GPU, and looked at: that words come in loads of 16 bytes, that
//! matrix units multiply, that planes shuffle, and that nothing is in local memory.
//!
//! The kernels are those of launches for a layer of 28672 x 8192 in groups of 64, by the plans of [`plan`](super::plan) for the
//! GPU. A launch that changes its arguments changes them in [`kernels`] too, or this does not compile.

#[cfg(feature = "offline-amd")]
mod amd;
mod cpp;
#[cfg(feature = "offline-amd")]
mod gcn;
mod gpu;
mod kernels;
mod nvidia;
mod ptx;
mod tests;
