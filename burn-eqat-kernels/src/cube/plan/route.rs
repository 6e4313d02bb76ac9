//! Which of the ways to a product is taken.

use super::{Engine, Limits, Product};

/// A way to make a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// The matrix-vector kernel, with so many column vectors side by side in a plane.
    Gemv(usize),
    /// The tiled kernels.
    Tile(Engine),
    /// The weight dequantized a slab at a time, and Burn's own matrix product.
    Slab,
}

/// Rows up to which the tiled kernels are taken before slabs without tuning.
const TILE_ROWS: usize = 128;

/// The ways that are worth trying for an input of `m` rows, best first: the first one that the device
/// can do is taken without tuning.
pub(crate) fn routes(product: Product, m: usize, limits: &Limits) -> Vec<Route> {
    if product == Product::Forward && m <= super::gemv::MAX_ROWS {
        let matrix = limits.matrix.map(|_| Route::Tile(Engine::Matrix));
        return match limits.plane {
            // Neighbouring planes or neighbouring units take neighbouring columns.
            Some(plane) => vec![Route::Gemv(plane / 4), Route::Gemv(plane)],
            None => vec![Route::Gemv(32)],
        }
        .into_iter()
        .chain(matrix)
        .chain([Route::Tile(Engine::Units), Route::Slab])
        .collect();
    }
    let tiles = [Engine::Matrix, Engine::Units]
        .into_iter()
        .filter(|engine| limits.matrix.is_some() || *engine == Engine::Units)
        .map(Route::Tile);
    match m <= TILE_ROWS && !limits.cpu {
        true => tiles.chain([Route::Slab]).collect(),
        false => [Route::Slab].into_iter().chain(tiles).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_take_the_matrix_vector_kernel() {
        for m in [1, 8] {
            let first = routes(Product::Forward, m, &Limits::GPU)[0];
            assert_eq!(first, Route::Gemv(8));
        }
        let first = |m, limits| routes(Product::Forward, m, &limits)[0];
        assert_eq!(first(9, Limits::GPU), Route::Tile(Engine::Matrix));
        assert_eq!(first(9, Limits::SMALL_GPU), Route::Tile(Engine::Units));
        assert_eq!(first(129, Limits::GPU), Route::Slab);
        assert_eq!(first(9, Limits::CPU), Route::Slab);
        assert_eq!(
            routes(Product::Input, 1, &Limits::SMALL_GPU)[0],
            Route::Tile(Engine::Units)
        );
    }

    #[test]
    fn something_is_always_left() {
        for limits in [Limits::GPU, Limits::CPU, Limits::SMALL_GPU] {
            for product in [Product::Forward, Product::Input, Product::Scale] {
                for m in [1, 8, 9, 128, 129, 5000] {
                    assert!(routes(product, m, &limits).contains(&Route::Slab));
                }
            }
        }
    }
}
