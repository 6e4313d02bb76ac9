//! Tests that a backend's bodies panic with a message when operands do not fit together, and read nothing out of
//! bounds. Safe code can pass them such operands.

use crate::{Bits, OpError, QuantOps};
use burn::backend::tensor::{Device, FloatTensor, IntTensor};
use burn::tensor::{DType, TensorData};

/// An op, the indices of its operands, and a call that must panic.
type Misuse<'a> = (&'static str, &'static [usize], &'a dyn Fn());

/// Sizes of a weight: rows, columns, groups, and rows of an input.
const K: usize = 96;
const N: usize = 40;
const G: usize = 3;
const M: usize = 2;

fn floats<B: QuantOps>(shape: &[usize], dtype: DType, device: &Device<B>) -> FloatTensor<B> {
    let data = TensorData::ones::<f32, _>(shape.to_vec()).convert_dtype(dtype);
    B::float_from_data(data, device)
}

fn words<B: QuantOps>(shape: &[usize], device: &Device<B>) -> IntTensor<B> {
    B::int_from_data(TensorData::zeros::<i32, _>(shape.to_vec()), device)
}

/// Every op with one operand of another shape than the rest ask for, in every way that matters to reads.
pub(crate) fn refuses<B: QuantOps>(device: &Device<B>, dtype: DType) {
    let f = |shape: &[usize]| floats::<B>(shape, dtype, device);
    let w = |shape: &[usize]| words::<B>(shape, device);
    let bits = Bits::Three;
    let (k_words, n_words) = (bits.words(K), bits.words(N));
    // Codes, step sizes, zero points as numbers, zero points in words, input, gradient, bias.
    let right: [&[usize]; 7] = [
        &[k_words, N],
        &[G, N],
        &[G, N],
        &[G, n_words],
        &[M, K],
        &[M, N],
        &[N],
    ];
    let wrong: [&[&[usize]]; 7] = [
        &[&[k_words - 1, N], &[k_words, N - 1], &[0, N], &[1]],
        &[
            &[1, 1],
            &[G, N - 1],
            &[G - 1, N],
            &[G + 1, N],
            &[0, N],
            &[G * N],
        ],
        &[&[1, 1], &[G, N - 1], &[G - 1, N], &[0, N], &[G, 1]],
        &[&[1, 1], &[G, n_words - 1], &[G - 1, n_words], &[0, n_words]],
        &[&[M, K - 1], &[M, 1], &[M, 0], &[K]],
        &[&[M, N - 1], &[M, 1], &[M - 1, N], &[0, N], &[N]],
        &[&[N - 1], &[1], &[0], &[1, N]],
    ];
    let run = |shapes: [&[usize]; 7]| {
        let [codes, scales, zeros, zero_words, x, grad, bias] = shapes;
        let (codes, zero_words) = (|| w(codes), || w(zero_words));
        let (scales, zeros, x, grad, bias) =
            (|| f(scales), || f(zeros), || f(x), || f(grad), || f(bias));
        // Which operands an op has, and the op.
        let ops: [Misuse<'_>; 9] = [
            ("linear", &[0, 1, 2, 4], &|| {
                drop(B::quant_linear(x(), codes(), scales(), zeros(), bits));
            }),
            ("linear with a bias", &[0, 1, 2, 4, 6], &|| {
                drop(B::quant_linear_bias(
                    x(),
                    codes(),
                    scales(),
                    zeros(),
                    bias(),
                    bits,
                ));
            }),
            ("packed linear", &[0, 1, 3, 4], &|| {
                drop(B::quant_linear_packed(
                    x(),
                    codes(),
                    scales(),
                    zero_words(),
                    bits,
                ));
            }),
            ("packed linear with a bias", &[0, 1, 3, 4, 6], &|| {
                let z = zero_words();
                drop(B::quant_linear_packed_bias(
                    x(),
                    codes(),
                    scales(),
                    z,
                    bias(),
                    bits,
                ));
            }),
            ("gradient by the input", &[0, 1, 2, 5], &|| {
                let (s, z) = (scales(), zeros());
                drop(B::quant_linear_backward_input(
                    codes(),
                    s,
                    z,
                    grad(),
                    bits,
                    K,
                ));
            }),
            ("gradient by step sizes", &[0, 1, 2, 4, 5], &|| {
                let (s, z) = (scales(), zeros());
                drop(B::quant_linear_backward_scale(
                    x(),
                    codes(),
                    s,
                    z,
                    grad(),
                    bits,
                ));
            }),
            ("dequantize", &[0, 1, 2], &|| {
                drop(B::quant_dequantize(codes(), scales(), zeros(), bits, K));
            }),
            ("unpack", &[0], &|| drop(B::quant_unpack(codes(), bits, K))),
            ("unpack columns", &[3], &|| {
                drop(B::quant_unpack_columns(zero_words(), bits, N));
            }),
        ];
        ops.map(|(name, operands, op)| (name, operands.to_vec(), OpError::catch(op)))
    };
    for (name, _, result) in run(right) {
        assert_eq!(result, Ok(()), "{name}");
    }
    for operand in 0..right.len() {
        for shape in wrong[operand] {
            let mut shapes = right;
            shapes[operand] = shape;
            for (name, operands, result) in run(shapes) {
                // Of any number of rows or columns that no other operand has.
                let free = match name {
                    "unpack" => shape.len() == 2 && shape[0] == k_words,
                    "gradient by the input" => operand == 5 && shape.len() == 2 && shape[1] == N,
                    "unpack columns" => shape.len() == 2 && shape[1] == n_words,
                    _ => false,
                };
                if operands.contains(&operand) && !free {
                    assert!(
                        result.is_err(),
                        "{name}: took operand {operand} of {shape:?}"
                    );
                }
            }
        }
    }
    refuses_in_training::<B>(device, dtype);
}

