//! Packed low-bit ops for Burn tensors, with gradients.
//!
//! A weight matrix `[d_input, d_output]` is held as integer codes of 2, 3, 4 or 8 bits, packed into
//! 32-bit words along `d_input`, with one step size (scale) and one zero point for each group of
//! rows and each column. This crate has the ops for training and running such a matrix. It does not
//! know models, files or training loops:
//!
//! | op | in | out | gradient by |
//! |---|---|---|---|
//! | [`fake_quantize`] | dense weight, step sizes, zero points | dense weight | all three |
//! | [`PackedWeight::quantize`] | dense weight, step sizes, zero points | packed weight | - |
//! | [`PackedWeight::dequantize`] | packed weight | dense weight | step sizes |
//! | [`PackedWeight::linear`] | packed weight, input, bias | output | input, step sizes, bias |
//! | [`AffineWeight::linear`] | the same, with zero points as numbers | output | these, zero points |
//! | [`pack`], [`unpack`], [`pack_columns`], [`unpack_columns`] | codes or words | words or codes | - |
//!
//! The module [`transformer`] has the ops between a transformer's matmuls: attention, norms, rotary positions and
//! SwiGLU. In training they take less time and memory than the same computation from Burn's ops.
//!
//! Every op has a portable body made of Burn ops ([`QuantOps`]'s defaults), so it runs on each of
//! Burn's backends. CubeCL's backends (CUDA, ROCm, Metal, Vulkan, WebGPU, and its CPU runtime) and Flex, Burn's own
//! backend on CPUs, have faster bodies. Shapes and the device's abilities are checked before anything runs; a failed
//! check is an [`OpError`], not a panic. Functions that return no `Result`, such as a module's `forward`, pass the
//! error on with [`OpError::raise`] and [`OpError::catch`].
//!
//! # Packed layout
//!
//! The layout is that of GPTQ checkpoints, version 2. Codes are packed along `d_input`, from the low
//! bit up: word `[i, j]` holds the codes of rows `i * 32 / b ..` of column `j`. 3-bit codes are one
//! dense bit stream (32 codes in 3 words), so a code may lie across two words. The last word is
//! padded with zeros if `d_input * b` is not a multiple of 32. Zero points are packed the same way
//! along `d_output`. A tensor of words is an integer tensor whose 32-bit elements hold the bits of
//! the unsigned words (always `i32`, since not every backend has `u32`).
#![deny(missing_docs)]
// Burn marks its NdArray and LibTorch backends deprecated, and removes them in 0.23. They are supported here until then.
#![cfg_attr(any(feature = "ndarray", feature = "tch"), allow(deprecated))]

mod activations;
mod api;
mod autodiff;
mod bits;
mod capability;
mod check;
// Flex uses only its sizes.
#[cfg(any(feature = "cube", feature = "flex", test))]
#[cfg_attr(not(feature = "cube"), allow(dead_code))]
mod block;
// Plans are tested without a device.
#[cfg(any(feature = "cube", test))]
#[cfg_attr(not(feature = "cube"), allow(dead_code, unused_imports))]
mod cube;
mod error;
#[cfg(feature = "flex")]
mod flex;
mod layout;
#[cfg(test)]
mod misuse;
mod ops;
mod packed_weight;
mod portable;
#[cfg(any(feature = "cube", feature = "flex", test))]
#[cfg_attr(not(feature = "cube"), allow(dead_code))]
mod problem;
#[cfg(test)]
#[path = "../tests/ops/sizes.rs"]
mod sizes;
pub mod transformer;

pub use activations::Activations;
pub use api::{fake_quantize, pack, pack_columns, unpack, unpack_columns};
pub use bits::{Bits, BitsError};
pub use capability::{is_gpu, multiplies, supports, word_type};
pub use error::OpError;
pub use layout::{Fields, PackError, pack_codes, unpack_codes};
pub use ops::QuantOps;
pub use packed_weight::{AffineWeight, PackedWeight, RepackedCopy, quantize_codes};
pub use portable::{SCALE_MAX, SCALE_MIN};

/// The readme's example, compiled and run.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;
