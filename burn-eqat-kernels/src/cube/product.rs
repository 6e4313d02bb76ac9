//! The three products of a packed linear layer, each by whichever way is best.

use super::weight::PackedWeight;
use super::{gemv, slab, tile};
use crate::cube::plan::{GemvPlan, Route};
use burn_cubecl::tensor::CubeTensor;

/// Why a way to a product is not open: too little shared memory, no matrix units.
pub(crate) type Closed = String;

fn open<T>(made: Option<T>, route: Route) -> Result<T, Closed> {
    made.ok_or_else(|| format!("the device cannot do {route:?}"))
}

/// `x [m, k]`, in rows without gaps, times the weight, plus `bias [n]` of its type.
pub(crate) fn forward(
    route: Route,
    x: CubeTensor,
    weight: &PackedWeight,
    bias: Option<CubeTensor>,
) -> Result<CubeTensor, Closed> {
    match route {
        Route::Gemv(lanes) => {
            let plan = GemvPlan::new(&weight.problem, weight.width, lanes, &weight.limits);
            open(plan, route).map(|plan| gemv::gemv(x, weight, bias, plan))
        }
        Route::Tile(engine) => open(tile::forward(x, weight, bias, engine), route),
        Route::Slab => slab::forward(x, weight, bias),
    }
}

/// The gradient by the input, from `grad [m, n]` in rows without gaps.
pub(crate) fn input(
    route: Route,
    grad: CubeTensor,
    weight: &PackedWeight,
) -> Result<CubeTensor, Closed> {
    match route {
        Route::Gemv(_) => open(None, route),
        Route::Tile(engine) => open(tile::input(grad, weight, engine), route),
        Route::Slab => slab::input(grad, weight),
    }
}

/// The gradients by step sizes and zero points, from `x [m, k]` and `grad [m, n]` of one type, in rows
/// without gaps.
pub(crate) fn scale(
    route: Route,
    x: CubeTensor,
    grad: CubeTensor,
    weight: &PackedWeight,
) -> Result<(CubeTensor, CubeTensor), Closed> {
    match route {
        Route::Gemv(_) => open(None, route),
        Route::Tile(engine) => open(tile::scale(x, grad, weight, engine), route),
        Route::Slab => slab::scale(x, grad, weight),
    }
}
