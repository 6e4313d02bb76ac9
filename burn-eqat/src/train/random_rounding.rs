//! Rounding to bf16 at random, so that what many small steps add up to is not lost.

use burn::tensor::bf16;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Each number becomes one of the two of bf16 that it lies between, the nearer the likelier: on average it is what it was.
///
/// A mean that moves by a thousandth in a step, as the second moment of AdamW does, would never move if it were rounded to the nearest:
/// numbers of bf16 are 1/256 to 1/128 apart. The same seed rounds in the same way.
pub(super) fn round_at_random(numbers: &[f32], seed: u64) -> Vec<bf16> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rounded = Vec::with_capacity(numbers.len());
    for four in numbers.chunks(4) {
        let mut bits = random.next_u64();
        for number in four {
            rounded.push(match number.is_finite() {
                // What bf16 leaves out, and a random number as large as that at most: a carry rounds up.
                true => bf16::from_bits(((number.to_bits() + (bits as u32 & 0xffff)) >> 16) as u16),
                false => bf16::from_f32(*number),
            });
            bits >>= 16;
        }
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_between_their_neighbours_and_right_on_average() {
        for number in [1.0 + 1.0 / 512.0, -3.7e-9, 0.1, 2.5e30] {
            let rounded = round_at_random(&[number; 4003], 7);
            let apart = number.abs() / 128.0;
            assert!(rounded.iter().all(|r| (r.to_f32() - number).abs() <= apart));
            let mean = rounded.iter().map(|r| r.to_f64()).sum::<f64>() / 4003.0;
            let off = (mean / f64::from(number) - 1.0).abs();
            assert!(off < 4e-4, "{number}: {mean}");
        }
    }

    #[test]
    fn what_bf16_has_stays_as_it_is() {
        let numbers = [0.0, -0.0, 1.0, -2.5, 1e-40, f32::INFINITY];
        let numbers = numbers.map(|number: f32| bf16::from_f32(number).to_f32());
        let rounded = round_at_random(&numbers, 3);
        for (rounded, number) in rounded.iter().zip(numbers) {
            assert_eq!(rounded.to_f32().to_bits(), number.to_bits());
        }
        assert!(round_at_random(&[f32::NAN], 3)[0].is_nan());
    }

    /// AdamW's second moment, of gradients that become a tenth as large.
    #[test]
    fn a_slow_mean_moves() {
        let mut exact = 1.0;
        let mut kept = vec![1.0; 512];
        for step in 0..2000 {
            exact += (0.01 - exact) * 1e-3;
            for number in &mut kept {
                *number += (0.01 - *number) * 1e-3;
            }
            kept = round_at_random(&kept, step)
                .into_iter()
                .map(bf16::to_f32)
                .collect();
        }
        let mean: f32 = kept.iter().sum::<f32>() / 512.0;
        assert!((mean / exact - 1.0).abs() < 0.02, "{mean} {exact}");
        // To the nearest it stays where it is.
        let mut nearest = bf16::ONE;
        nearest += bf16::from_f32((0.01 - 1.0) * 1e-3);
        assert_eq!(nearest, bf16::ONE);
    }
}
