use super::{LmError, NextTokenLogits, Sampler, TokenWindows};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// The number of windows generated at a time.
const BATCH: usize = 64;

/// Lets a model generate its own text of `shape` (windows, tokens per window), at temperature 1, each window
/// starting with `bos`. Such text resembles the model's training data. The callback `progress` gets the number of
/// tokens done and in all, and may stop with an error.
///
/// # Errors
///
/// When the model fails, or `progress` returns an error.
pub fn sample_windows<M: NextTokenLogits>(
    model: &M,
    bos: u32,
    shape: [usize; 2],
    seed: u64,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
) -> Result<TokenWindows, LmError> {
    let [count, seq_len] = shape;
    let mut sampler = Sampler::new(1.0, 1.0, seed);
    let mut tokens = Vec::with_capacity(count * seq_len);
    let total = count.div_ceil(BATCH) * seq_len;
    for (batch, first) in (0..count).step_by(BATCH).enumerate() {
        let rows = BATCH.min(count - first);
        let mut windows = vec![vec![bos as i32]; rows];
        let mut cache = model.new_cache();
        for position in 1..seq_len {
            let last: Vec<i32> = windows.iter().map(|window| window[position - 1]).collect();
            let input = Tensor::<2, Int>::from_data(TensorData::new(last, [rows, 1]), device);
            let logits = model.next_token_logits(input, &mut cache);
            let next = sampler.sample(logits.map_err(LmError::model)?);
            for (window, token) in windows.iter_mut().zip(next) {
                window.push(token as i32);
            }
            progress(batch * seq_len + position, total)?;
        }
        tokens.extend(windows.into_iter().flatten());
        progress((batch + 1) * seq_len, total)?;
    }
    Ok(TokenWindows::new(tokens, seq_len))
}
