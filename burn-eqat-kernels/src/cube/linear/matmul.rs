//! The three matmuls of a packed linear layer, each by a given strategy.

use super::unavailable::Unavailable;
use super::{gemv, mma, slab, tile};
use crate::cube::plan::gemv::GemvPlan;
use crate::cube::plan::mma::MmaPlan;
use crate::cube::plan::strategy::Strategy;
use crate::cube::plan::tile::MatmulKind;
use crate::cube::weight::DeviceWeight;
use burn_cubecl::tensor::CubeTensor;

/// A matmul with a packed weight, which any strategy can run.
pub(crate) trait Matmul: Clone + Send + Sync + 'static {
    /// The result.
    type Output: Send + 'static;
    /// The kind of matmul.
    const KIND: MatmulKind;

    /// The packed weight.
    fn weight(&self) -> &DeviceWeight;

    /// The operand that sets the type and the device of the matmul.
    #[cfg(any(test, feature = "autotune"))]
    fn activations(&self) -> &CubeTensor;

    /// Runs the matmul with `strategy`.
    fn run(self, strategy: Strategy) -> Result<Self::Output, Unavailable>;
}

/// `x [m, k]`, in contiguous rows, times the weight, plus `bias [n]` of the same type.
#[derive(Clone)]
pub(crate) struct Forward {
    pub x: CubeTensor,
    pub weight: DeviceWeight,
    pub bias: Option<CubeTensor>,
}

/// The gradient by the input, from `grad [m, n]` in contiguous rows.
#[derive(Clone)]
pub(crate) struct InputGradient {
    pub grad: CubeTensor,
    pub weight: DeviceWeight,
}

/// The gradients by step sizes and zero points, from `x [m, k]` and `grad [m, n]` of one type, in contiguous
/// rows.
#[derive(Clone)]
pub(crate) struct ScaleGradient {
    pub x: CubeTensor,
    pub grad: CubeTensor,
    pub weight: DeviceWeight,
}

impl Matmul for Forward {
    type Output = CubeTensor;
    const KIND: MatmulKind = MatmulKind::Forward;

    fn weight(&self) -> &DeviceWeight {
        &self.weight
    }

    #[cfg(any(test, feature = "autotune"))]
    fn activations(&self) -> &CubeTensor {
        &self.x
    }

    fn run(self, strategy: Strategy) -> Result<CubeTensor, Unavailable> {
        let Forward { x, weight, bias } = self;
        let made = match strategy {
            Strategy::Gemv(lanes) => {
                GemvPlan::new(&weight.problem, weight.width, lanes, &weight.limits)
                    .map(|plan| gemv::gemv(x, &weight, bias, plan))
            }
            Strategy::Mma(across) => {
                let (problem, limits) = (&weight.problem, &weight.limits);
                MmaPlan::new(problem, x.dtype, weight.width, across, limits)
                    .map(|plan| mma::mma(x, &weight, bias, plan))
            }
            Strategy::Tile(engine) => tile::forward(x, &weight, bias, engine),
            Strategy::Slab => return slab::forward(x, &weight, bias),
        };
        made.ok_or(Unavailable::Strategy(strategy))
    }
}

impl Matmul for InputGradient {
    type Output = CubeTensor;
    const KIND: MatmulKind = MatmulKind::InputGradient;

    fn weight(&self) -> &DeviceWeight {
        &self.weight
    }

    #[cfg(any(test, feature = "autotune"))]
    fn activations(&self) -> &CubeTensor {
        &self.grad
    }

    fn run(self, strategy: Strategy) -> Result<CubeTensor, Unavailable> {
        let InputGradient { grad, weight } = self;
        let made = match strategy {
            Strategy::Gemv(_) | Strategy::Mma(_) => None,
            Strategy::Tile(engine) => tile::input(grad, &weight, engine),
            Strategy::Slab => return slab::input(grad, &weight),
        };
        made.ok_or(Unavailable::Strategy(strategy))
    }
}

impl Matmul for ScaleGradient {
    type Output = (CubeTensor, CubeTensor);
    const KIND: MatmulKind = MatmulKind::ScaleGradient;

    fn weight(&self) -> &DeviceWeight {
        &self.weight
    }

    #[cfg(any(test, feature = "autotune"))]
    fn activations(&self) -> &CubeTensor {
        &self.x
    }

    fn run(self, strategy: Strategy) -> Result<Self::Output, Unavailable> {
        let ScaleGradient { x, grad, weight } = self;
        let made = match strategy {
            Strategy::Gemv(_) | Strategy::Mma(_) => None,
            Strategy::Tile(engine) => tile::scale(x, grad, &weight, engine),
            Strategy::Slab => return slab::scale(x, grad, &weight),
        };
        made.ok_or(Unavailable::Strategy(strategy))
    }
}
