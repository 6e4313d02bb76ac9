//! Elementwise passes over tensors of one shape.

use super::super::level::{Level, MAX_LANES};
use super::super::parallel::{self, Shared};
use super::vectors::{exp, load, store};
use macerator::{Scalar, Simd, Vector, WithSimd};
use std::ops::Range;

/// A function of `I` numbers at the same position, with `O` results.
pub(super) trait Elementwise<const I: usize, const O: usize>: Copy + Send + Sync {
    fn apply<S: Simd>(self, x: [Vector<S, f32>; I]) -> [Vector<S, f32>; O];
}

/// `e^x`.
#[derive(Clone, Copy)]
pub(super) struct Exp;

/// `silu(gate) * up`.
#[derive(Clone, Copy)]
pub(super) struct Swiglu;

/// Gradients of [`Swiglu`] by `gate` and `up`, from these and the gradient of the result.
#[derive(Clone, Copy)]
pub(super) struct SwigluBackward;

impl Elementwise<1, 1> for Exp {
    #[inline(always)]
    fn apply<S: Simd>(self, [x]: [Vector<S, f32>; 1]) -> [Vector<S, f32>; 1] {
        [exp(x)]
    }
}

impl Elementwise<2, 1> for Swiglu {
    #[inline(always)]
    fn apply<S: Simd>(self, [gate, up]: [Vector<S, f32>; 2]) -> [Vector<S, f32>; 1] {
        [gate * sigmoid(gate) * up]
    }
}

impl Elementwise<3, 2> for SwigluBackward {
    #[inline(always)]
    fn apply<S: Simd>(self, [gate, up, grad]: [Vector<S, f32>; 3]) -> [Vector<S, f32>; 2] {
        let one = 1f32.splat::<S>();
        let sigmoid = sigmoid(gate);
        // By the gate: s (1 + g (1 - s)).
        let slope = sigmoid * gate.mul_add(one - sigmoid, one);
        [grad * up * slope, grad * gate * sigmoid]
    }
}

#[inline(always)]
fn sigmoid<S: Simd>(x: Vector<S, f32>) -> Vector<S, f32> {
    let one = 1f32.splat::<S>();
    one / (one + exp(0f32.splat() - x))
}

/// Applies `op` to `len` numbers of each of `from`. Results may overwrite operands.
///
/// # Safety
///
/// All operands and results have `len` numbers, and nobody else uses the results.
#[allow(clippy::needless_range_loop)] // no closures here: they would not have this level's instructions
#[inline(always)]
pub(super) unsafe fn each<S: Simd, const I: usize, const O: usize>(
    op: impl Elementwise<I, O>,
    from: [*const f32; I],
    to: [*mut f32; O],
    len: usize,
) {
    let mut at = 0;
    while at < len {
        // SAFETY: as of the caller; a vector is read before it is written.
        unsafe {
            let mut x = [0f32.splat::<S>(); I];
            for i in 0..I {
                x[i] = load(from[i], at, len, 0.0);
            }
            let y = op.apply(x);
            for o in 0..O {
                store(to[o], at, len, y[o]);
            }
        }
        at += S::lanes32();
    }
}

/// A pass over parts of operands.
struct Pass<E, const I: usize, const O: usize> {
    op: E,
    from: [Shared; I],
    to: [Shared; O],
    range: Range<usize>,
}

impl<E: Elementwise<I, O>, const I: usize, const O: usize> WithSimd for Pass<E, I, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Range { start, end } = self.range;
        let from = self.from.map(|from| from.at(start).cast_const());
        let to = self.to.map(|to| to.at(start));
        // SAFETY: the range is in bounds of all, and this task's.
        unsafe { each::<S, I, O>(self.op, from, to, end - start) };
    }
}

/// The approximate number of elements of a task.
pub(super) const TASK: usize = 1 << 14;

/// The approximate number of multiplications for an element.
const WORK: usize = 8;

/// Applies `op` to all `len` numbers of the operands, on all threads. Results may overwrite operands.
///
/// # Safety
///
/// All operands and results have `len` numbers, and nobody else uses the results.
pub(super) unsafe fn run<const I: usize, const O: usize>(
    level: Level,
    op: impl Elementwise<I, O>,
    from: [Shared; I],
    to: [Shared; O],
    len: usize,
) {
    let tasks = len.div_ceil(TASK);
    parallel::each(tasks, parallel::threads(len * WORK), |at| {
        level.run(Pass {
            op,
            from,
            to,
            range: parallel::part(len, MAX_LANES, tasks, at),
        })
    });
}
