//! Kernels by CubeCL's C++ compilers, which write source for NVRTC and for HIP. Neither is needed to look at it.

use super::gpu::Gpu;
use burn_cubecl::cubecl::Compiler;
use burn_cubecl::cubecl::prelude::KernelDefinition;
use cubecl_cpp::hip::arch::AmdWmma;
use cubecl_cpp::shared::{CompilationOptions, CppCompiler, CppSupportedFeatures};
use cubecl_cpp::target::{Cuda, Hip};

/// The CUDA C++ of a kernel.
pub(super) fn cuda(kernel: KernelDefinition) -> String {
    let options = CompilationOptions {
        supports_features: CppSupportedFeatures {
            grid_constants: true,
            ..Default::default()
        },
        ..Default::default()
    };
    let mut compiler = CppCompiler::<Cuda>::default();
    compiler.compile(kernel, &options).unwrap().to_string()
}

/// The HIP C++ of a kernel, with the options that CubeCL's runtime has.
pub(super) fn hip(gpu: &Gpu, kernel: KernelDefinition) -> String {
    let options = CompilationOptions {
        warp_size: gpu.plane as usize,
        supports_features: CppSupportedFeatures {
            fast_math: true,
            ..Default::default()
        },
        amd_wmma: gpu.matrix.then_some(AmdWmma::Rdna4),
    };
    let mut compiler = CppCompiler::<Hip>::default();
    compiler.compile(kernel, &options).unwrap().to_string()
}
