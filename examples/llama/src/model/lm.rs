//! A Llama as a language model: loss and generation.

use super::{Llama, LlamaError};
use burn::tensor::{Int, Tensor};
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
}
