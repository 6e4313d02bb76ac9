//! Every op, forward and backward, on a device, against plain Burn ops that differentiate themselves,
//! on Flex.
//!
//! The suite is written over a device: Flex, or the one that `EQAT_TEST_DEVICE` names (`wgpu`, `cpu`,
//! `cuda`, ..) where its cargo feature is on. It runs in each float type that the device supports.
//! `PROPTEST_CASES` sets how many random problems each test takes.

mod gradients;
mod operands;
mod refusals;
mod shapes;

use burn::tensor::Device;

/// The device that is tested.
fn device() -> Device {
    match std::env::var("EQAT_TEST_DEVICE").as_deref() {
        #[cfg(feature = "wgpu")]
        Ok("wgpu") => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "vulkan")]
        Ok("vulkan") => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "metal")]
        Ok("metal") => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "cuda")]
        Ok("cuda") => Device::cuda(0),
        #[cfg(feature = "rocm")]
        Ok("rocm") => Device::rocm(0),
        #[cfg(feature = "cpu")]
        Ok("cpu") => Device::cpu(),
        #[cfg(feature = "ndarray")]
        Ok("ndarray") => Device::ndarray(),
        #[cfg(feature = "tch")]
        Ok("tch") => Device::libtorch(),
        Ok("flex") | Err(_) => Device::flex(),
        Ok(other) => panic!("EQAT_TEST_DEVICE is {other:?}, which is not compiled in"),
    }
}
