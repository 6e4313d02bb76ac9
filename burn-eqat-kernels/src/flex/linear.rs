//! The linear layer: its bias, and the matmul by the selected strategy.

use super::level::Level;
use super::matrix::{Out, Products};
use super::packed::PackedTensors;
use super::product::Product;
use super::select::{Strategy, strategies};
use super::tensors::{Floats, finish, shape, values_mut, zeros};
use super::weight::Weight;
use super::{matmul, matvec};
use crate::Activations;
use crate::check::{expect_matrix, expect_shape, required};
use crate::problem::Problem;
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

/// `y = x W + y`, by the fastest strategy that supports the input.
pub(super) fn forward(
    level: Level,
    products: Products,
    weight: &Weight,
    activations: Activations,
    x: &Floats,
    y: &mut [f32],
) {
    for strategy in strategies(level, &weight.problem, false, activations) {
        let done = match strategy {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Strategy::Dots { digits } => super::dot::forward(level, weight, digits, x.values(), y),
            Strategy::Matvec => {
                matvec::forward(level, weight, x.values(), y);
                true
            }
            Strategy::Tiles => {
                let Problem { m, k, n, .. } = weight.problem;
                assert_eq!(y.len(), m * n);
                let out = Out::sums(y.as_mut_ptr(), n);
                // SAFETY: see above.
                unsafe { matmul::forward(level, products, weight, x.operand(k), out, true) };
                true
            }
            other => unreachable!("{other:?} needs what is not here"),
        };
        if done {
            return;
        }
    }
}

/// `x W + bias`. The weight's sizes must include the rows of `x`.
pub(super) fn linear(
    op: &'static str,
    x: FloatTensor<Flex>,
    weight: PackedTensors,
    bias: Option<FloatTensor<Flex>>,
    activations: Activations,
) -> FloatTensor<Flex> {
    let (rows, columns, dtype) = (weight.problem.m, weight.problem.n, x.dtype());
    required(expect_matrix(op, "y", &[rows, columns]));
    let level = Level::current();
    let products = Products::of(level, dtype);
    if strategies(level, &weight.problem, false, activations).eq([Strategy::Tiles]) {
        let passes = matmul::forward_passes(products, &weight.problem);
        let mut y = Product::new(products, [rows, columns], dtype, passes);
        if let Some(bias) = bias {
            y = y.with_bias(checked(op, bias, columns).values());
        }
        let x = Floats::for_products(x, products);
        let x = x.operand(weight.problem.k);
        let (out, add) = (y.out(), y.adds());
        // SAFETY: the result has this size, and the sums that it needs.
        return unsafe {
            weight.with(|weight| matmul::forward(level, products, weight, x, out, add));
            y.finish()
        };
    }
    // The other strategies read f32.
    let x = Floats::new(x);
    let mut y = with_bias(op, [rows, columns], bias);
    let values = values_mut(&mut y);
    if !values.is_empty() {
        weight.with(|weight| forward(level, products, weight, activations, &x, values));
    }
    finish(y, dtype)
}

/// A result with the bias in each row, or zeros.
pub(super) fn with_bias(
    op: &'static str,
    [rows, columns]: [usize; 2],
    bias: Option<FloatTensor<Flex>>,
) -> FloatTensor<Flex> {
    let mut y = zeros([rows, columns]);
    if let Some(bias) = bias {
        let bias = checked(op, bias, columns);
        let values = values_mut(&mut y);
        if !values.is_empty() {
            let rows = values.chunks_exact_mut(columns);
            rows.for_each(|row| row.copy_from_slice(bias.values()));
        }
    }
    y
}

/// A bias for so many columns.
fn checked(op: &'static str, bias: FloatTensor<Flex>, columns: usize) -> Floats {
    required(expect_shape(op, "bias", shape(&bias), &[columns]));
    Floats::new(bias)
}
