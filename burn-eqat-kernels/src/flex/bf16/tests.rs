//! Products against f64 of operands that were rounded, on odd shapes, and on ones larger than all parts.

use super::super::level::Level;
use super::super::matrix::{Matrix, Operand, Out, Products};
use super::super::product::Product;
use super::{BLOCK, PAIRS, ROWS, available, multiply, multiply_all, passes};
use burn::tensor::{DType, bf16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Sides of products: one of all, odd, and larger than what is packed at a time.
const SIZES: [[usize; 3]; 13] = [
    [1, 1, 1],
    [1, 17, 2],
    [5, 33, 3],
    [12, 32, 64],
    [13, 31, 65],
    [25, 48, 33],
    [7, 1, 40],
    [ROWS, 64, 16],
    [ROWS + 1, 70, 31],
    [2 * ROWS + 13, 95, 2 * PAIRS],
    [40, 161, 2 * PAIRS + 1],
    [3, 200, 4 * PAIRS + 35],
    [30, 2 * BLOCK + 45, 35],
];

fn is_here() -> bool {
    let here = Level::available().any(available);
    if !here {
        println!("skipped: this CPU has no AVX-512 BF16");
    }
    here
}

/// Random numbers, `[rows, columns]` in the order of memory that is asked for, and the same rounded to bf16 as rows of f64.
struct Numbers {
    f32: Vec<f32>,
    bf16: Vec<bf16>,
    exact: Vec<f64>,
    strides: [usize; 2],
}

impl Numbers {
    fn new([rows, columns]: [usize; 2], transposed: bool, rng: &mut StdRng) -> Self {
        // Rows have more room than numbers.
        let (len, strides) = match transposed {
            false => (rows * (columns + 3), [columns + 3, 1]),
            true => (columns * (rows + 5), [1, rows + 5]),
        };
        let f32: Vec<f32> = (0..len).map(|_| rng.random_range(-1.0..1.0)).collect();
        let bf16: Vec<bf16> = f32.iter().map(|x| bf16::from_f32(*x)).collect();
        let at = |i: usize| i / columns * strides[0] + i % columns * strides[1];
        let exact = (0..rows * columns).map(|i| bf16[at(i)].to_f64()).collect();
        Numbers {
            f32,
            bf16,
            exact,
            strides,
        }
    }

    fn in_f32(&self) -> Operand {
        Operand::F32(self.matrix(&self.f32))
    }

    fn in_bf16(&self) -> Operand {
        Operand::Bf16(self.matrix(&self.bf16))
    }

    fn matrix<T>(&self, numbers: &[T]) -> Matrix<T> {
        Matrix {
            first: numbers.as_ptr(),
            row: self.strides[0],
            column: self.strides[1],
        }
    }
}

fn assert_near(found: f32, exact: f64, k: usize, what: &str) {
    let error = (f64::from(found) - exact).abs();
    // Sums in f32 of products that are at most 1.
    let most = 1e-6 * (k as f64).sqrt().max(4.0) * exact.abs().max(1.0);
    assert!(error <= most, "{what}: {found} is not {exact}");
}

fn check(sizes: [usize; 3], left: Operand, right: Operand, exact: &[f64], what: &str) {
    let [m, n, k] = sizes;
    // The result lies in a larger one, which stays as it is.
    let (out_row, before) = (n + 7, 0.5f32);
    for (add, scale) in [(false, 1.0f32), (true, 0.25)] {
        let mut out = vec![before; m * out_row];
        // SAFETY: the operands were made with these sizes, and the CPU has the instructions.
        unsafe {
            multiply(
                sizes,
                Out::sums(out.as_mut_ptr(), out_row),
                add,
                scale,
                left,
                right,
            )
        };
        for (i, row) in out.chunks(out_row).enumerate() {
            for (j, found) in row.iter().enumerate() {
                if j >= n {
                    assert_eq!(*found, before, "{what}: column {j} is none of the result's");
                    continue;
                }
                let exact = exact[i * n + j] * f64::from(scale);
                let exact = exact + if add { f64::from(before) } else { 0.0 };
                assert_near(*found, exact, k, what);
            }
        }
    }
    let mut out = vec![f32::NAN; m * n];
    // SAFETY: as above.
    unsafe { multiply_all(sizes, Out::sums(out.as_mut_ptr(), n), left, right) };
    for (found, exact) in out.iter().zip(exact) {
        assert_near(*found, *exact, k, what);
    }
    // Rounded by the last pass, there are no sums where that is the first, too.
    for dtype in [DType::BF16, DType::F32] {
        let mut product = Product::new(Products::Bf16, [m, n], dtype, passes(k));
        // SAFETY: as above; it has the sums that it needs.
        let product = unsafe {
            multiply_all(sizes, product.out(), left, right);
            product.finish()
        };
        assert_eq!(product.dtype(), dtype);
        let found: Vec<f32> = product.into_data().iter().collect();
        for (found, sum) in found.iter().zip(&out) {
            let expected = match dtype {
                DType::BF16 => bf16::from_f32(*sum).to_f32(),
                _ => *sum,
            };
            assert_eq!(*found, expected, "{what}, {dtype:?}");
        }
    }
}

#[test]
fn products_are_those_of_rounded_operands() {
    if !is_here() {
        return;
    }
    let mut rng = StdRng::seed_from_u64(3);
    for [m, n, k] in SIZES {
        for (left_turned, right_turned) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let left = Numbers::new([m, k], left_turned, &mut rng);
            let right = Numbers::new([k, n], right_turned, &mut rng);
            let mut exact = vec![0.0; m * n];
            for i in 0..m {
                for l in 0..k {
                    for j in 0..n {
                        exact[i * n + j] += left.exact[i * k + l] * right.exact[l * n + j];
                    }
                }
            }
            let what = format!("{m}x{n}x{k}, {left_turned} {right_turned}");
            for (left, right, types) in [
                (left.in_f32(), right.in_f32(), "f32"),
                (left.in_bf16(), right.in_bf16(), "bf16"),
                (left.in_f32(), right.in_bf16(), "f32 by bf16"),
                (left.in_bf16(), right.in_f32(), "bf16 by f32"),
            ] {
                check([m, n, k], left, right, &exact, &format!("{what}, {types}"));
            }
        }
    }
}

#[test]
fn nothing_along_the_sum_gives_zeros() {
    if !is_here() {
        return;
    }
    let none = Operand::F32(Matrix::rows(&[], 1));
    let mut out = vec![7.0; 6];
    // SAFETY: nothing is read.
    unsafe {
        multiply(
            [2, 3, 0],
            Out::sums(out.as_mut_ptr(), 3),
            false,
            1.0,
            none,
            none,
        )
    };
    assert_eq!(out, [0.0; 6]);
}
