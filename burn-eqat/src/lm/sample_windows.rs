use super::{LmError, NextTokenLogits, Sampler, TokenWindows};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Lets a model generate its own text of `shape` (windows, tokens per window), at temperature 1, each window
/// starting with `bos`. Such text resembles the model's training data. The callback `progress` gets the number of
/// tokens done and in all, and may stop with an error.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::lm::sample_windows;
/// # use burn::tensor::{Int, Tensor};
/// # use burn_eqat::lm::{ModelError, NextTokenLogits};
/// # struct Model;
/// # impl NextTokenLogits for Model {
/// #     type Cache = ();
/// #     fn new_cache(&self) {}
/// #     fn next_token_logits(&self, tokens: Tensor<2, Int>, _: &mut ()) -> Result<Tensor<2>, ModelError> {
/// #         Ok(Tensor::zeros([tokens.dims()[0], 10], &tokens.device()))
/// #     }
/// # }
/// # let model = Model;
///
/// // Eight windows of 16 tokens; `model` implements `NextTokenLogits`.
/// let device = Device::flex();
/// let windows = sample_windows(&model, 1, [8, 16], 42, &device, &mut |done, total| {
///     println!("{done} of {total}");
///     Ok(())
/// })?;
/// assert_eq!((windows.len(), windows.window(3)[0]), (8, 1));
/// # Ok::<(), burn_eqat::lm::LmError>(())
/// ```
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
    let none = TokenWindows::new(Vec::new(), shape[1]);
    sample_more_windows(model, bos, shape, seed, device, none, progress, &mut |_| {
        Ok(())
    })
}

/// [`sample_windows`] that goes on behind the first windows of it, and ends with the same ones. `keep` gets the windows there
/// are by then, each time that some more are finished; those of the last time are what to begin with after a stop.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::lm::{TokenWindows, sample_more_windows, sample_windows};
/// # use burn::tensor::{Int, Tensor};
/// # use burn_eqat::lm::{ModelError, NextTokenLogits};
/// # struct Model;
/// # impl NextTokenLogits for Model {
/// #     type Cache = ();
/// #     fn new_cache(&self) {}
/// #     fn next_token_logits(&self, tokens: Tensor<2, Int>, _: &mut ()) -> Result<Tensor<2>, ModelError> {
/// #         Ok(Tensor::zeros([tokens.dims()[0], 10], &tokens.device()))
/// #     }
/// # }
/// # let model = Model;
///
/// let (device, shape, seed) = (Device::flex(), [100, 4], 42);
/// let whole = sample_windows(&model, 1, shape, seed, &device, &mut |_, _| Ok(()))?;
/// // A run that was stopped had kept the first 64.
/// let begun = whole.range(0..64);
/// let mut kept = TokenWindows::new(Vec::new(), 4);
/// let again = sample_more_windows(&model, 1, shape, seed, &device, begun, &mut |_, _| Ok(()), &mut |windows| {
///     kept = windows.clone();
///     Ok(())
/// })?;
/// assert!(again == whole && kept == whole);
/// # Ok::<(), burn_eqat::lm::LmError>(())
/// ```
///
/// # Errors
///
/// As [`sample_windows`], when `begun` has windows of another length, and when `keep` returns an error.
#[expect(
    clippy::too_many_arguments,
    reason = "those of sample_windows and two more"
)]
pub fn sample_more_windows<M: NextTokenLogits>(
    model: &M,
    bos: u32,
    shape: [usize; 2],
    seed: u64,
    device: &Device,
    begun: TokenWindows,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
    keep: &mut dyn FnMut(&TokenWindows) -> Result<(), LmError>,
) -> Result<TokenWindows, LmError> {
    let [count, seq_len] = shape;
    if !begun.is_empty() && begun.seq_len() != seq_len {
        let found = begun.seq_len();
        let message = format!("goes on with windows of {found} tokens, expected {seq_len}");
        return Err(LmError::Model(message.into()));
    }
    let at_a_time = model.windows_at_a_time(seq_len).max(1);
    // Whole batches of it, as the others are made together.
    let begun = begun.range(0..begun.len().min(count) / at_a_time * at_a_time);
    let mut sampler = Sampler::new(1.0, 1.0, seed);
    sampler.skip(begun.len() * seq_len.saturating_sub(1));
    let first_new = begun.len();
    let mut tokens = begun.tokens().to_vec();
    let total = count.div_ceil(at_a_time) * seq_len;
    for first in (first_new..count).step_by(at_a_time) {
        let batch = first / at_a_time;
        let rows = at_a_time.min(count - first);
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
        keep(&TokenWindows::new(tokens.clone(), seq_len))?;
    }
    Ok(TokenWindows::new(tokens, seq_len))
}
