use burn::tensor::Device;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where tensors live: one value for each backend that is compiled in.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DeviceName {
    /// Burn's own CPU backend.
    #[cfg(feature = "flex")]
    Flex,
    /// CubeCL's CPU runtime.
    #[cfg(feature = "cpu")]
    Cpu,
    /// WebGPU.
    #[cfg(feature = "wgpu")]
    Wgpu,
    /// Vulkan, through SPIR-V.
    #[cfg(feature = "vulkan")]
    Vulkan,
    /// Metal.
    #[cfg(feature = "metal")]
    Metal,
    /// NVIDIA.
    #[cfg(feature = "cuda")]
    Cuda,
    /// AMD.
    #[cfg(feature = "rocm")]
    Rocm,
    /// LibTorch's CPU.
    #[cfg(feature = "tch")]
    Tch,
    /// ndarray.
    #[cfg(feature = "ndarray")]
    Ndarray,
}

impl DeviceName {
    /// The device.
    #[allow(deprecated)] // Burn's NdArray and LibTorch
    pub(super) fn device(self) -> Device {
        #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
        use burn::tensor::DeviceKind::DefaultDevice;
        match self {
            #[cfg(feature = "flex")]
            DeviceName::Flex => Device::flex(),
            #[cfg(feature = "cpu")]
            DeviceName::Cpu => Device::cpu(),
            #[cfg(feature = "wgpu")]
            DeviceName::Wgpu => Device::wgpu(DefaultDevice),
            #[cfg(feature = "vulkan")]
            DeviceName::Vulkan => Device::vulkan(DefaultDevice),
            #[cfg(feature = "metal")]
            DeviceName::Metal => Device::metal(DefaultDevice),
            #[cfg(feature = "cuda")]
            DeviceName::Cuda => Device::cuda(0),
            #[cfg(feature = "rocm")]
            DeviceName::Rocm => Device::rocm(0),
            #[cfg(feature = "tch")]
            DeviceName::Tch => Device::libtorch(),
            #[cfg(feature = "ndarray")]
            DeviceName::Ndarray => Device::ndarray(),
        }
    }
}

/// `--device`, shared by the commands.
#[derive(clap::Args, Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct DeviceArg {
    /// Where to compute; more names are there when their cargo features are [default: the first of them]
    #[arg(long, value_enum, value_name = "NAME")]
    device: Option<DeviceName>,
}

impl DeviceArg {
    /// Whether it has a memory of its own, besides the host's.
    #[allow(deprecated, unreachable_code)] // as below
    pub(super) fn has_memory(&self) -> bool {
        match self.device.unwrap_or_else(default_device) {
            #[cfg(feature = "flex")]
            DeviceName::Flex => false,
            #[cfg(feature = "cpu")]
            DeviceName::Cpu => false,
            #[cfg(feature = "tch")]
            DeviceName::Tch => false,
            #[cfg(feature = "ndarray")]
            DeviceName::Ndarray => false,
            #[allow(unreachable_patterns)] // where there are no others
            _ => true,
        }
    }

    /// Whether the ops of a transformer are fused in f32.
    #[allow(unreachable_code)] // as below
    pub(super) fn fuses_f32(&self) -> bool {
        match self.device.unwrap_or_else(default_device) {
            #[cfg(feature = "flex")]
            DeviceName::Flex => true,
            #[allow(unreachable_patterns)] // where there are no others
            _ => false,
        }
    }

    /// The device.
    #[allow(unreachable_code)] // there is no name where no backend is compiled in
    pub(super) fn device(&self) -> Device {
        self.device.unwrap_or_else(default_device).device()
    }
}

/// Flex if it is compiled in, else the first compiled backend.
fn default_device() -> DeviceName {
    DeviceName::value_variants()[0]
}
