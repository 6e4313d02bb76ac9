use rand_mt::Mt;

/// The generator of Python's `random`, so that the same seed draws the same numbers.
pub(super) struct PythonRandom(Mt);

impl PythonRandom {
    /// `random.seed(seed)`.
    pub(super) fn new(seed: u32) -> Self {
        Self(Mt::new_with_key([seed]))
    }

    /// `random.randint(0, limit - 1)`.
    ///
    /// # Panics
    ///
    /// When `limit` is zero.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        assert!(limit > 0, "no number is below 0");
        // As many bits as the limit has, until they are below it.
        let unused = limit.leading_zeros();
        loop {
            let drawn = self.0.next_u32() >> unused;
            if drawn < limit {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `random.seed(0); [random.randint(0, n - 1) for n in (300, 300, 7, 1, 1000000, 2**31)]`
    #[test]
    fn numbers_are_those_of_python() {
        let mut random = PythonRandom::new(0);
        let drawn = [300, 300, 7, 1, 1_000_000, 1 << 31].map(|limit| random.below(limit));
        assert_eq!(drawn, [197, 215, 0, 0, 536_110, 2_087_043_557]);
    }
}
