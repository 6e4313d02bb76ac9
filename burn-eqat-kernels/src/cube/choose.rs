//! Choosing the way to a product: the first one open, or with the `autotune` feature the one that is
//! measured to be the fastest on the device.

use super::product::{self, Closed};
use super::weight::PackedWeight;
use crate::cube::plan::{Product, Route, routes};
use burn_cubecl::tensor::CubeTensor;

/// Operands of the forward product.
#[derive(Clone)]
pub(crate) struct Forward {
    pub x: CubeTensor,
    pub weight: PackedWeight,
    pub bias: Option<CubeTensor>,
}

/// Operands of the gradient by the input.
#[derive(Clone)]
pub(crate) struct Input {
    pub grad: CubeTensor,
    pub weight: PackedWeight,
}

/// Operands of the gradients by step sizes and zero points.
#[derive(Clone)]
pub(crate) struct Scale {
    pub x: CubeTensor,
    pub grad: CubeTensor,
    pub weight: PackedWeight,
}

/// A product to be made: its operands, and how to make it one way.
pub(crate) trait Operands: Clone + Send + Sync + 'static {
    /// What is made.
    type Output: Send + 'static;
    const PRODUCT: Product;

    fn weight(&self) -> &PackedWeight;
    fn make(self, route: Route) -> Result<Self::Output, Closed>;
}

impl Operands for Forward {
    type Output = CubeTensor;
    const PRODUCT: Product = Product::Forward;

    fn weight(&self) -> &PackedWeight {
        &self.weight
    }

    fn make(self, route: Route) -> Result<CubeTensor, Closed> {
        product::forward(route, self.x, &self.weight, self.bias)
    }
}

impl Operands for Input {
    type Output = CubeTensor;
    const PRODUCT: Product = Product::Input;

    fn weight(&self) -> &PackedWeight {
        &self.weight
    }

    fn make(self, route: Route) -> Result<CubeTensor, Closed> {
        product::input(route, self.grad, &self.weight)
    }
}

impl Operands for Scale {
    type Output = (CubeTensor, CubeTensor);
    const PRODUCT: Product = Product::Scale;

    fn weight(&self) -> &PackedWeight {
        &self.weight
    }

    fn make(self, route: Route) -> Result<Self::Output, Closed> {
        product::scale(route, self.x, self.grad, &self.weight)
    }
}

/// The first way that is open.
///
/// # Panics
///
/// When none is: the device holds no tile of 16 KiB, and Burn's own matrix product failed, too.
fn first_open<T: Operands>(operands: T) -> T::Output {
    let weight = operands.weight();
    let mut closed = Vec::new();
    for route in routes(T::PRODUCT, weight.problem.m, &weight.limits) {
        match operands.clone().make(route) {
            Ok(made) => return made,
            Err(why) => closed.push(why),
        }
    }
    panic!("no way to {:?} is open: {}", T::PRODUCT, closed.join("; "))
}

/// By the fastest way where tuning is compiled in and worth it, else by the first that is open.
macro_rules! choose {
    ($(#[$doc:meta])* $name:ident, $operands:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(operands: $operands) -> <$operands as Operands>::Output {
            // On the CPU runtime a kernel takes longer to compile than its choice would save.
            #[cfg(feature = "autotune")]
            if !operands.weight().limits.cpu {
                return super::tune::$name(operands);
            }
            first_open(operands)
        }
    };
}

choose!(
    /// The forward product.
    forward,
    Forward
);
choose!(
    /// The gradient by the input.
    input,
    Input
);
choose!(
    /// The gradients by step sizes and zero points.
    scale,
    Scale
);
