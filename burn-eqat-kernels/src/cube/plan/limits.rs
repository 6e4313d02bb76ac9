//! The limits of a device.

use super::fragment::Fragment;

/// The properties of a device that plans need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most units in a cube (threads in a block).
    pub units: usize,
    /// Bytes of shared memory of a cube.
    pub shared: usize,
    /// Units in a plane (warp, subgroup), if all planes have the same size and can shuffle.
    pub plane: Option<usize>,
    /// Cubes that keep the device busy.
    pub busy: usize,
    /// The most columns of one load.
    pub vector: usize,
    /// Elements of the widest vector.
    pub widest: usize,
    /// The most cubes along one axis.
    pub cubes: usize,
    /// The fragment of the matrix units, if they support the input's type.
    pub matrix: Option<Fragment>,
    /// Whether planes of 32 units multiply 16x8x16 elements of the input's type in registers whose places are known, with sums in f32.
    pub mma: bool,
    /// Whether this is a CPU, which has few units, and they wait for each other.
    pub cpu: bool,
}

#[cfg(test)]
impl Limits {
    /// Similar to a large GPU.
    pub const GPU: Limits = Limits {
        units: 1024,
        shared: 48 * 1024,
        plane: Some(32),
        busy: 132 * 4,
        vector: 4,
        widest: 4,
        cubes: 65535,
        matrix: Some(Fragment::COMMON),
        mma: true,
        cpu: false,
    };

    /// Similar to CubeCL's CPU runtime.
    pub const CPU: Limits = Limits {
        units: 2,
        shared: 32 * 1024,
        plane: None,
        busy: 1,
        vector: 16,
        widest: 16,
        cubes: 65535,
        matrix: None,
        mma: false,
        cpu: true,
    };

    /// The limits that WebGPU guarantees.
    pub const SMALL_GPU: Limits = Limits {
        units: 256,
        shared: 16 * 1024,
        plane: None,
        busy: 64,
        vector: 4,
        widest: 4,
        cubes: 65535,
        matrix: None,
        mma: false,
        cpu: false,
    };
}
