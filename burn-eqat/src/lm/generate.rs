use super::{LmError, ModelError, Sampler};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::time::Instant;

/// A decoder that predicts the next token, position by position, for [`generate`].
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_eqat::lm::{ModelError, NextTokenLogits};
///
/// /// After a token comes the next number.
/// struct Counts;
///
/// impl NextTokenLogits for Counts {
///     type Cache = ();
///
///     fn new_cache(&self) {}
///
///     fn next_token_logits(&self, tokens: Tensor<2, Int>, _: &mut ()) -> Result<Tensor<2>, ModelError> {
///         let [batch, new] = tokens.dims();
///         let last = tokens.slice_dim(1, new - 1..new).reshape([batch]);
///         Ok((last + 1).one_hot::<2>(10).float())
///     }
/// }
///
/// let tokens = Tensor::<2, Int>::from_data([[1, 2, 3]], &Device::flex());
/// let logits = Counts.next_token_logits(tokens, &mut ())?;
/// assert_eq!(logits.argmax(1).into_scalar::<i32>(), 4);
/// # Ok::<(), ModelError>(())
/// ```
pub trait NextTokenLogits {
    /// The state of the earlier positions: for example a [`KvCache`](super::KvCache) for each block, or the
    /// tokens themselves.
    type Cache;

    /// An empty cache.
    fn new_cache(&self) -> Self::Cache;

    /// Logits after the last of the new tokens. The cache has the earlier positions, and the new ones are added
    /// to it.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, new]`
    /// - output: `[batch, vocab]`
    ///
    /// # Errors
    ///
    /// When the model cannot run, for example because its files have changed.
    fn next_token_logits(
        &self,
        tokens: Tensor<2, Int>,
        cache: &mut Self::Cache,
    ) -> Result<Tensor<2>, ModelError>;

    /// The windows of `seq_len` tokens that [`sample_windows`](super::sample_windows) writes at a time: 64 unless the model
    /// says how many of its caches fit in memory. Another number writes other windows from the same seed.
    fn windows_at_a_time(&self, seq_len: usize) -> usize {
        let _ = seq_len;
        64
    }
}

/// Where [`generate`] ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationLimits {
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// The positions of the model, including those of the prompt.
    pub max_positions: usize,
    /// The EOS tokens. Each of them ends the text, and is not part of it.
    pub eos: Vec<u32>,
}

/// The result of [`generate`], and its speed.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The new tokens, without EOS.
    pub tokens: Vec<u32>,
    /// The number of sampled tokens, including EOS.
    pub sampled: usize,
    /// Sampled tokens per second, without the prompt.
    pub tokens_per_second: f64,
}

/// Continues a prompt until the model ends the text or a limit is reached. The callback `on_token` gets each new
/// token, and may stop with an error.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::lm::{GenerationLimits, Sampler, generate};
/// # use burn::tensor::{Int, Tensor};
/// # use burn_eqat::lm::{ModelError, NextTokenLogits};
/// # /// After a token comes the next number.
/// # struct Counts;
/// #
/// # impl NextTokenLogits for Counts {
/// #     type Cache = ();
/// #
/// #     fn new_cache(&self) {}
/// #
/// #     fn next_token_logits(&self, tokens: Tensor<2, Int>, _: &mut ()) -> Result<Tensor<2>, ModelError> {
/// #         let [batch, new] = tokens.dims();
/// #         let last = tokens.slice_dim(1, new - 1..new).reshape([batch]);
/// #         Ok((last + 1).one_hot::<2>(10).float())
/// #     }
/// # }
///
/// // `Counts` implements `NextTokenLogits`: after a token comes the next number.
/// let limits = GenerationLimits { max_new_tokens: 20, max_positions: 64, eos: vec![7] };
/// let mut sampler = Sampler::new(0.0, 1.0, 42);
/// let device = Device::flex();
/// let text = generate(&Counts, &[2, 3], &limits, &mut sampler, &device, &mut |token| {
///     println!("{token}");
///     Ok(())
/// })?;
/// assert_eq!((text.tokens, text.sampled), (vec![4, 5, 6], 4));
/// # Ok::<(), burn_eqat::lm::LmError>(())
/// ```
///
/// # Errors
///
/// When the prompt is empty or too long, the model fails, or `on_token` returns an error.
pub fn generate<M: NextTokenLogits>(
    model: &M,
    prompt: &[u32],
    limits: &GenerationLimits,
    sampler: &mut Sampler,
    device: &Device,
    on_token: &mut dyn FnMut(u32) -> Result<(), LmError>,
) -> Result<Generated, LmError> {
    let limit = limits.max_positions;
    if prompt.is_empty() || prompt.len() > limit {
        let tokens = prompt.len();
        return Err(LmError::Prompt { tokens, limit });
    }
    let mut cache = model.new_cache();
    let mut forward = |tokens: &[u32]| {
        let tokens: Vec<i32> = tokens.iter().map(|id| *id as i32).collect();
        let shape = [1, tokens.len()];
        let input = Tensor::from_data(TensorData::new(tokens, shape), device);
        let logits = model.next_token_logits(input, &mut cache);
        logits.map_err(LmError::model)
    };
    let mut logits = forward(prompt)?;
    let start = Instant::now();
    let (mut tokens, mut sampled) = (Vec::new(), 0);
    while sampled < limits.max_new_tokens && prompt.len() + tokens.len() < limit {
        let token = sampler.sample(logits)[0];
        sampled += 1;
        if limits.eos.contains(&token) {
            break;
        }
        tokens.push(token);
        on_token(token)?;
        logits = forward(&[token])?;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Generated {
        tokens,
        sampled,
        tokens_per_second: sampled as f64 / seconds.max(1e-9),
    })
}
