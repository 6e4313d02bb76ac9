//! The ops on CubeCL: CUDA, ROCm, Metal, Vulkan, WebGPU and CubeCL's CPU runtime.
//!
//! Each folder but [`plan`] is one op, its kernels apart from their launches: [`linear`] (and its
//! gradients), [`dequantize`], [`unpack`], [`fake_quantize`], and [`reduce`], which adds up what these leave
//! in parts. [`backend`] checks operands and hands them to the ops. How work is split is decided in
//! [`plan`], from sizes and a device's limits alone, and tested without a device.

#[cfg(feature = "cube")]
mod backend;
#[cfg(feature = "cube")]
mod dequantize;
#[cfg(feature = "cube")]
mod fake_quantize;
#[cfg(feature = "cube")]
mod group;
#[cfg(feature = "cube")]
pub(crate) mod half_precision;
#[cfg(feature = "cube")]
mod limits;
#[cfg(feature = "cube")]
mod linear;
pub(crate) mod plan;
#[cfg(feature = "cube")]
mod reduce;
#[cfg(feature = "cube")]
mod tensors;
#[cfg(all(test, feature = "cube"))]
mod tests;
#[cfg(feature = "cube")]
mod unpack;
#[cfg(feature = "cube")]
mod weight;
#[cfg(feature = "cube")]
mod words;
