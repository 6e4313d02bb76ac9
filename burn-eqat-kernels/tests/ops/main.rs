//! Every op, forward and backward, on a device, against plain Burn ops that differentiate themselves,
//! on Flex.
//!
//! The suite is written over a device: Flex, or the one that Burn's `BURN_DEVICE` names (`wgpu`, `cpu`,
//! `cuda`, ..) where its cargo feature is on. It runs in each float type that the device supports.
//! `PROPTEST_CASES` sets how many random problems each test takes.

mod gradients;
mod operands;
mod refusals;
mod shapes;
mod transformer;

use burn::tensor::Device;

/// The device that is tested.
fn device() -> Device {
    match std::env::var("BURN_DEVICE") {
        Ok(_) => Device::default(),
        Err(_) => Device::flex(),
    }
}

/// Whether the tested device is one of CubeCL's: those say who they are.
#[cfg(feature = "cube")]
fn is_cube(device: &Device) -> bool {
    device.identity().is_some()
}

#[cfg(not(feature = "cube"))]
fn is_cube(_device: &Device) -> bool {
    false
}
