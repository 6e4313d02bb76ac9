//! The matmuls of a device's matrix units.

/// Matrix units multiply `m x k` by `k x n` elements at a time, with sums in f32. The units of a plane share such
/// a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fragment {
    /// Rows of the left side and of the sums.
    pub m: usize,
    /// Columns of the right side and of the sums.
    pub n: usize,
    /// The summed dimension.
    pub k: usize,
    /// Bytes of an element of the two sides.
    pub bytes: usize,
    /// Units of the plane that shares it.
    pub plane: usize,
}

impl Fragment {
    /// The fragment of most devices for 16-bit floats.
    #[cfg(any(test, feature = "autotune"))]
    pub const COMMON: Fragment = Fragment::new(16, 16, 16, 2, 32);

    /// A fragment with these sides and elements of `bytes`, shared by `plane` units.
    pub const fn new(m: usize, n: usize, k: usize, bytes: usize, plane: usize) -> Self {
        Fragment {
            m,
            n,
            k,
            bytes,
            plane,
        }
    }

    /// The largest `[m, n, k]` that divides the tiles of the tiled matmuls, for elements of `bytes` and planes of
    /// `plane` units.
    pub fn best(
        sizes: impl Iterator<Item = [usize; 3]>,
        bytes: usize,
        plane: usize,
    ) -> Option<Self> {
        sizes
            .filter(|[m, n, k]| {
                [8, 16].contains(m) && [8, 16].contains(n) && [8, 16, 32].contains(k)
            })
            .max_by_key(|[m, n, k]| (m * n * k, *m, *n))
            .map(|[m, n, k]| Fragment::new(m, n, k, bytes, plane))
    }

    /// Sums in a fragment.
    pub const fn elements(&self) -> usize {
        self.m * self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_divides_a_tile_is_taken() {
        let best = |sizes: &[[usize; 3]]| Fragment::best(sizes.iter().copied(), 2, 32);
        // CUDA; Vulkan on NVIDIA's; narrower ones; Metal and llvmpipe.
        let cuda = [[32, 8, 16], [16, 16, 16], [8, 32, 16]];
        assert_eq!(best(&cuda), Some(Fragment::COMMON));
        assert_eq!(
            best(&[[16, 8, 8], [16, 8, 16]]),
            Some(Fragment::new(16, 8, 16, 2, 32))
        );
        assert_eq!(best(&[[8, 8, 16]]), Some(Fragment::new(8, 8, 16, 2, 32)));
        assert_eq!(best(&[[8, 8, 8]]), Some(Fragment::new(8, 8, 8, 2, 32)));
        assert_eq!(best(&[[16, 16, 128], [32, 32, 32]]), None);
        assert_eq!(best(&[]), None);
    }
}
