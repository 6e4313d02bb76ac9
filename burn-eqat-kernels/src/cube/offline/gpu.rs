//! GPUs that are not there.

use crate::cube::plan::fragment::Fragment;
use crate::cube::plan::limits::Limits;
use burn::tensor::DType;
use burn_cubecl::cubecl::features::{Features, MmaConfig, Plane};
use burn_cubecl::cubecl::ir::{
    DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    MemoryDeviceProperties, VectorSize,
};
use burn_cubecl::cubecl::profile::TimingMethod;
use std::sync::Arc;

/// What its runtime says of a GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gpu {
    /// The name of its instructions.
    pub arch: &'static str,
    /// Multiprocessors, or compute units.
    pub multiprocessors: u32,
    /// Bytes of shared memory of a cube.
    pub shared: usize,
    /// Units of a plane.
    pub plane: u32,
    /// Whether matrix units multiply fragments of 16 bits.
    pub matrix: bool,
    /// Whether they multiply what is in registers, as the kernel for few rows needs it.
    pub mma: bool,
}

/// An A100.
const SM_80: Gpu = Gpu {
    arch: "sm_80",
    multiprocessors: 108,
    shared: 163 << 10,
    plane: 32,
    matrix: true,
    mma: true,
};

/// An H100.
pub(super) const SM_90: Gpu = Gpu {
    arch: "sm_90",
    multiprocessors: 132,
    shared: 227 << 10,
    ..SM_80
};

/// An RX 9070 (RDNA 4), with planes of 32 and matrix units.
const GFX1201: Gpu = Gpu {
    arch: "gfx1201",
    multiprocessors: 64,
    shared: 64 << 10,
    plane: 32,
    matrix: true,
    mma: false,
};

/// An MI300 (CDNA 3), with planes of 64. CubeCL's LLVM compiler does not use its matrix units.
const GFX942: Gpu = Gpu {
    arch: "gfx942",
    multiprocessors: 304,
    plane: 64,
    matrix: false,
    ..GFX1201
};

pub(super) const NVIDIA: [Gpu; 2] = [SM_80, SM_90];

pub(super) const AMD: [Gpu; 2] = [GFX1201, GFX942];

impl Gpu {
    /// Column vectors side by side in a plane, as the first strategy of few rows has them.
    pub fn lanes(&self) -> usize {
        self.plane as usize / 4
    }

    /// What plans need to know, for inputs of type `dtype`.
    pub fn limits(&self, dtype: DType) -> Limits {
        let half = dtype.size() == 2;
        Limits {
            units: 1024,
            shared: self.shared,
            plane: Some(self.plane as usize),
            busy: 4 * self.multiprocessors as usize,
            vector: 4,
            widest: VectorSize::MAX,
            cubes: 65535,
            matrix: (half && self.matrix).then_some(Fragment::COMMON),
            mma: half && self.mma,
            cpu: false,
        }
    }

    /// What CubeCL needs to know.
    pub fn properties(&self) -> Arc<DeviceProperties> {
        let hardware = HardwareProperties {
            load_width: 128,
            vector_register_count: None,
            plane_size_min: self.plane,
            plane_size_max: self.plane,
            max_bindings: 1024,
            max_shared_memory_size: self.shared,
            max_cube_count: (i32::MAX as u32, 65535, 65535),
            max_units_per_cube: 1024,
            max_cube_dim: (1024, 1024, 64),
            num_streaming_multiprocessors: Some(self.multiprocessors),
            num_tensor_cores: self.matrix.then_some(4),
            min_tensor_cores_dim: self.matrix.then_some(if self.mma { 8 } else { 16 }),
            num_cpu_cores: None,
            last_level_cache_size: None,
            max_vector_size: VectorSize::MAX,
            cube_mma_reserved_shared_memory: 0,
        };
        let mut features = Features::default();
        features.plane.insert(Plane::Ops);
        for half in [FloatKind::F16, FloatKind::BF16].map(ElemType::Float) {
            let of_size = |[m, n, k]: [u32; 3]| MmaConfig {
                a_type: half,
                b_type: half,
                cd_type: ElemType::Float(FloatKind::F32),
                m,
                n,
                k,
            };
            if self.matrix {
                features.matmul.cmma.insert(of_size([16, 16, 16]));
            }
            if self.mma {
                features.matmul.mma.insert(of_size([16, 8, 16]));
            }
        }
        Arc::new(DeviceProperties::new(
            features,
            MemoryDeviceProperties::new(u64::MAX, 512),
            hardware,
            TimingMethod::Device,
            DeviceIdentity {
                name: self.arch.to_string(),
                fingerprint: self.arch.to_string(),
                physical: None,
            },
        ))
    }
}
