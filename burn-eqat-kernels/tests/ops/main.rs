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

use burn::tensor::Device;

/// The device that is tested.
fn device() -> Device {
    match std::env::var("BURN_DEVICE") {
        Ok(_) => Device::default(),
        Err(_) => Device::flex(),
    }
}
