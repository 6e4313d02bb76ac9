//! Tables to look something up in, for the encoder.

use crate::data::Task;
use crate::random::Random;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::array;

/// Keys are the tokens from 0 to here, values come after them.
const KEYS: usize = 16;
/// The number of values.
const VALUES: usize = 10;
/// The pairs of a table.
const PAIRS: usize = 8;
/// The pairs, and the key that is asked for.
const TOKENS: usize = 2 * PAIRS + 1;

/// Pairs of a key and a value, then one of the keys: which value did it have? Tokens are `[batch, TOKENS]`.
#[derive(Clone, Copy, Debug)]
pub struct Lookups;

impl Task for Lookups {
    type Number = i64;
    type Inputs = Tensor<2, Int>;

    fn draw(mut random: Random) -> (Vec<i64>, usize) {
        let mut keys: [usize; KEYS] = array::from_fn(|key| key);
        let mut tokens = Vec::with_capacity(TOKENS);
        for pair in 0..PAIRS {
            let chosen = pair + random.below(KEYS - pair);
            keys.swap(pair, chosen);
            tokens.push(keys[pair] as i64);
            tokens.push((KEYS + random.below(VALUES)) as i64);
        }
        let asked = random.below(PAIRS);
        let value = tokens[2 * asked + 1] as usize - KEYS;
        tokens.push(tokens[2 * asked]);
        (tokens, value)
    }

    fn inputs(tokens: Vec<i64>, count: usize, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(tokens, [count, TOKENS]), device)
    }
}
