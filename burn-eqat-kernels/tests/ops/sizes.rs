//! How large the results of sums are where no terms cancel more than chance has it: the root of the sum of the squares of
//! a result's terms.
//!
//! Roundings are in proportion to the terms, so what a sum may be off by is a part of this. Its own size says too little: where
//! a test makes one number alone, its terms may cancel to next to nothing.

use burn::tensor::Tensor;

/// The largest root.
fn root(squares: Tensor<2>) -> f32 {
    squares.max().sqrt().into_scalar()
}

/// Of `a b`.
pub fn of_product(a: Tensor<2>, b: Tensor<2>) -> f32 {
    root(a.square().matmul(b.square()))
}

/// Of sums of these terms over each group of rows.
pub fn of_group_sums(terms: Tensor<2>, groups: usize) -> f32 {
    of_squares_in_groups(terms.square(), groups)
}

fn of_squares_in_groups(squares: Tensor<2>, groups: usize) -> f32 {
    let [k, n] = squares.dims();
    let squares: Tensor<3> = squares.reshape([groups, k / groups, n]);
    root(squares.sum_dim(1).reshape([groups, n]))
}

/// Of the gradients by `x`, by step sizes and by zero points of `x w`, with `w = centered s`: sums of `grad w` over columns, and of
/// `centered x grad` and `s x grad` over all rows of `x` and over each group. `centered` is `q - z`, of the weight's shape.
pub fn of_gradients(
    x: Tensor<2>,
    grad: Tensor<2>,
    w: Tensor<2>,
    centered: Tensor<2>,
    s: Tensor<2>,
) -> [f32; 3] {
    let [groups, _] = s.dims();
    let products = x.square().transpose().matmul(grad.clone().square());
    let largest_s: f32 = s.abs().max().into_scalar();
    [
        of_product(grad, w.transpose()),
        of_squares_in_groups(products.clone() * centered.square(), groups),
        of_squares_in_groups(products, groups) * largest_s,
    ]
}
