//! Answers to questions, many at a time.

use super::{Multimodal, MultimodalError};
use crate::front::Media;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_eqat::lm::Sampler;

/// Where an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerLimits {
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// The decoder's positions.
    pub max_positions: usize,
    /// Each of these tokens ends an answer, and is not part of it.
    pub eos: Vec<u32>,
}

impl Multimodal {
    /// Answers prompts of the same length. Each has a token in the place of each feature of its media.
    ///
    /// # Errors
    ///
    /// When the prompts are longer than the decoder's positions, or as [`forward`](Self::forward).
    pub fn answer(
        &self,
        media: Media,
        prompts: &[Vec<u32>],
        limits: &AnswerLimits,
        sampler: &mut Sampler,
        device: &Device,
    ) -> Result<Vec<Vec<u32>>, MultimodalError> {
        let (batch, limit) = (prompts.len(), limits.max_positions);
        let tokens = prompts.first().map_or(0, Vec::len);
        let odd = prompts.iter().map(Vec::len).find(|other| *other != tokens);
        if let Some(tokens) = odd.or((tokens == 0 || tokens > limit).then_some(tokens)) {
            return Err(MultimodalError::Prompt { tokens, limit });
        }
        let tensor = |ids: Vec<u32>| -> Tensor<2, Int> {
            let seq = ids.len() / batch;
            let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
            Tensor::from_data(TensorData::new(ids, [batch, seq]), device)
        };
        let mut cache = self.language_model.new_cache();
        let hidden = self.embed(media, tensor(prompts.concat()))?;
        let mut logits = self
            .language_model
            .forward_embedded_cached(hidden, &mut cache)?;
        let mut answers = vec![Vec::new(); batch];
        let mut ended = vec![false; batch];
        for at in 0..limits.max_new_tokens {
            let next = sampler.sample(logits);
            for ((answer, ended), token) in answers.iter_mut().zip(&mut ended).zip(&next) {
                *ended |= limits.eos.contains(token);
                if !*ended {
                    answer.push(*token);
                }
            }
            // The new tokens take a position each.
            if ended.iter().all(|ended| *ended) || tokens + at >= limit {
                break;
            }
            logits = self
                .language_model
                .forward_cached(tensor(next), &mut cache)?;
        }
        Ok(answers)
    }
}
