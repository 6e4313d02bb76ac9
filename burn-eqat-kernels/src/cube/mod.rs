//! The ops on CubeCL: CUDA, ROCm, Metal, Vulkan, WebGPU and CubeCL's CPU runtime.
//!
//! Each op is a folder: the kernel apart from its launch. How work is split is decided in [`plan`],
//! from sizes and a device's limits alone, and tested without a device.

pub(crate) mod plan;

#[cfg(feature = "cube")]
mod backend;
#[cfg(feature = "cube")]
mod choose;
#[cfg(feature = "cube")]
mod codes;
#[cfg(feature = "cube")]
mod dequantize;
#[cfg(feature = "cube")]
mod fake_quantize;
#[cfg(feature = "cube")]
mod gemv;
#[cfg(feature = "cube")]
mod group;
#[cfg(feature = "cube")]
pub(crate) mod host;
#[cfg(feature = "cube")]
mod limits;
#[cfg(feature = "cube")]
mod product;
#[cfg(feature = "cube")]
mod reduce;
#[cfg(feature = "cube")]
mod slab;
#[cfg(feature = "cube")]
mod tensors;
#[cfg(all(test, feature = "cube"))]
mod tests;
#[cfg(feature = "cube")]
mod tile;
#[cfg(feature = "autotune")]
mod tune;
#[cfg(feature = "cube")]
mod weight;
