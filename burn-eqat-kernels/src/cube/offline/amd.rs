//! Kernels for AMD's GPUs.

use super::gcn::Gcn;
use super::gpu::Gpu;
use burn_cubecl::cubecl::Compiler;
use burn_cubecl::cubecl::ir::amd::GfxArch;
use burn_cubecl::cubecl::prelude::KernelDefinition;
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions};

/// With this variable in its environment, CubeCL's compiler keeps the assembly.
pub(super) const KEEP_ASSEMBLY: &str = "CUBECL_DEBUG_PLIRON";

/// An RX 9070 (RDNA 4), with planes of 32 and matrix units.
pub(super) const GFX1201: Gpu = Gpu {
    arch: "gfx1201",
    multiprocessors: 64,
    shared: 64 << 10,
    plane: 32,
    matrix: true,
    mma: false,
};

/// An MI300 (CDNA 3), with planes of 64. CubeCL's compiler does not use its matrix units.
pub(super) const GFX942: Gpu = Gpu {
    arch: "gfx942",
    multiprocessors: 304,
    plane: 64,
    matrix: false,
    ..GFX1201
};

pub(super) const ALL: [Gpu; 2] = [GFX1201, GFX942];

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
