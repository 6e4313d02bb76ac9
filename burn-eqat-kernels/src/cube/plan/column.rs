//! Plan of an elementwise kernel: one that goes once over a weight.

/// One unit for each piece of work of a column vector: elementwise kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnPlan {
    /// Column vectors in a row.
    pub vectors: usize,
    /// Units in all.
    pub total: usize,
}

impl ColumnPlan {
    /// `pieces` of work down each of the `n / width` column vectors.
    pub fn new(pieces: usize, n: usize, width: usize) -> Self {
        let vectors = n / width;
        ColumnPlan {
            vectors,
            total: pieces * vectors,
        }
    }
}
