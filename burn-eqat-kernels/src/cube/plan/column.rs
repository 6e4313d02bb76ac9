//! Plan of an elementwise kernel, which goes over a weight once.

/// The units of an elementwise kernel: one for each piece of a column vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnPlan {
    /// Column vectors in a row.
    pub vectors: usize,
    /// Units in all.
    pub total: usize,
}

impl ColumnPlan {
    /// A plan with `pieces` in each of the `n / width` column vectors.
    pub fn new(pieces: usize, n: usize, width: usize) -> Self {
        let vectors = n / width;
        ColumnPlan {
            vectors,
            total: pieces * vectors,
        }
    }
}
