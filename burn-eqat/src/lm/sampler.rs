use burn::tensor::Tensor;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Picks the next token from logits: the likeliest one at temperature 0, else a random one of the likeliest
/// tokens whose probabilities add up to `top_p`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::lm::Sampler;
///
/// let logits = Tensor::<2>::from_data([[0.0, 9.0, 1.0], [9.0, 0.0, 1.0]], &Device::flex());
/// let mut greedy = Sampler::new(0.0, 1.0, 42);
/// assert_eq!(greedy.sample(logits.clone()), [1, 0]);
/// let mut random = Sampler::new(0.7, 0.9, 42);
/// assert_eq!(random.sample(logits).len(), 2);
/// ```
pub struct Sampler {
    temperature: f64,
    top_p: f64,
    rng: StdRng,
}

impl Sampler {
    /// A sampler. `top_p` of 1 or more leaves no token out.
    pub fn new(temperature: f64, top_p: f64, seed: u64) -> Self {
        Self {
            temperature,
            top_p,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Goes on as if it had picked that many tokens, each at a temperature above 0.
    pub(super) fn skip(&mut self, tokens: usize) {
        for _ in 0..tokens {
            let _: f64 = self.rng.random();
        }
    }

    /// A token for each row of logits.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, vocab]`
    /// - output: `batch` tokens
    pub fn sample(&mut self, logits: Tensor<2>) -> Vec<u32> {
        if self.temperature <= 0.0 {
            // One number a row leaves the device, not all logits.
            let likeliest = logits.argmax(1).into_data();
            return likeliest.iter::<i64>().map(|token| token as u32).collect();
        }
        let [_, vocab] = logits.dims();
        let values = logits.into_data().convert::<f32>();
        let values: Vec<f32> = values.try_into_vec().expect("they are in f32");
        values
            .chunks_exact(vocab)
            .map(|row| self.sample_row(row))
            .collect()
    }

    fn sample_row(&mut self, logits: &[f32]) -> u32 {
        let largest = (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
            .unwrap_or(0);
        let weight = |i: usize| (f64::from(logits[i] - logits[largest]) / self.temperature).exp();
        let mut weights: Vec<(usize, f64)> = (0..logits.len()).map(|i| (i, weight(i))).collect();
        let mut total: f64 = weights.iter().map(|(_, w)| w).sum();
        if self.top_p < 1.0 {
            weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
            let mut kept = 0.0;
            let enough = weights.iter().position(|(_, w)| {
                kept += w;
                kept >= self.top_p * total
            });
            weights.truncate(enough.map_or(weights.len(), |last| last + 1));
            total = weights.iter().map(|(_, w)| w).sum();
        }
        let mut at = self.rng.random::<f64>() * total;
        for (token, weight) in &weights {
            at -= weight;
            if at <= 0.0 {
                return *token as u32;
            }
        }
        largest as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_likeliest_at_temperature_zero() {
        let mut sampler = Sampler::new(0.0, 1.0, 0);
        let rows = [[0.0, 3.0, -1.0], [-5.0, -4.0, -3.0], [7.0, 7.0, 6.0]];
        let logits = Tensor::<2>::from_data(rows, &Device::flex());
        assert_eq!(sampler.sample(logits), [1, 2, 0]);
    }

    #[test]
    fn top_p_leaves_out_the_unlikely() {
        let mut sampler = Sampler::new(1.0, 0.6, 7);
        // Probabilities near 0.64, 0.24, 0.09, 0.03.
        let logits = [3.0, 2.0, 1.0, 0.0];
        assert!((0..200).all(|_| sampler.sample_row(&logits) == 0));
        let mut sampler = Sampler::new(1.0, 0.8, 7);
        let drawn: Vec<u32> = (0..400).map(|_| sampler.sample_row(&logits)).collect();
        assert!(drawn.iter().all(|token| *token < 2));
        let second = drawn.iter().filter(|token| **token == 1).count();
        assert!((60..160).contains(&second), "{second}");
    }
}
