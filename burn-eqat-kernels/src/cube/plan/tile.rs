//! Plans of the tiled matmuls, for inputs of more rows and for gradients.

use super::fragment::Fragment;
use super::limits::Limits;
use super::sizes::power_at_most;

/// The engine that multiplies the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Engine {
    /// Each unit, in registers: any device and type.
    Units,
    /// The matrix units, a [`Fragment`] at a time: for inputs of their types, with sums in f32.
    Matrix,
}

/// The matmul of a tile. It determines which side of the tile is along the packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MatmulKind {
    /// `y [m, n] = x [m, k] W [k, n]`.
    Forward,
    /// `dx [m, k] = dy [m, n] W^T [n, k]`.
    InputGradient,
    /// `x^T [k, m] dy [m, n]`, whose rows are reduced to one row of `ds` and `dz` per group.
    ScaleGradient,
}

/// The depth of a tile along the summed dimension in one step: a multiple of every block of codes.
pub(crate) const DEPTH: usize = 32;

/// A tile of `rows` x `columns` of the output for each cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TilePlan {
    /// The engine that multiplies.
    pub engine: Engine,
    /// Rows of a tile.
    pub rows: usize,
    /// Columns of a tile.
    pub columns: usize,
    /// Units (or planes) down a tile.
    pub down: usize,
    /// Units (or planes) across a tile.
    pub across: usize,
    /// The fragment of the matrix units; for [`Engine::Units`], 1x1x1 in f32 by one unit.
    pub fragment: Fragment,
    /// Ranges of the summed dimension, added up by a second kernel.
    pub splits: usize,
    /// Elements of padding between rows of a staged tile, so that neighbouring rows start in different banks
    /// of shared memory.
    pub skew: usize,
}

impl TilePlan {
    /// A plan for `rows` x `columns` sums of `depth` products each, with columns in vectors of `width`.
    /// `None` if the device does not support it.
    pub fn new(
        engine: Engine,
        kind: MatmulKind,
        [rows, columns, depth]: [usize; 3],
        width: usize,
        limits: &Limits,
    ) -> Option<Self> {
        let plan = match engine {
            Engine::Units => {
                Self::units_plan(kind, rows, width, limits).filter(|plan| plan.fits(kind, limits))
            }
            Engine::Matrix => Self::matrix_plan(kind, rows, limits),
        }?;
        // A reduction over groups is not split: its chunks are many.
        let tiles = rows.div_ceil(plan.rows) * columns.div_ceil(plan.columns);
        let splits = match kind {
            MatmulKind::ScaleGradient => 1,
            _ => Self::splits(tiles, rows * columns, depth, limits),
        };
        Some(TilePlan { splits, ..plan })
    }

    fn units_plan(kind: MatmulKind, rows: usize, width: usize, limits: &Limits) -> Option<Self> {
        let units = power_at_most(limits.units.min(256));
        let (row_tile, most) = match kind {
            MatmulKind::Forward => (8, 64),
            MatmulKind::InputGradient => (4, 64),
            MatmulKind::ScaleGradient => (8, 32),
        };
        let down = (rows.div_ceil(row_tile).next_power_of_two()).min(most / row_tile);
        let (down, across) = match kind {
            // Sixteen column vectors at most: the tile is to fit in 16 KiB.
            MatmulKind::Forward | MatmulKind::ScaleGradient => {
                let across = units.min(16);
                (down.min(units / across), across)
            }
            MatmulKind::InputGradient => {
                let across = units.min(8);
                (down.min(units / across), across)
            }
        };
        let (rows, columns) = match kind {
            MatmulKind::InputGradient => {
                // Each unit keeps a square of vectors in registers; with few units it is wide.
                let wide = DEPTH / across;
                (down * (32 / wide).clamp(1, 4), DEPTH)
            }
            _ => (down * row_tile, across * width),
        };
        Some(TilePlan {
            engine: Engine::Units,
            rows,
            columns,
            down,
            across,
            fragment: Fragment::new(1, 1, 1, 4, 1),
            splits: 1,
            // Where units read down the rows of a tile, rather than along one.
            skew: match kind {
                MatmulKind::InputGradient if width <= 4 => 4,
                _ => 0,
            },
        })
    }

