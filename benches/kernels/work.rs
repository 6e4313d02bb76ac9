//! The measured packed ops, and the bytes that each must move.

use crate::measure::{copies, median};
use burn::backend::Dispatch;
use burn::tensor::{Device, Distribution, FloatDType, Int, Tensor};
use burn_eqat::kernels::{Bits, QuantOps};

/// A part to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Op {
    /// `quant_linear_packed`: the layer as it is run, with packed zero points.
    Packed,
    /// `quant_linear`: the layer as it is trained, with zero points as numbers.
    Forward,
    /// Its gradient by the input.
    Input,
    /// Its gradients by step sizes and zero points.
    Scale,
    /// `fake_quantize`, forward and backward.
    Fake,
}

/// One op of one size.
pub struct Work {
    pub op: Op,
    pub bits: Bits,
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub groups: usize,
    /// The type of activations, step sizes and zero points; fake quantization is in f32.
    pub dtype: FloatDType,
}

fn size(dtype: FloatDType) -> usize {
    match dtype {
        FloatDType::F16 | FloatDType::BF16 => 2,
        FloatDType::F64 => 8,
        _ => 4,
    }
}

impl Work {
    fn random(&self, shape: [usize; 2], low: f64, high: f64, device: &Device) -> Tensor<2> {
        Tensor::random(shape, Distribution::Uniform(low, high), device)
    }

    /// Step sizes and zero points.
    fn scales(&self, dtype: FloatDType, device: &Device) -> (Tensor<2>, Tensor<2>) {
        let shape = [self.groups, self.n];
        let max = f64::from(self.bits.max_code());
        let s = self.random(shape, 0.01, 0.02, device).cast(dtype);
        let z = self.random(shape, 0.0, max, device).round().cast(dtype);
        (s, z)
    }

    /// Packed codes or zero points: any words are some.
    fn words(&self, shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
        let all = f64::from(i32::MAX);
        self.random(shape, -all, all, device).int()
    }

    /// Enough packed weights for a working set.
    fn weights(&self, device: &Device) -> Vec<(Tensor<2, Int>, Tensor<2>, Tensor<2>)> {
        let shape = [self.bits.words(self.k), self.n];
        (0..copies(self.weight_bytes()))
            .map(|_| {
                let words = self.words(shape, device);
                let (s, z) = self.scales(self.dtype, device);
                (words, s, z)
            })
            .collect()
    }

    /// Bytes of words, step sizes and zero points.
    fn weight_bytes(&self) -> usize {
        (self.bits.words(self.k) * 4 + 2 * self.groups * size(self.dtype)) * self.n
    }

    /// Name, bytes to move and seconds of each part of the op.
    pub fn measure(&self, device: &Device, budget: f64) -> Vec<(&'static str, usize, f64)> {
        let half = size(self.dtype);
        let (x, y) = (self.m * self.k * half, self.m * self.n * half);
        let activations = |shape| self.random(shape, -1.0, 1.0, device).cast(self.dtype);
        match self.op {
            Op::Packed => {
                let zeros = [self.groups, self.bits.words(self.n)];
                let weights: Vec<_> = (self.weights(device).into_iter())
                    .map(|(words, s, _)| (words, s, self.words(zeros, device)))
                    .collect();
                let input = activations([self.m, self.k]);
                let seconds = median(device, budget, |call| {
                    let (words, s, zeros) = weights[call % weights.len()].clone();
                    drop(Tensor::<2>::from_dispatch(Dispatch::quant_linear_packed(
                        input.clone().into_dispatch(),
                        words.into_dispatch(),
                        s.into_dispatch(),
                        zeros.into_dispatch(),
                        self.bits,
                    )));
                });
                let numbers = self.groups * self.n * half;
                let zeros = 4 * zeros[0] * zeros[1];
                let bytes = x + self.weight_bytes() - numbers + zeros + y;
                vec![("quant_linear_packed", bytes, seconds)]
            }
            Op::Forward => {
                let (weights, input) = (self.weights(device), activations([self.m, self.k]));
                let seconds = median(device, budget, |call| {
                    let (words, s, z) = weights[call % weights.len()].clone();
                    drop(Tensor::<2>::from_dispatch(Dispatch::quant_linear(
                        input.clone().into_dispatch(),
                        words.into_dispatch(),
                        s.into_dispatch(),
                        z.into_dispatch(),
                        self.bits,
                    )));
                });
                vec![("quant_linear", x + self.weight_bytes() + y, seconds)]
            }
            Op::Input => {
                let (weights, grad) = (self.weights(device), activations([self.m, self.n]));
                let seconds = median(device, budget, |call| {
                    let (words, s, z) = weights[call % weights.len()].clone();
                    drop(Tensor::<2>::from_dispatch(
                        Dispatch::quant_linear_backward_input(
                            words.into_dispatch(),
                            s.into_dispatch(),
                            z.into_dispatch(),
                            grad.clone().into_dispatch(),
                            self.bits,
                            self.k,
                        ),
                    ));
                });
                let bytes = x + self.weight_bytes() + y;
                vec![("quant_linear backward, input", bytes, seconds)]
            }
            Op::Scale => {
                let (weights, input) = (self.weights(device), activations([self.m, self.k]));
                let grad = activations([self.m, self.n]);
                let seconds = median(device, budget, |call| {
                    let (words, s, z) = weights[call % weights.len()].clone();
                    drop(Dispatch::quant_linear_backward_scale(
                        input.clone().into_dispatch(),
                        words.into_dispatch(),
                        s.into_dispatch(),
                        z.into_dispatch(),
                        grad.clone().into_dispatch(),
                        self.bits,
                    ));
                });
                let sums = 2 * self.groups * self.n * half;
                let bytes = x + self.weight_bytes() + y + sums;
                vec![("quant_linear backward, scale", bytes, seconds)]
            }
            Op::Fake => self.fake(device, budget),
        }
    }

    fn fake(&self, device: &Device, budget: f64) -> Vec<(&'static str, usize, f64)> {
        let weight = self.k * self.n * 4;
        let scales = 2 * self.groups * self.n * 4;
        let (s, z) = self.scales(FloatDType::F32, device);
        let shape = [self.k, self.n];
        let operands: Vec<[Tensor<2>; 2]> = (0..copies(2 * weight))
            .map(|_| [(); 2].map(|()| self.random(shape, -0.05, 0.05, device)))
            .collect();
        let forward = median(device, budget, |call| {
            let [w, _] = operands[call % operands.len()].clone();
            drop(Dispatch::fake_quantize(
                w.into_dispatch(),
                s.clone().into_dispatch(),
                z.clone().into_dispatch(),
                self.bits,
            ));
        });
        let backward = median(device, budget, |call| {
            let [w, grad] = operands[call % operands.len()].clone();
            drop(Dispatch::fake_quantize_backward(
                w.into_dispatch(),
                s.clone().into_dispatch(),
                z.clone().into_dispatch(),
                grad.into_dispatch(),
                self.bits,
            ));
        });
        vec![
            ("fake_quantize, f32", 2 * weight + scales, forward),
            (
                "fake_quantize backward, f32",
                3 * weight + 2 * scales,
                backward,
            ),
        ]
    }
}
