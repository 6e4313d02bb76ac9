//! Selects the strategies of a matmul that are worth trying.

use super::gemv::MAX_ROWS;
use super::limits::Limits;
use super::mma;
use super::tile::{Engine, MatmulKind};

/// A strategy for a matmul with a packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Strategy {
    /// The matrix-vector kernel, with that many column vectors side by side in a plane.
    Gemv(usize),
    /// Matrix units that are fed from registers, with that many planes side by side in a cube.
    Mma(usize),
    /// The tiled kernels.
    Tile(Engine),
    /// Burn's own matmul, with the weight dequantized in slabs.
    Slab,
}

/// Without tuning, the tiled kernels come before slabs up to this many rows.
const TILE_ROWS: usize = 128;

/// The strategies that are worth trying for an input of `m` rows, best first. Without tuning, the first one that
/// the device supports is used.
pub(crate) fn strategies(kind: MatmulKind, m: usize, limits: &Limits) -> Vec<Strategy> {
    // The fastest first, as measured on an H200.
    let across: &[usize] = match m {
        _ if kind != MatmulKind::Forward || !limits.mma => &[],
        0..=4 => &[1, 2, 8],
        5..=16 => &[8, 2],
        17..=mma::MAX_ROWS => &[8, 4],
        _ => &[],
    };
    let mma = across.iter().copied().map(Strategy::Mma);
    if kind == MatmulKind::Forward && m <= MAX_ROWS {
        let matrix = limits.matrix.map(|_| Strategy::Tile(Engine::Matrix));
        let gemv = match limits.plane {
            // Neighbouring planes or neighbouring units take neighbouring columns.
            Some(plane) => vec![Strategy::Gemv(plane / 4), Strategy::Gemv(plane)],
            None => vec![Strategy::Gemv(32)],
        };
        return mma
            .chain(gemv)
            .chain(matrix)
            .chain([Strategy::Tile(Engine::Units), Strategy::Slab])
            .collect();
    }
    let tiles = [Engine::Matrix, Engine::Units]
        .into_iter()
        .filter(|engine| limits.matrix.is_some() || *engine == Engine::Units)
        .map(Strategy::Tile);
    if m <= TILE_ROWS && !limits.cpu {
        mma.chain(tiles).chain([Strategy::Slab]).collect()
    } else {
        [Strategy::Slab].into_iter().chain(tiles).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_take_the_matrix_vector_kernel() {
        let first = |m, limits| strategies(MatmulKind::Forward, m, &limits)[0];
        // Some matrix units take their operands from shared memory alone.
        let staged = Limits {
            mma: false,
            ..Limits::GPU
        };
        for (m, across) in [(1, 1), (8, 8)] {
            assert_eq!(first(m, staged), Strategy::Gemv(8));
            assert_eq!(first(m, Limits::GPU), Strategy::Mma(across));
        }
        assert_eq!(first(9, staged), Strategy::Tile(Engine::Matrix));
        for m in [9, 64, 128] {
            assert_eq!(first(m, Limits::GPU), Strategy::Mma(8));
        }
        assert_eq!(first(9, Limits::SMALL_GPU), Strategy::Tile(Engine::Units));
        assert_eq!(first(129, Limits::GPU), Strategy::Slab);
        assert_eq!(first(9, Limits::CPU), Strategy::Slab);
        assert_eq!(
            strategies(MatmulKind::InputGradient, 1, &Limits::SMALL_GPU)[0],
            Strategy::Tile(Engine::Units)
        );
    }

    #[test]
    fn something_is_always_left() {
        for limits in [Limits::GPU, Limits::CPU, Limits::SMALL_GPU] {
            for kind in [
                MatmulKind::Forward,
                MatmulKind::InputGradient,
                MatmulKind::ScaleGradient,
            ] {
                for m in [1, 8, 9, 128, 129, 5000] {
                    assert!(strategies(kind, m, &limits).contains(&Strategy::Slab));
                }
            }
        }
    }
}
