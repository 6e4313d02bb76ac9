//! Plan of a reduction over the rows of each group.

use super::limits::Limits;

/// The units of a cube that reduces over rows. A kernel is compiled for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupCube {
    /// Column vectors of a cube.
    pub lanes: usize,
    /// Units that share a column vector.
    pub slices: usize,
}

impl GroupCube {
    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.lanes * self.slices
    }
}

/// A reduction over the rows of each group.
///
/// A cube takes `lanes` column vectors of one chunk of rows of one group. Each of its `slices` takes every
/// `slices`-th row of the chunk, and they add up through shared memory. If a group has several chunks, a second
/// kernel adds up their sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupPlan {
    /// The units of a cube.
    pub cube: GroupCube,
    /// Rows of a chunk.
    pub chunk: usize,
    /// Chunks of a group.
    pub chunks: usize,
    /// Tiles of `lanes` column vectors.
    pub tiles: usize,
}

impl GroupPlan {
    /// A plan for groups of `group` rows, and `vectors` column vectors of `width` columns.
    pub fn new(group: usize, vectors: usize, width: usize, limits: &Limits) -> Self {
        const ROWS_PER_UNIT: usize = 8;
        const LANES: usize = 32;
        const SLICES: usize = 8;
        let units = limits.units.min(256);
        // Two sums of f32 for each column of each unit.
        let units = units.min(limits.shared / (8 * width)).max(1);
        let lanes = LANES.min(units).min(vectors.next_power_of_two());
        let slices = SLICES
            .min(group.div_ceil(ROWS_PER_UNIT).next_power_of_two())
            .min(units / lanes);
        // On a device of few units, a cube walks down a long column.
        let chunk = (slices * ROWS_PER_UNIT)
            .max(512 / (lanes * slices))
            .min(group);
        GroupPlan {
            cube: GroupCube { lanes, slices },
            chunk,
            chunks: group.div_ceil(chunk),
            tiles: vectors.div_ceil(lanes),
        }
    }

    /// The number of cubes for that many groups.
    pub fn cubes(&self, groups: usize) -> usize {
        self.tiles * self.chunks * groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_cover_a_group(group in 1usize..9000, vectors in 1usize..3000, which in 0usize..3) {
            let limits = [Limits::GPU, Limits::CPU, Limits::SMALL_GPU][which];
            let plan = GroupPlan::new(group, vectors, limits.vector, &limits);
            prop_assert!(plan.cube.units() <= limits.units);
            prop_assert!(plan.cube.units() * limits.vector * 8 <= limits.shared);
            prop_assert!(plan.chunk * plan.chunks >= group);
            prop_assert!(plan.chunk * (plan.chunks - 1) < group);
            prop_assert!(plan.tiles * plan.cube.lanes >= vectors);
        }
    }
}
