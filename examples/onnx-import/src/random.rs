//! Random numbers that are easy to make elsewhere too: the models were trained in PyTorch, on data drawn by the same
//! formulas (`assets/make.py`).

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// The stream of an example of a data set.
    pub fn new(seed: u64, index: usize) -> Self {
        let mut stream = Self((seed << 32) + index as u64);
        stream.0 = stream.word();
        stream
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `limit`, without it.
    pub fn below(&mut self, limit: usize) -> usize {
        (((self.word() >> 32) * limit as u64) >> 32) as usize
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.word() >> 40) as f64 / (1u64 << 24) as f64)
    }
}
