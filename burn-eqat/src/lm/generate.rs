use super::{LmError, ModelError, Sampler};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::time::Instant;

/// A decoder that is asked for the next token, position after position: what [`generate`] asks for.
pub trait NextTokenLogits {
    /// What is kept of the positions that were seen: a [`KvCache`](super::KvCache) for each block, say, or
    /// the tokens themselves.
    type Cache;

    /// A cache that holds no position.
    fn new_cache(&self) -> Self::Cache;

    /// Logits behind the last of the new tokens. The cache holds what came before them and takes them in.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[batch, new]`
    /// - output: `[batch, vocab]`
    ///
    /// # Errors
    ///
    /// When the model cannot be run, as its files have changed, say.
    fn next_token_logits(
        &self,
        tokens: Tensor<2, Int>,
        cache: &mut Self::Cache,
    ) -> Result<Tensor<2>, ModelError>;
}

/// Where [`generate`] ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationLimits {
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// Positions that the model has, the prompt's among them.
    pub max_positions: usize,
    /// The EOS tokens: each of them ends the text, and is no part of it.
    pub eos: Vec<u32>,
}

/// What [`generate`] wrote, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The new tokens, without EOS.
    pub tokens: Vec<u32>,
    /// How many tokens were sampled: EOS counts.
    pub sampled: usize,
    /// Sampled tokens a second; the prompt does not count.
    pub tokens_per_second: f64,
}

/// Continues a prompt until the model ends the text or a limit is reached. `on_token` gets each new token and
/// may stop with an error.
///
/// # Errors
///
/// When the prompt is empty or too long, the model fails, or `on_token` says to stop.
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
