//! Products of dense matrices: in f32 by the `gemm` crate, which Flex uses too, or in bf16 ([`super::bf16`]).

use super::level::Level;
use burn::tensor::DType;
#[cfg(target_arch = "x86_64")]
use burn::tensor::bf16;

/// A matrix in memory: its first element, and its strides between rows and between columns.
#[derive(Clone, Copy)]
pub(super) struct Matrix<T = f32> {
    pub first: *const T,
    pub row: usize,
    pub column: usize,
}

impl<T> Matrix<T> {
    /// A row-major matrix whose rows are `row` elements apart.
    pub fn rows(elements: &[T], row: usize) -> Self {
        Matrix {
            first: elements.as_ptr(),
            row,
            column: 1,
        }
    }

    pub fn transposed(self) -> Self {
        Matrix {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    /// The part from a row and a column on.
    pub fn from(&self, row: usize, column: usize) -> Self {
        let at = row * self.row + column * self.column;
        Matrix {
            first: self.first.wrapping_add(at),
            row: self.row,
            column: self.column,
        }
    }
}

/// An operand of products: in f32, or in bf16 for [`Products::Bf16`].
#[derive(Clone, Copy)]
pub(super) enum Operand {
    F32(Matrix<f32>),
    #[cfg(target_arch = "x86_64")]
    Bf16(Matrix<bf16>),
}

impl Operand {
    pub fn transposed(self) -> Self {
        match self {
            Operand::F32(matrix) => Operand::F32(matrix.transposed()),
            #[cfg(target_arch = "x86_64")]
            Operand::Bf16(matrix) => Operand::Bf16(matrix.transposed()),
        }
    }

    /// The part from a row and a column on.
    pub fn from(self, row: usize, column: usize) -> Self {
        match self {
            Operand::F32(matrix) => Operand::F32(matrix.from(row, column)),
            #[cfg(target_arch = "x86_64")]
            Operand::Bf16(matrix) => Operand::Bf16(matrix.from(row, column)),
        }
    }

    /// # Panics
    ///
    /// Panics if it is in bf16.
    fn in_f32(self) -> Matrix {
        match self {
            Operand::F32(matrix) => matrix,
            #[cfg(target_arch = "x86_64")]
            Operand::Bf16(_) => unreachable!("products in f32 have operands in f32"),
        }
    }
}

/// An operand that threads share. They only read it, as nobody writes to it meanwhile.
pub(super) struct Reading(pub Operand);

// SAFETY: see above.
unsafe impl Send for Reading {}
// SAFETY: see above.
unsafe impl Sync for Reading {}

impl Reading {
    pub fn get(&self) -> Operand {
        self.0
    }
}

impl From<Matrix> for Operand {
    fn from(matrix: Matrix) -> Self {
        Operand::F32(matrix)
    }
}

/// What the numbers of products are rounded to before they are multiplied. Sums are in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Products {
    F32,
    /// Only where the CPU has instructions for it.
    #[cfg(target_arch = "x86_64")]
    Bf16,
}

impl Products {
    /// Those for an input of this type: bf16 is not rounded by them, and multiplied faster.
    pub fn of(level: Level, input: DType) -> Self {
        match input {
            #[cfg(target_arch = "x86_64")]
            DType::BF16 if super::bf16::available(level) => Products::Bf16,
            _ => {
                let _ = level;
                Products::F32
            }
        }
    }

    /// `out [m, n] (+)= scale * left [m, k] * right [k, n]`, on this thread; `out` is row-major.
    ///
    /// # Safety
    ///
    /// The matrices have these sizes, and nobody else touches `out`.
    pub unsafe fn multiply(
        self,
        sizes: [usize; 3],
        out: (*mut f32, usize),
        add: bool,
        scale: f32,
        left: impl Into<Operand>,
        right: impl Into<Operand>,
    ) {
        let (left, right) = (left.into(), right.into());
        // SAFETY: as of the caller.
        unsafe {
            match self {
                Products::F32 => multiply(sizes, out, add, scale, left.in_f32(), right.in_f32()),
                #[cfg(target_arch = "x86_64")]
                Products::Bf16 => super::bf16::multiply(sizes, out, add, scale, left, right),
            }
        }
    }
}

/// [`Products::multiply`] in f32.
///
/// # Safety
///
/// As there.
unsafe fn multiply(
    [m, n, k]: [usize; 3],
    (out, out_row): (*mut f32, usize),
    add: bool,
    scale: f32,
    left: Matrix,
    right: Matrix,
) {
    // SAFETY: as of the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            out_row as isize,
            add,
            left.first,
            left.column as isize,
            left.row as isize,
            right.first,
            right.column as isize,
            right.row as isize,
            1.0f32,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
