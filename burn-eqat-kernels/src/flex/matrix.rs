//! Matmuls of dense matrices, by the `gemm` crate, which Flex uses too.

/// A matrix in memory: its first element, and its strides between rows and between columns.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub first: *const f32,
    pub row: usize,
    pub column: usize,
}

impl Matrix {
    /// A row-major matrix whose rows are `row` elements apart.
    pub fn rows(elements: &[f32], row: usize) -> Self {
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
}

/// `out [m, n] (+)= scale * left [m, k] * right [k, n]`, on this thread; `out` is row-major.
///
/// # Safety
///
/// The matrices have these sizes, and nobody else touches `out`.
pub(super) unsafe fn multiply(
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
