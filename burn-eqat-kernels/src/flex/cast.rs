//! Casts between f32 and bf16, a vector at a time. (Flex's own take one number at a time.)

use super::level::Level;
use super::parallel::{self, Shared};
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, Element, bf16};
use burn_flex::{FlexTensor, Layout};
use macerator::{Simd, WithSimd};
use std::mem::MaybeUninit;

/// Numbers of a task.
const PART: usize = 1 << 16;

/// A tensor in another float type; itself if it is of that type. The order in memory is kept.
pub(super) fn cast(tensor: FloatTensor<Flex>, dtype: DType) -> FloatTensor<Flex> {
    match (tensor.dtype(), dtype) {
        (from, to) if from == to => tensor,
        (DType::BF16, DType::F32) => map(tensor, dtype, wide),
        (DType::F32, DType::BF16) => map(tensor, dtype, rounded),
        _ => Flex::float_cast(tensor, dtype.into()),
    }
}

/// The function of each number.
fn map<T, U>(tensor: FlexTensor, dtype: DType, op: impl Fn(T) -> U + Sync) -> FlexTensor
where
    T: Element + bytemuck::Pod + Send + Sync,
    U: bytemuck::Pod + Send + Sync,
{
    let tensor = if fills_memory(tensor.layout()) {
        tensor
    } else {
        tensor.to_contiguous()
    };
    let layout = tensor.layout();
    let len = layout.num_elements();
    let from = &tensor.storage::<T>()[layout.start_offset()..][..len];
    let values = each(from, op);
    let layout = Layout::new(layout.shape().clone(), layout.strides().to_vec(), 0);
    FlexTensor::new(Bytes::from_elems(values), layout, dtype)
}

/// Whether a tensor has all numbers between its first and its last, in any order of its axes.
fn fills_memory(layout: &Layout) -> bool {
    let sides = layout.strides().iter().zip(&layout.shape()[..]);
    let mut sides: Vec<_> = sides.filter(|(_, size)| **size != 1).collect();
    sides.sort();
    let mut expected = 1;
    for (stride, size) in sides {
        if *stride != expected {
            return false;
        }
        expected *= *size as isize;
    }
    true
}

#[inline(always)]
pub(super) fn wide(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// To the nearest, ties to even. What is no number stays none.
#[inline(always)]
pub(super) fn rounded(x: f32) -> bf16 {
    let bits = x.to_bits();
    let up = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let none = bits | 0x0040_0000;
    let bits = if x.is_nan() { none } else { up };
    bf16::from_bits((bits >> 16) as u16)
}

/// The function of each number. It is inlined, so that the compiler makes vectors of it.
fn each<T: Copy + Send + Sync, U: Copy + Send>(from: &[T], op: impl Fn(T) -> U + Sync) -> Vec<U> {
    let level = Level::current();
    let mut values = Vec::with_capacity(from.len());
    let to = Shared::new(&mut values.spare_capacity_mut()[..from.len()]);
    let parts = from.len().div_ceil(PART);
    parallel::each(parts, parallel::threads(from.len()), |at| {
        let part = parallel::part(from.len(), 1, parts, at);
        // SAFETY: each task has its own part of the results.
        let to = unsafe { to.part(part.clone()) };
        let (from, op) = (&from[part], &op);
        level.run(Map { from, to, op });
    });
    // SAFETY: all were written.
    unsafe { values.set_len(from.len()) };
    values
}

struct Map<'a, T, U, F> {
    from: &'a [T],
    to: &'a mut [MaybeUninit<U>],
    op: &'a F,
}

impl<T: Copy, U, F: Fn(T) -> U> WithSimd for Map<'_, T, U, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            to.write((self.op)(*from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn numbers_are_rounded_as_half_rounds_them() {
        let ends = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xc000, 0xffff];
        // All exponents, both signs, and all ways to round; infinities and what is no number among them.
        let numbers =
            (0..=0xffffu32).flat_map(|high| ends.map(|low| f32::from_bits(high << 16 | low)));
        for x in numbers {
            let (found, expected) = (rounded(x).to_bits(), bf16::from_f32(x).to_bits());
            assert_eq!(found, expected, "{x} of bits {:x}", x.to_bits());
            if !x.is_nan() {
                assert_eq!(
                    wide(rounded(x)).to_bits(),
                    bf16::from_f32(x).to_f32().to_bits()
                );
            }
        }
    }

    #[test]
    fn a_cast_keeps_the_tensor_in_any_order_of_memory() {
        let values: Vec<f32> = (0..60).map(|i| i as f32 / 8.0).collect();
        let x = FlexTensor::from_data(TensorData::new(values, [3, 4, 5]));
        let slice = burn::tensor::Slice::from(1..3);
        let sliced = Flex::float_slice(x.clone(), &[slice]);
        for x in [
            x.clone(),
            x.permute(&[2, 0, 1]),
            sliced.clone(),
            sliced.transpose(1, 2),
        ] {
            let there = cast(x.clone(), DType::BF16);
            assert_eq!(there.dtype(), DType::BF16);
            assert_eq!(there.layout().shape(), x.layout().shape());
            let back = cast(there, DType::F32);
            let [back, x] = [back, x].map(|x| x.to_contiguous());
            assert_eq!(back.as_slice::<f32>(), x.as_slice::<f32>());
        }
    }
}
