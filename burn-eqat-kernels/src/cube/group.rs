//! The final reduction over a chunk of a group, which several kernels share.

use crate::cube::plan::group::GroupCube;
use crate::cube::words::WeightSizes;
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The split of groups into chunks, see [`crate::cube::plan::group::GroupPlan`].
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Chunks {
    /// Rows of a chunk.
    pub rows: usize,
    /// Chunks of a group.
    pub count: usize,
}

/// The part of a reduction that a unit computes.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct UnitRows {
    /// The group.
    pub group: usize,
    /// The chunk, counted over all groups.
    pub chunk: usize,
    /// First row of the chunk.
    pub start: usize,
    /// Past its last row.
    pub end: usize,
    /// The unit's column vector.
    pub column: usize,
    /// The unit's slice of the chunk's rows.
    pub slice: usize,
}

#[cube]
impl UnitRows {
    /// Cubes run over column tiles first, then over chunks.
    pub fn new(weight: &WeightSizes, chunks: &Chunks, #[comptime] cube: GroupCube) -> UnitRows {
        let tiles = weight.vectors.div_ceil(cube.lanes);
        let chunk = CUBE_POS / tiles;
        let group = chunk / chunks.count;
        let start = group * weight.group + chunk % chunks.count * chunks.rows;
        let unit = UNIT_POS as usize;
        UnitRows {
            group,
            chunk,
            start,
            end: (start + chunks.rows).min((group + 1) * weight.group),
            column: CUBE_POS % tiles * cube.lanes + unit % cube.lanes,
            slice: unit / cube.lanes,
        }
    }
}

/// Adds up two sums over the slices of a cube, and writes them to row `chunk` of the outputs.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn finish<N: Size>(
    shared_a: &mut Shared<[Vector<f32, N>]>,
    shared_b: &mut Shared<[Vector<f32, N>]>,
    sum_a: Vector<f32, N>,
    sum_b: Vector<f32, N>,
    out_a: &mut [Vector<f32, N>],
    out_b: &mut [Vector<f32, N>],
    place: &UnitRows,
    weight: &WeightSizes,
    #[comptime] cube: GroupCube,
) {
    let unit = UNIT_POS as usize;
    shared_a[unit] = sum_a;
    shared_b[unit] = sum_b;
    sync_cube();
    if place.slice == 0 && place.column < weight.vectors {
        let mut total_a = sum_a;
        let mut total_b = sum_b;
        #[unroll]
        for slice in 1..cube.slices {
            total_a += shared_a[slice * cube.lanes + unit];
            total_b += shared_b[slice * cube.lanes + unit];
        }
        let at = place.chunk * weight.vectors + place.column;
        out_a[at] = total_a;
        out_b[at] = total_b;
    }
}
