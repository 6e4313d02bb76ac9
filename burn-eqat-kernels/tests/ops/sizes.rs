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

/// Of sums over each group of rows, of the roots of these squares.
pub fn of_group_sums(squares: Tensor<2>, groups: usize) -> f32 {
    let [k, n] = squares.dims();
    let squares: Tensor<3> = squares.reshape([groups, k / groups, n]);
    root(squares.sum_dim(1).reshape([groups, n]))
}

/// Of the gradients by step sizes and by zero points of `x w`: sums of `(q - z) x grad` and of `s x grad` over all rows of
/// `x` and over each group. `centered` is `q - z`, of the weight's shape.
pub fn of_scale_gradients(
    x: Tensor<2>,
    grad: Tensor<2>,
    centered: Tensor<2>,
    s: Tensor<2>,
) -> [f32; 2] {
    let [groups, _] = s.dims();
    let products = x.square().transpose().matmul(grad.square());
    let by_zero_points =
        of_group_sums(products.clone(), groups) * s.abs().max().into_scalar::<f32>();
    [
        of_group_sums(products * centered.square(), groups),
        by_zero_points,
    ]
}
