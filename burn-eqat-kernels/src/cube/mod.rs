//! The ops on CubeCL: CUDA, ROCm, Metal, Vulkan, WebGPU and CubeCL's CPU runtime.
//!
//! Each folder except [`plan`] is one op, with separate kernels and launches: [`linear`] (and its gradients),
//! [`dequantize`], [`unpack`], [`fake_quantize`], and [`reduce`], which adds up the partial sums of the others.
//! [`backend`] checks operands and passes them to the ops. [`plan`] decides how work is split, only from sizes and a
//! device's limits, so it is tested without a device.

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
#[cfg(all(test, feature = "offline"))]
mod offline;
pub(crate) mod plan;
#[cfg(feature = "cube")]
mod reduce;
#[cfg(feature = "cube")]
mod tensors;
#[cfg(all(test, feature = "cube"))]
mod tests;
#[cfg(all(test, feature = "cube"))]
mod timing;
#[cfg(feature = "cube")]
mod unpack;
#[cfg(feature = "cube")]
mod weight;
#[cfg(feature = "cube")]
mod words;
