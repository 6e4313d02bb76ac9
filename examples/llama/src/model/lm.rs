//! A Llama as a language model: loss and generation.

use super::{Llama, LlamaError};
use burn::tensor::{Int, Tensor};
use burn_eqat::ComputeType;
use burn_eqat::lm::{
    KvCache, ModelError, NextTokenLogits, NextTokenLoss, TokenBatch, answer_loss,
    frozen_head_answer_loss, frozen_head_loss, next_token_loss,
};

impl Llama {
    /// The next-token loss of a batch from the output of the last block, `[batch, seq, hidden]`.
    pub(super) fn loss_behind(&self, hidden: Tensor<3>, batch: TokenBatch) -> Tensor<1> {
        let TokenBatch { tokens, answers } = batch;
        if hidden.is_autodiff() && self.head_trains() {
            let logits = self.head(hidden);
            return match answers {
                Some(answers) => answer_loss(logits, tokens, answers),
                None => next_token_loss(logits, tokens),
            };
        }
        let (hidden, head) = (self.last_norm(hidden), self.head_weight());
        match answers {
            Some(answers) => frozen_head_answer_loss(hidden, head, tokens, answers),
            None => frozen_head_loss(hidden, head, tokens),
        }
    }
}

impl NextTokenLoss for Llama {
    fn loss(&self, batch: TokenBatch) -> Result<Tensor<1>, ModelError> {
        let hidden = self.decode(batch.tokens.clone());
        let hidden = hidden.map_err(LlamaError::into_model)?;
        Ok(self.loss_behind(hidden, batch))
    }
}

impl NextTokenLogits for Llama {
    type Cache = Vec<KvCache>;

    fn new_cache(&self) -> Vec<KvCache> {
        Llama::new_cache(self)
    }

    fn next_token_logits(
        &self,
        tokens: Tensor<2, Int>,
        cache: &mut Vec<KvCache>,
    ) -> Result<Tensor<2>, ModelError> {
        self.forward_cached(tokens, cache)
            .map_err(LlamaError::into_model)
    }

    fn windows_at_a_time(&self, seq_len: usize) -> usize {
        // Blocks are alike. A block that cannot be read is an error of the first token.
        let values = self.with_block(0, |block| block.self_attn.cached_values());
        windows_that_fit(
            values.unwrap_or(0) * self.blocks(),
            seq_len,
            self.compute_type(),
        )
    }
}

/// The windows whose keys and values, so many values a position, take at most 8 GB; 64 at most.
fn windows_that_fit(values: usize, seq_len: usize, compute: ComputeType) -> usize {
    const BYTES: usize = 8_000_000_000;
    // Appending to a cache writes it anew beside the old one.
    let window = 2 * values * seq_len * compute.dtype().size();
    (BYTES / window.max(1)).clamp(1, 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_at_a_time_fit_in_memory() {
        // 32 blocks of 32 heads of 128 values, keys and values: 1 GB a window.
        let llama_7b = 32 * 2 * 4096;
        assert_eq!(windows_that_fit(llama_7b, 2048, ComputeType::Bf16), 3);
        assert_eq!(windows_that_fit(llama_7b, 2048, ComputeType::F32), 1);
        assert_eq!(windows_that_fit(llama_7b, 1 << 20, ComputeType::F32), 1);
        assert_eq!(windows_that_fit(2 * 5 * 64, 128, ComputeType::F32), 64);
        assert_eq!(windows_that_fit(0, 128, ComputeType::F32), 64);
    }
}
