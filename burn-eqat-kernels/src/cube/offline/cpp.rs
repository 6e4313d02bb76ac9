//! Kernels by CubeCL's C++ compiler, which writes source for NVRTC. No NVRTC is needed to look at it.

use burn_cubecl::cubecl::Compiler;
use burn_cubecl::cubecl::prelude::KernelDefinition;
use cubecl_cpp::shared::{CompilationOptions, CppCompiler, CppSupportedFeatures};
use cubecl_cpp::target::Cuda;

/// The CUDA C++ of a kernel.
pub(super) fn source(kernel: KernelDefinition) -> String {
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
