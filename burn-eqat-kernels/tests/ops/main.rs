//! Compares every op, forward and backward, on a device with plain Burn ops and automatic differentiation on
//! Flex.
//!
//! The device is Flex, or the one that Burn's `BURN_DEVICE` names (`wgpu`, `cpu`, `cuda`, ..) if its cargo feature is
//! on. The suite runs in each float type that the device supports. `PROPTEST_CASES` sets the number of random problems
//! of each test.

mod columns;
mod gradients;
mod operands;
mod refusals;
mod shapes;
mod sizes;
mod transformer;

use burn::tensor::Device;

/// The tested device.
fn device() -> Device {
    match std::env::var("BURN_DEVICE") {
        Ok(_) => Device::default(),
        Err(_) => Device::flex(),
    }
}

/// Whether Burn's own matmul of f32 is in TF32, of 11 significant bits: on CUDA's matrix units.
fn multiplies_in_tf32() -> bool {
    std::env::var("BURN_DEVICE").is_ok_and(|device| device.starts_with("cuda"))
}

/// Whether the tested device is one of CubeCL's.
#[cfg(feature = "cube")]
fn is_cube(device: &Device) -> bool {
    device.identity().is_some()
}

#[cfg(not(feature = "cube"))]
fn is_cube(_device: &Device) -> bool {
    false
}