    fn matrix_plan(kind: MatmulKind, rows: usize, limits: &Limits) -> Option<Self> {
        let fragment = limits.matrix?;
        // Rows, columns, planes down and planes across, largest first.
        const TILES: [[usize; 4]; 4] = [
            [128, 128, 4, 2],
            [64, 128, 2, 4],
            [32, 128, 1, 4],
            [16, 128, 1, 4],
        ];
        let most = match kind {
            // Its tiles lie within a group.
            MatmulKind::ScaleGradient => 64,
            _ => 128,
        };
        // Rows that are not there cost as much as others: the smallest tile that holds them all.
        let wanted = rows.next_power_of_two().clamp(16, most);
        TILES
            .into_iter()
            .filter(|[rows, ..]| *rows <= wanted)
            .map(|[rows, columns, down, across]| TilePlan {
                engine: Engine::Matrix,
                rows,
                columns,
                down,
                across,
                fragment,
                splits: 1,
                skew: 8,
            })
            .find(|plan| plan.fits(kind, limits))
    }

    /// Ranges of the summed dimension: enough to keep the device busy, with at most 16 MiB of partial
    /// sums.
    fn splits(tiles: usize, elements: usize, depth: usize, limits: &Limits) -> usize {
        const PARTIAL_BYTES: usize = 16 << 20;
        let steps = depth.div_ceil(DEPTH).max(1);
        let busy = (limits.busy / 2).div_ceil(tiles.max(1));
        let room = PARTIAL_BYTES / (elements.max(1) * 4);
        // A range of fewer than eight steps is not worth its sums.
        let wanted = busy.min(room).min(steps.div_ceil(8)).max(1);
        steps.div_ceil(steps.div_ceil(wanted))
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.down * self.across * self.fragment.plane
    }

    /// Rows of the output per unit (or plane).
    pub fn unit_rows(&self) -> usize {
        self.rows / self.down
    }

    /// Columns of the output per unit (or plane).
    pub fn unit_columns(&self) -> usize {
        self.columns / self.across
    }

    /// Fragments of a plane, down and across.
    pub fn fragments(&self) -> (usize, usize) {
        (
            self.unit_rows() / self.fragment.m,
            self.unit_columns() / self.fragment.n,
        )
    }

    /// Elements from one row of a staged tile of `len` elements to the next.
    pub fn stride(&self, len: usize) -> usize {
        len + self.skew
    }

    /// Rows and row length of the staged left side, in elements.
    pub fn left(&self, kind: MatmulKind) -> (usize, usize) {
        match kind {
            MatmulKind::Forward | MatmulKind::InputGradient => (self.rows, DEPTH),
            MatmulKind::ScaleGradient => (DEPTH, self.rows),
        }
    }

    /// Rows and row length of the staged right side, in elements.
    pub fn right(&self, kind: MatmulKind) -> (usize, usize) {
        match kind {
            MatmulKind::Forward | MatmulKind::ScaleGradient => (DEPTH, self.columns),
            MatmulKind::InputGradient => (self.columns, DEPTH),
        }
    }

    /// Steps of [`DEPTH`] in a range.
    pub fn steps(&self, depth: usize) -> usize {
        depth.div_ceil(DEPTH).div_ceil(self.splits)
    }

    /// The number of `ds` sums to add up for one column of a tile.
    pub fn meeting(&self) -> usize {
        match self.engine {
            Engine::Units => self.down,
            // A plane's units take half a fragment's column each.
            Engine::Matrix => self.rows / self.fragment.m * 2,
        }
    }

    /// Whether a cube fits on the device.
    fn fits(&self, kind: MatmulKind, limits: &Limits) -> bool {
        self.units() <= limits.units && self.shared(kind) <= limits.shared
    }