/// The ops of training a weight.
fn refuses_in_training<B: QuantOps>(device: &Device<B>, dtype: DType) {
    let f = |shape: &[usize]| floats::<B>(shape, dtype, device);
    let right: [&[usize]; 4] = [&[K, N], &[G, N], &[G, N], &[K, N]];
    let wrong: [&[&[usize]]; 4] = [
        &[&[K - 1, N], &[K, N - 1], &[0, N], &[K * N]],
        &[&[1, 1], &[G + 1, N], &[0, N], &[G, N - 1]],
        &[&[1, 1], &[G - 1, N], &[G, N - 1], &[N]],
        &[&[K, N - 1], &[1, 1], &[K - 1, N], &[0, N]],
    ];
    let run = |[weight, scales, zeros, grad]: [&[usize]; 4]| {
        let forward = OpError::catch(|| {
            B::fake_quantize(f(weight), f(scales), f(zeros), Bits::Two);
        });
        let backward = OpError::catch(|| {
            B::fake_quantize_backward(f(weight), f(scales), f(zeros), f(grad), Bits::Two);
        });
        // Of a dense weight's gradient.
        let codes = words::<B>(&[Bits::Two.words(K), N], device);
        let dense = OpError::catch(|| {
            B::quant_dequantize_backward(codes, f(scales), f(zeros), f(grad), Bits::Two, K);
        });
        [forward, backward, dense]
    };
    assert_eq!(run(right), [Ok(()), Ok(()), Ok(())]);
    for operand in 0..right.len() {
        for shape in wrong[operand] {
            let mut shapes = right;
            shapes[operand] = shape;
            let [forward, backward, dense] = run(shapes).map(|result| result.is_err());
            assert!(backward, "backward took operand {operand} of {shape:?}");
            assert!(
                forward || operand == 3,
                "took operand {operand} of {shape:?}"
            );
            assert!(
                dense || operand == 0,
                "dense backward took operand {operand} of {shape:?}"
            );
        }
    }
}

#[cfg(feature = "flex")]
#[test]
fn flex_refuses_operands_that_do_not_fit() {
    refuses::<burn::backend::Flex>(&Default::default(), DType::F32);
}

/// In f64, Flex runs the portable bodies.
#[cfg(feature = "flex")]
#[test]
fn portable_bodies_refuse_operands_that_do_not_fit() {
    refuses::<burn::backend::Flex>(&Default::default(), DType::F64);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_refuses_operands_that_do_not_fit() {
    refuses::<burn::backend::NdArray>(&Default::default(), DType::F32);
}
