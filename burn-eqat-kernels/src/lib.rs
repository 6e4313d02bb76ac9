//! Packed low-bit ops for Burn tensors, with gradients.
//!
//! A weight matrix `[d_input, d_output]` is held as integer codes of 2, 3, 4 or 8 bits, packed into
//! 32-bit words along `d_input`, with one step size (scale) and one zero point for each group of
//! rows and each column. This crate has the ops that training and running such a matrix needs,
//! and knows nothing of models, files or training:
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
//! Besides these, [`transformer`] has what a transformer does between its matmuls: attention, norms, rotary positions and
//! SwiGLU, which take less time and memory in training than Burn's ops put together.
//!
//! Every op has a portable body made of Burn ops ([`QuantOps`]'s defaults), so it runs on each of
//! Burn's backends. Faster bodies are there for CubeCL's backends (CUDA, ROCm, Metal, Vulkan,
//! WebGPU, and its CPU runtime) and for Flex, Burn's own backend on CPUs. Shapes, and what the device can do, are
//! checked before anything runs: what cannot be done is an [`OpError`], not a panic. Where there is no result to
//! return it in, as in a module's `forward`, [`OpError::raise`] and [`OpError::catch`] pass it on.
//!
//! # Packed layout
//!
//! The layout is that of GPTQ checkpoints, version 2. Codes run along `d_input`, fields from the low
//! bit up: word `[i, j]` holds the codes of rows `i * 32 / b ..` of column `j`. 3-bit codes are one
//! dense bit stream (32 codes in 3 words), so a code may lie across two words. The last word is
//! padded with zeros where `d_input * b` is no multiple of 32. Zero points are packed the same way
//! along `d_output`. A tensor of words is an integer tensor whose 32-bit elements hold the bits of
//! the unsigned words (`i32` everywhere, since not every backend has `u32`).
#![deny(missing_docs)]
// Burn marks its NdArray and LibTorch backends deprecated; they stay supported here.
#![cfg_attr(any(feature = "ndarray", feature = "tch"), allow(deprecated))]

mod activations;
mod api;
mod autodiff;
mod bits;
mod capability;
mod check;
// Flex uses its sizes only.
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
pub mod transformer;

pub use activations::Activations;
pub use api::{fake_quantize, pack, pack_columns, unpack, unpack_columns};
pub use bits::{Bits, BitsError};
pub use capability::supports;
pub use error::OpError;
pub use layout::{Fields, PackError, pack_codes, unpack_codes};
pub use ops::QuantOps;
pub use packed_weight::{AffineWeight, PackedWeight, RepackedCopy, quantize_codes};
pub use portable::{SCALE_MAX, SCALE_MIN};

/// The readme's example, compiled and run.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;
