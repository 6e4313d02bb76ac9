//! Products with dense weights in bf16, on CPUs that have instructions for them.

use super::super::bf16;
use super::super::cast::cast;
use super::super::level::Level;
use super::super::matrix::{Matrix, Operand, Products};
use super::super::product::Product;
use super::super::tensors::shape;
use super::arguments::{Argument, Arguments};
use super::contiguous;
use burn::backend::Flex;
use burn::backend::autodiff::{
    checkpoint::base::Checkpointer,
    grads::Gradients,
    ops::{Backward, Ops},
};
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::FlexTensor;

/// Whether the CPU multiplies in bf16.
pub(crate) fn multiplies_bf16() -> bool {
    bf16::available(Level::current())
}

/// `x W` in the type of `x`; requires [`multiplies_bf16`].
pub(crate) fn linear<const D: usize>(x_weight: Arguments<2>) -> Tensor<D> {
    x_weight.run(LinearGradient, |[x, weight]| {
        let x = contiguous(x);
        let (sides, dtype) = (shape(&x).to_vec(), x.dtype());
        let y = product(&rows(&x), &weight, dtype);
        let mut to = sides;
        *to.last_mut().expect("an axis of inputs") = shape(&weight)[1];
        (y.reshape(Shape::from(to)), [x, weight])
    })
}

/// A product in f32 of operands that are rounded to bf16; requires [`multiplies_bf16`].
pub(crate) fn matmul(left: Argument, right: Argument) -> Tensor<2> {
    Tensor::from_primitive::<Flex>(product(&left.values(), &right.values(), DType::F32))
}

/// The matrix of all positions of a contiguous tensor.
fn rows(x: &FlexTensor) -> FlexTensor {
    let sides = shape(x);
    let [before @ .., last] = sides else {
        unreachable!("an input has an axis")
    };
    x.clone()
        .reshape(Shape::new([before.iter().product(), *last]))
}

/// A matrix as an operand; `None` if no two neighbours in memory are neighbours in it.
fn operand(matrix: &FlexTensor) -> Option<Operand> {
    let strides = [0, 1].map(|side| usize::try_from(matrix.layout().strides()[side]));
    let [Ok(row), Ok(column)] = strides else {
        return None;
    };
    if row != 1 && column != 1 {
        return None;
    }
    let start = matrix.layout().start_offset();
    Some(match matrix.dtype() {
        DType::BF16 => Operand::Bf16(Matrix {
            first: matrix.storage()[start..].as_ptr(),
            row,
            column,
        }),
        _ => Operand::F32(Matrix {
            first: matrix.storage()[start..].as_ptr(),
            row,
            column,
        }),
    })
}

/// `left [m, k] right [k, n]`, in this type.
fn product(left: &FlexTensor, right: &FlexTensor, dtype: DType) -> FlexTensor {
    let ([m, k], [same, n]) = (sides(left), sides(right));
    assert_eq!(k, same, "operands fit together");
    let (left, right) = (readable(left), readable(right));
    let [left, right] = [&left, &right]
        .map(|matrix| operand(matrix).expect("it was made contiguous where it had no neighbours"));
    let mut product = Product::new(Products::Bf16, [m, n], dtype, bf16::passes(k));
    // SAFETY: operands and the result have these sizes, and the result the sums that so many passes need.
    unsafe {
        bf16::multiply_all([m, n, k], product.out(), left, right);
        product.finish()
    }
}

fn sides(matrix: &FlexTensor) -> [usize; 2] {
    let [rows, columns] = shape(matrix) else {
        unreachable!("an operand is a matrix")
    };
    [*rows, *columns]
}

/// An operand in f32 or bf16 with neighbours, a copy if need be.
fn readable(matrix: &FlexTensor) -> FlexTensor {
    let matrix = match matrix.dtype() {
        DType::F32 | DType::BF16 => matrix.clone(),
        _ => cast(matrix.clone(), DType::F32),
    };
    if operand(&matrix).is_some() {
        matrix
    } else {
        matrix.to_contiguous()
    }
}

/// Backward of a product with a weight; keeps both operands.
#[derive(Debug)]
struct LinearGradient;

impl Backward<Flex, 2> for LinearGradient {
    type State = [FlexTensor; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let [x, weight] = &ops.state;
        let grad = rows(&grad);
        let [by_x, by_weight] = ops.parents;
        if let Some(node) = by_x {
            let dx = product(&grad, &weight.clone().transpose(0, 1), x.dtype());
            grads.register::<Flex>(node.id, dx.reshape(x.layout().shape().clone()));
        }
        if let Some(node) = by_weight {
            let dw = product(&rows(x).transpose(0, 1), &grad, weight.dtype());
            grads.register::<Flex>(node.id, dw);
        }
    }
}
