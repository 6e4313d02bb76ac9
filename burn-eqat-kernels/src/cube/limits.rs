//! The limits of a device, read from its client.

use crate::cube::plan::fragment::Fragment;
use crate::cube::plan::limits::Limits;
use crate::cube::plan::mma;
use burn::tensor::DType;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::features::Plane;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};

/// CubeCL's type for `dtype`.
pub(crate) fn elem(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

impl Limits {
    /// The limits of a device for inputs of type `dtype`.
    pub(crate) fn of(client: &Client, dtype: DType) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let plane = hardware.plane_size_min as usize;
        let plane = (hardware.plane_size_min == hardware.plane_size_max
            && plane >= 8
            && plane.is_power_of_two())
        .then_some(plane);
        let shuffles = properties.features.plane.contains(Plane::Ops);
        let cpu = hardware.num_cpu_cores.map(|cores| cores as usize);
        let (input, sums) = (elem(dtype), ElemType::Float(FloatKind::F32));
        let fragments = properties
            .features
            .matmul
            .cmma
            .iter()
            .filter(|mma| mma.a_type == input && mma.b_type == input && mma.cd_type == sums)
            .map(|mma| [mma.m, mma.n, mma.k].map(|side| side as usize));
        let mma = properties.features.matmul.mma.iter().any(|mma| {
            let types = [mma.a_type, mma.b_type, mma.cd_type];
            types == [input, input, sums] && (mma.m, mma.n, mma.k) == (16, 8, 16)
        });
        let (x, y, z) = hardware.max_cube_count;
        Limits {
            units: hardware.max_units_per_cube as usize,
            shared: hardware.max_shared_memory_size,
            plane: plane.filter(|_| shuffles),
            // Assume a GPU of middle size if its size is unknown.
            busy: match (cpu, hardware.num_streaming_multiprocessors) {
                (Some(_), _) => 1,
                (None, Some(count)) => 4 * count as usize,
                (None, None) => 128,
            },
            vector: match cpu {
                Some(_) => (hardware.load_width as usize / 32).clamp(4, 16),
                None => 4,
            },
            widest: hardware.max_vector_size,
            cubes: x.min(y).min(z) as usize,
            matrix: plane.and_then(|plane| Fragment::best(fragments, dtype.size(), plane)),
            mma: mma && shuffles && plane == Some(mma::PLANE),
            cpu: cpu.is_some(),
        }
    }
}
