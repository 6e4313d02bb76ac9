//! What a device allows.

use super::fragment::Fragment;

/// What a plan has to know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Units in a cube (threads in a block), at most.
    pub units: usize,
    /// Bytes of shared memory of a cube.
    pub shared: usize,
    /// Units in a plane (warp, subgroup), where that is one number and planes can shuffle.
    pub plane: Option<usize>,
    /// Cubes that keep the device busy.
    pub busy: usize,
    /// Columns that one load should take, at most.
    pub vector: usize,
    /// Elements of the widest vector.
    pub widest: usize,
    /// Cubes along one axis, at most.
    pub cubes: usize,
    /// What the matrix units multiply at a time, where they take the input's type.
    pub matrix: Option<Fragment>,
    /// Whether this is a CPU, whose few units wait for one another.
    pub cpu: bool,
}

#[cfg(test)]
impl Limits {
    /// Something like a large GPU.
    pub const GPU: Limits = Limits {
        units: 1024,
        shared: 48 * 1024,
        plane: Some(32),
        busy: 132 * 4,
        vector: 4,
        widest: 4,
        cubes: 65535,
        matrix: Some(Fragment::COMMON),
        cpu: false,
    };

    /// Something like CubeCL's CPU runtime.
    pub const CPU: Limits = Limits {
        units: 2,
        shared: 32 * 1024,
        plane: None,
        busy: 1,
        vector: 16,
        widest: 16,
        cubes: 65535,
        matrix: None,
        cpu: true,
    };

    /// The least that WebGPU promises.
    pub const SMALL_GPU: Limits = Limits {
        units: 256,
        shared: 16 * 1024,
        plane: None,
        busy: 64,
        vector: 4,
        widest: 4,
        cubes: 65535,
        matrix: None,
        cpu: false,
    };
}