    /// Bytes of shared memory.
    fn shared(&self, kind: MatmulKind) -> usize {
        let bytes = |(rows, len): (usize, usize)| rows * self.stride(len) * self.fragment.bytes;
        let scratch = match self.engine {
            Engine::Units => 0,
            Engine::Matrix => self.down * self.across * self.fragment.elements() * 4,
        };
        let meeting = match kind {
            MatmulKind::ScaleGradient => self.meeting() * self.columns * 8,
            _ => 0,
        };
        bytes(self.left(kind)) + bytes(self.right(kind)) + scratch + meeting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [MatmulKind; 3] = [
        MatmulKind::Forward,
        MatmulKind::InputGradient,
        MatmulKind::ScaleGradient,
    ];

    const FRAGMENTS: [Fragment; 4] = [
        Fragment::COMMON,
        Fragment::new(8, 16, 16, 2, 16),
        Fragment::new(16, 8, 32, 2, 64),
        Fragment::new(8, 8, 8, 4, 8),
    ];

    proptest! {
        #[test]
        fn tiles_fit_every_device(
            rows in 1usize..3000, columns in 1usize..3000, depth in 1usize..9000,
            which in 0usize..3, kind in 0usize..3, matrix: bool,
            fragment in prop::sample::select(FRAGMENTS.to_vec()),
        ) {
            let mut limits = [Limits::GPU, Limits::CPU, Limits::SMALL_GPU][which];
            limits.matrix = limits.matrix.map(|_| fragment);
            let kind = KINDS[kind];
            let engine = if matrix { Engine::Matrix } else { Engine::Units };
            let width = crate::cube::plan::sizes::vector_width(columns, limits.vector);
            let plan = TilePlan::new(engine, kind, [rows, columns, depth], width, &limits);
            let Some(plan) = plan else {
                prop_assert!(matrix && limits.matrix.is_none());
                return Ok(());
            };
            prop_assert!(plan.units() <= limits.units, "{:?}", plan);
            prop_assert!(plan.shared(kind) <= limits.shared, "{:?}", plan);
            prop_assert_eq!(plan.unit_rows() * plan.down, plan.rows);
            prop_assert_eq!(plan.unit_columns() * plan.across, plan.columns);
            prop_assert!(plan.steps(depth) * plan.splits * DEPTH >= depth);
            prop_assert!(plan.steps(depth) * (plan.splits - 1) * DEPTH < depth.max(1));
            if kind == MatmulKind::InputGradient {
                prop_assert_eq!(plan.columns % DEPTH, 0);
            } else if !matrix {
                prop_assert_eq!(plan.unit_columns(), width);
            }
            if matrix {
                let (down, across) = plan.fragments();
                prop_assert!(down > 0 && across > 0);
                prop_assert_eq!(
                    (down * fragment.m, across * fragment.n),
                    (plan.unit_rows(), plan.unit_columns())
                );
                prop_assert_eq!(DEPTH % fragment.k, 0);
            }
        }
    }

    #[test]
    fn tiles_of_matrix_units_shrink_to_shared_memory() {
        let rows = |kind, rows, shared, bytes| {
            let limits = Limits {
                shared,
                matrix: Some(Fragment::new(8, 8, 8, bytes, 32)),
                ..Limits::GPU
            };
            let plan = TilePlan::new(Engine::Matrix, kind, [rows, 4096, 4096], 4, &limits);
            plan.map(|plan| plan.rows)
        };
        assert_eq!(rows(MatmulKind::Forward, 2048, 32 << 10, 2), Some(128));
        assert_eq!(rows(MatmulKind::Forward, 2048, 32 << 10, 4), Some(64));
        assert_eq!(rows(MatmulKind::Forward, 33, 32 << 10, 2), Some(64));
        assert_eq!(rows(MatmulKind::ScaleGradient, 2048, 32 << 10, 2), Some(64));
        assert_eq!(rows(MatmulKind::Forward, 9, 32 << 10, 2), Some(16));
        assert_eq!(rows(MatmulKind::Forward, 9, 8 << 10, 2), None);
    }

    #[test]
    fn a_small_matmul_is_split() {
        let sizes = [16, 4096, 4096];
        let plan =
            TilePlan::new(Engine::Matrix, MatmulKind::Forward, sizes, 4, &Limits::GPU).unwrap();
        assert!(plan.splits > 4 && plan.splits * 16 * 4096 * 4 <= 16 << 20);
        let sizes = [2048, 4096, 4096];
        let plan =
            TilePlan::new(Engine::Matrix, MatmulKind::Forward, sizes, 4, &Limits::GPU).unwrap();
        assert_eq!(plan.splits, 1);
    }
}
