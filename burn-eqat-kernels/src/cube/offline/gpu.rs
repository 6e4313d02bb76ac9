//! GPUs that are not there.

use super::ptx::Ptx;
use crate::cube::plan::fragment::Fragment;
use crate::cube::plan::limits::Limits;
use burn::tensor::DType;
use burn_cubecl::cubecl::Compiler;
use burn_cubecl::cubecl::features::{Features, MmaConfig, Plane};
use burn_cubecl::cubecl::ir::nvidia::SmArch;
use burn_cubecl::cubecl::ir::{
    DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    MemoryDeviceProperties, VectorSize,
};
use burn_cubecl::cubecl::prelude::KernelDefinition;
use burn_cubecl::cubecl::profile::TimingMethod;
use cubecl_llvm::nvptx::ptx_version::PtxVersion;
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions};
use std::ffi::CStr;
use std::sync::Arc;

/// What CUDA says of a GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gpu {
    /// The compute capability, times ten.
    pub arch: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory of a cube.
    pub shared: usize,
}

impl Gpu {
    /// An A100.
    pub const SM_80: Gpu = Gpu {
        arch: 80,
        multiprocessors: 108,
        shared: 163 << 10,
    };

    /// An H100.
    pub const SM_90: Gpu = Gpu {
        arch: 90,
        multiprocessors: 132,
        shared: 227 << 10,
    };

    pub const ALL: [Gpu; 2] = [Gpu::SM_80, Gpu::SM_90];

    /// Units of a plane.
    const PLANE: u32 = 32;

    /// Column vectors side by side in a plane, as the first strategy of few rows has them.
    pub const LANES: usize = Self::PLANE as usize / 4;

    /// What plans need to know, for inputs of type `dtype`.
    pub fn limits(&self, dtype: DType) -> Limits {
        Limits {
            units: 1024,
            shared: self.shared,
            plane: Some(Self::PLANE as usize),
            busy: 4 * self.multiprocessors as usize,
            vector: 4,
            widest: VectorSize::MAX,
            cubes: 65535,
            matrix: (dtype.size() == 2).then_some(Fragment::COMMON),
            mma: dtype.size() == 2,
            cpu: false,
        }
    }

    /// What CubeCL needs to know.
    pub fn properties(&self) -> Arc<DeviceProperties> {
        let hardware = HardwareProperties {
            load_width: 128,
            vector_register_count: None,
            plane_size_min: Self::PLANE,
            plane_size_max: Self::PLANE,
            max_bindings: 1024,
            max_shared_memory_size: self.shared,
            max_cube_count: (i32::MAX as u32, 65535, 65535),
            max_units_per_cube: 1024,
            max_cube_dim: (1024, 1024, 64),
            num_streaming_multiprocessors: Some(self.multiprocessors),
            num_tensor_cores: Some(4),
            min_tensor_cores_dim: Some(8),
            num_cpu_cores: None,
            last_level_cache_size: None,
            max_vector_size: VectorSize::MAX,
            cube_mma_reserved_shared_memory: 0,
        };
        let mut features = Features::default();
        features.plane.insert(Plane::Ops);
        for half in [FloatKind::F16, FloatKind::BF16].map(ElemType::Float) {
            features.matmul.cmma.insert(MmaConfig {
                a_type: half,
                b_type: half,
                cd_type: ElemType::Float(FloatKind::F32),
                m: 16,
                n: 16,
                k: 16,
            });
            features.matmul.mma.insert(MmaConfig {
                a_type: half,
                b_type: half,
                cd_type: ElemType::Float(FloatKind::F32),
                m: 16,
                n: 8,
                k: 16,
            });
        }
        Arc::new(DeviceProperties::new(
            features,
            MemoryDeviceProperties::new(u64::MAX, 512),
            hardware,
            TimingMethod::Device,
            DeviceIdentity {
                name: format!("sm_{}", self.arch),
                fingerprint: format!("sm_{}", self.arch),
                physical: None,
            },
        ))
    }

    /// What a kernel compiles to.
    pub fn compile(&self, kernel: KernelDefinition) -> Ptx {
        let mut compiler = PlironCompiler {
            target: LlvmTarget::Nvptx,
        };
        let options = PlironOptions {
            sm_arch: Some(SmArch::new(self.arch, false)),
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
}
