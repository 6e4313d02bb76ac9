//! Products of dense matrices: in f32 by the `gemm` crate, which Flex uses too, or in bf16 ([`super::bf16`]).

use super::level::Level;
use burn::tensor::{DType, bf16};

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

/// Where a product is written: a row-major matrix.
///
/// A product whose sum is longer than what is multiplied at a time is made in several *passes*, and adds to its sums in all but the
/// first.
#[derive(Clone, Copy)]
pub(super) struct Out {
    /// The sums; unused where they are rounded after a single pass.
    pub sums: *mut f32,
    /// Where the last pass writes the sums, rounded, in their place; null where they stay in f32.
    #[cfg(target_arch = "x86_64")]
    pub rounded: *mut bf16,
    /// Numbers from row to row.
    pub row: usize,
}

// SAFETY: each task writes only its own elements.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    /// A matrix in f32.
    pub fn sums(sums: *mut f32, row: usize) -> Self {
        Out {
            sums,
            #[cfg(target_arch = "x86_64")]
            rounded: std::ptr::null_mut(),
            row,
        }
    }

    /// The same, rounded by the last pass to there; for [`Products::Bf16`] only.
    pub fn rounded_to(self, to: *mut bf16) -> Self {
        #[cfg(target_arch = "x86_64")]
        return Out {
            rounded: to,
            ..self
        };
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("products round to {to:p}")
    }

    /// The part from a row and a column on.
    pub fn from(self, row: usize, column: usize) -> Self {
        let at = row * self.row + column;
        Out {
            sums: self.sums.wrapping_add(at),
            // Null stays null.
            #[cfg(target_arch = "x86_64")]
            rounded: if self.rounds() {
                self.rounded.wrapping_add(at)
            } else {
                self.rounded
            },
            row: self.row,
        }
    }

    /// The same in one of several passes: sums stay in f32 in all but the last.
    pub fn in_pass(self, at: usize, passes: usize) -> Self {
        if at + 1 < passes {
            Out::sums(self.sums, self.row)
        } else {
            self
        }
    }

    /// Whether the last pass rounds.
    pub fn rounds(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return !self.rounded.is_null();
        #[cfg(not(target_arch = "x86_64"))]
        false
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

    /// `out [m, n] (+)= scale * left [m, k] * right [k, n]`, on this thread.
    ///
    /// # Safety
    ///
    /// The matrices have these sizes, and nobody else touches `out`. Products in f32 do not round. Those in bf16 have sums if there
    /// is something to add to, or if they take [more passes than one](super::bf16::passes).
    pub unsafe fn multiply(
        self,
        sizes: [usize; 3],
        out: Out,
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
    out: Out,
    add: bool,
    scale: f32,
    left: Matrix,
    right: Matrix,
) {
    debug_assert!(!out.rounds());
    // SAFETY: as of the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.sums,
            1,
            out.row as isize,
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
