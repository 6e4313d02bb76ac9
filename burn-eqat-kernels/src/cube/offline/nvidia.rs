//! Kernels for NVIDIA's GPUs.

use super::gpu::Gpu;
use super::ptx::Ptx;
use burn_cubecl::cubecl::Compiler;
use burn_cubecl::cubecl::ir::nvidia::SmArch;
use burn_cubecl::cubecl::prelude::KernelDefinition;
use cubecl_llvm::nvptx::ptx_version::PtxVersion;
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions};
use std::ffi::CStr;

/// What a kernel compiles to.
pub(super) fn compile(gpu: &Gpu, kernel: KernelDefinition) -> Ptx {
    let capability = gpu.arch.strip_prefix("sm_").expect("it is NVIDIA's");
    let mut compiler = PlironCompiler {
        target: LlvmTarget::Nvptx,
    };
    let options = PlironOptions {
        sm_arch: Some(SmArch::new(capability.parse().unwrap(), false)),
        ptx_version: PtxVersion::for_driver(12080),
        // As CubeCL's CUDA runtime passes sizes.
        grid_constants: true,
        ..Default::default()
    };
    let compiled = compiler.compile(kernel, &options).unwrap();
    let PlironArtifact::NvptxCode(module) = compiled else {
        unreachable!("the target is PTX");
    };
    // SAFETY: the text ends with a zero.
    let text = unsafe { CStr::from_ptr(module.ptx.as_ptr()) };
    Ptx {
        text: text.to_string_lossy().into_owned(),
        shared: module.shared_memory_size,
    }
}
