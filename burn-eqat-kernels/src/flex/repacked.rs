//! A copy of a packed weight beside its tensors.

use super::level::Level;
use super::lookup::Copy;
use super::tensors::{Floats, Words, finish, values_mut, zeros};
use super::{Operands, ZeroPoints};
use crate::{Activations, Bits};
use burn::backend::Flex;
use burn::tensor::{DType, Int, Tensor};
use burn_flex::FlexTensor;

/// The tensors that a packed weight is kept in, and a copy of it in the order in which lookups read it.
///
/// The tensors are kept to know them again: as long as they are here nobody writes to them, so a tensor in
/// the same place is the same tensor.
#[derive(Debug)]
pub(crate) struct Repacked {
    tensors: [FlexTensor; 3],
    copy: Copy,
}

impl Repacked {
    pub fn new(
        words: Tensor<2, Int>,
        s: Tensor<2>,
        zeros: Tensor<2, Int>,
        bits: Bits,
        d_input: usize,
    ) -> Option<Self> {
        if s.dtype() != DType::F32 || !Level::current().dots() {
            return None;
        }
        let tensors = primitives(words, s, zeros)?;
        let [words, s, zeros] = tensors.clone();
        let zeros = ZeroPoints::Words(Words::new(zeros));
        let operands = Operands::new(words, s, zeros, bits, [1, d_input]);
        let copy = operands.with(Copy::new)?;
        Some(Repacked { tensors, copy })
    }

    pub fn is_of(&self, words: &Tensor<2, Int>, s: &Tensor<2>, zeros: &Tensor<2, Int>) -> bool {
        let place = |tensor: &FlexTensor| {
            let layout = tensor.layout();
            (tensor.bytes().as_ptr(), layout.clone(), tensor.dtype())
        };
        let others = primitives(words.clone(), s.clone(), zeros.clone());
        others.is_some_and(|others| {
            let mut pairs = self.tensors.iter().zip(&others);
            pairs.all(|(own, other)| place(own) == place(other))
        })
    }

    pub fn linear<const D: usize>(
        &self,
        x: &Tensor<D>,
        bias: Option<&Tensor<1>>,
    ) -> Option<Tensor<D>> {
        let mut shape = x.dims();
        let (k, n) = (self.copy.problem.k, self.copy.problem.n);
        let rows: usize = shape[..D - 1].iter().product();
        let fast = Activations::current() == Activations::Int8;
        let bias_fits = bias.is_none_or(|bias| bias.dims() == [n]);
        let fits = shape[D - 1] == k && bias_fits && self.copy.takes(rows, fast);
        if !fits || x.dtype() == DType::F64 {
            return None;
        }
        let bias = match bias {
            Some(bias) => Some(bias.clone().try_into_primitive::<Flex>().ok()?),
            None => None,
        };
        let dtype = x.dtype();
        let x = x.clone().reshape([rows, k]).try_into_primitive::<Flex>();
        let x = Floats::new(x.ok()?);
        let mut y = zeros([rows, n]);
        let values = values_mut(&mut y);
        if let Some(bias) = bias.map(Floats::new) {
            let rows = values.chunks_exact_mut(n);
            rows.for_each(|row| row.copy_from_slice(bias.values()));
        }
        if !(self.copy).forward(Level::current(), fast, x.values(), values) {
            return None;
        }
        shape[D - 1] = n;
        let y = Tensor::<2>::from_primitive::<Flex>(finish(y, dtype));
        Some(y.reshape(shape))
    }
}

/// None where a tensor is on another backend, or differentiated.
fn primitives(
    words: Tensor<2, Int>,
    s: Tensor<2>,
    zeros: Tensor<2, Int>,
) -> Option<[FlexTensor; 3]> {
    let words = words.try_into_primitive::<Flex>().ok()?;
    let s = s.try_into_primitive::<Flex>().ok()?;
    let zeros = zeros.try_into_primitive::<Flex>().ok()?;
    Some([words, s, zeros])
}
