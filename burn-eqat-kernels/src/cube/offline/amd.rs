//! Kernels for AMD's GPUs.

use super::gcn::Gcn;
use super::gpu::Gpu;
use burn_cubecl::cubecl::Compiler;
use burn_cubecl::cubecl::ir::amd::GfxArch;
use burn_cubecl::cubecl::prelude::KernelDefinition;
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions};

/// With this variable in its environment, CubeCL's compiler keeps the assembly.
pub(super) const KEEP_ASSEMBLY: &str = "CUBECL_DEBUG_PLIRON";

/// Bytes of registers that tiles without matrix units may spill: they fill the registers with sums. An array would take more.
pub(super) const SPILLED: usize = 128;

/// What a kernel compiles to; requires [`KEEP_ASSEMBLY`].
pub(super) fn compile(gpu: &Gpu, kernel: KernelDefinition) -> Gcn {
    let mut compiler = PlironCompiler {
        target: LlvmTarget::AmdGpu,
    };
    let options = PlironOptions {
        arch: Some(GfxArch::parse(gpu.arch)),
        ..Default::default()
    };
    let compiled = compiler.compile(kernel, &options).unwrap();
    let PlironArtifact::AmdGpuCode(module) = compiled else {
        unreachable!("the target is AMD's");
    };
    Gcn {
        text: module.asm.expect("the assembly is kept"),
    }
}
