//! Copies of packed weights, private to a backend.

use crate::api::{expect_packed, expect_words};
use crate::error::expect_shape;
use crate::{Bits, OpError};
use burn::tensor::{Int, Tensor};

/// A private copy of a packed weight in the order in which a backend's fastest product of few rows reads it,
/// for decoding: it takes as much memory again as the words and the step sizes.
///
/// Flex on x86-64 with AVX2 makes one of 2- and 3-bit weights whose groups are multiples of 8 rows, with
/// step sizes in f32. It looks products up in tables of the input: exact (as far from a product in f64 as
/// sums in f32 are), or, where [`Activations::Int8`](crate::Activations::Int8) says so, from tables of 8 bits.
#[derive(Debug)]
pub struct Repacked(Copy);

impl Repacked {
    /// Makes the copy, or none where the device has no use for one.
    ///
    /// # Shapes
    ///
    /// - `words`: `[ceil(d_input * b / 32), d_output]`
    /// - `s`: `[groups, d_output]`, where `groups` divides `d_input`
    /// - `zeros`: `[groups, ceil(d_output * b / 32)]`
    ///
    /// # Errors
    ///
    /// When the shapes do not fit together.
    pub fn new(
        words: Tensor<2, Int>,
        s: Tensor<2>,
        zeros: Tensor<2, Int>,
        bits: Bits,
        d_input: usize,
    ) -> Result<Option<Self>, OpError> {
        const OP: &str = "repack";
        expect_packed(OP, &words, &s, bits, d_input)?;
        let [groups, n] = s.dims();
        expect_shape(OP, "zeros", &zeros.dims(), &[groups, bits.words(n)])?;
        expect_words(OP, "zeros", &zeros)?;
        Ok(Copy::new(words, s, zeros, bits, d_input).map(Repacked))
    }

    /// Whether it was made of these very tensors, and is thus still true: training makes new step sizes.
    pub fn is_of(&self, words: &Tensor<2, Int>, s: &Tensor<2>, zeros: &Tensor<2, Int>) -> bool {
        self.0.is_of(words, s, zeros)
    }

    /// `x W + bias` as [`quant_linear_packed`](crate::quant_linear_packed) has it, or none where that is to be
    /// used: for more than a few rows, for inputs on another device or with gradients, that are not finite, or
    /// of another width.
    ///
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`
    /// - `bias`: `[d_output]`
    /// - output: `[.., d_output]`
    pub fn linear<const D: usize>(
        &self,
        x: &Tensor<D>,
        bias: Option<&Tensor<1>>,
    ) -> Option<Tensor<D>> {
        self.0.linear(x, bias)
    }
}

#[cfg(all(feature = "flex", target_arch = "x86_64"))]
use crate::flex::Repacked as Copy;

/// No backend makes copies.
#[cfg(not(all(feature = "flex", target_arch = "x86_64")))]
#[derive(Debug)]
enum Copy {}

#[cfg(not(all(feature = "flex", target_arch = "x86_64")))]
impl Copy {
    pub fn new(
        _words: Tensor<2, Int>,
        _s: Tensor<2>,
        _zeros: Tensor<2, Int>,
        _bits: Bits,
        _d_input: usize,
    ) -> Option<Self> {
        None
    }

    pub fn is_of(&self, _: &Tensor<2, Int>, _: &Tensor<2>, _: &Tensor<2, Int>) -> bool {
        match *self {}
    }

    pub fn linear<const D: usize>(
        &self,
        _: &Tensor<D>,
        _: Option<&Tensor<1>>,
    ) -> Option<Tensor<D>> {
        match *self {}
    }
}
