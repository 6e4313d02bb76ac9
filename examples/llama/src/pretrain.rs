//! Trains a small Llama from scratch, like the bundled model.

use crate::bpe::train_tokenizer;
use crate::error::Error;
use crate::model::Llama;
use crate::{LlamaConfig, TokenIds};
use burn::config::Config;
use burn::module::{Module, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Device;
use burn_eqat::lm::{TokenBatch, TokenWindows, encode_windows, next_token_loss};
use burn_eqat::train::{CosineSchedule, clip_grad_norm};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokenizers::Tokenizer;

/// Settings to train a small Llama.
#[derive(Config, Debug)]
pub struct PretrainConfig {
    /// Tokens in the vocabulary.
    #[config(default = 1024)]
    pub vocab_size: usize,
    /// Width of the hidden state.
    #[config(default = 128)]
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    #[config(default = 384)]
    pub intermediate_size: usize,
    /// Decoder blocks.
    #[config(default = 6)]
    pub layers: usize,
    /// Query heads.
    #[config(default = 4)]
    pub heads: usize,
    /// Key and value heads.
    #[config(default = 2)]
    pub kv_heads: usize,
    /// Longest sequence.
    #[config(default = 512)]
    pub max_positions: usize,
    /// Tokens of a window.
    #[config(default = 256)]
    pub seq_len: usize,
    /// Windows of a step.
    #[config(default = 16)]
    pub batch_size: usize,
    /// Passes over the text.
    #[config(default = 10)]
    pub epochs: usize,
    /// Highest learning rate, after 5 % of warm-up. It falls to a tenth along a cosine.
    #[config(default = 2e-3)]
    pub learning_rate: f64,
    /// Weight decay of the matrices.
    #[config(default = 0.1)]
    pub weight_decay: f32,
    /// Seed of the weights and of the order of the windows.
    #[config(default = 42)]
    pub seed: u64,
}

impl PretrainConfig {
    /// The shape of the model.
    pub fn model(&self) -> LlamaConfig {
        LlamaConfig {
            model_type: "llama".into(),
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: Some(self.kv_heads),
            head_dim: Some(self.hidden_size / self.heads.max(1)),
            hidden_act: "silu".into(),
            max_position_embeddings: self.max_positions,
            rms_norm_eps: 1e-5,
            rope_theta: 10000.0,
            rope_scaling: None,
            rope_parameters: None,
            tie_word_embeddings: true,
            attention_bias: false,
            mlp_bias: false,
            sliding_window: None,
            use_sliding_window: None,
            max_window_layers: None,
            layer_types: None,
            bos_token_id: Some(0),
            eos_token_id: Some(TokenIds::One(1)),
        }
    }
}

/// The argument of [`pretrain`]'s callback, after each step.
pub struct PretrainStep<'a> {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Loss of the step, in nats a token.
    pub loss: f64,
    /// The model, at the end of each epoch.
    pub finished_epoch: Option<&'a Llama>,
}

/// Trains a tokenizer and a model on documents.
///
/// # Errors
///
/// When the text is too short for a batch of windows, or `progress` returns an error.
pub fn pretrain(
    config: &PretrainConfig,
    documents: &[String],
    device: &Device,
    mut progress: impl FnMut(PretrainStep<'_>, &Tokenizer) -> Result<(), Error>,
) -> Result<(Llama, Tokenizer), Error> {
    let shape = config.model();
    shape
        .check()
        .map_err(|error| Error::Setting(error.to_string()))?;
    for (name, value, least) in [
        ("the batch size", config.batch_size, 1),
        ("the number of epochs", config.epochs, 1),
        ("the window", config.seq_len, 2),
    ] {
        if value < least {
            let message = format!("{name} is {value}, expected {least} or more");
            return Err(Error::Setting(message));
        }
    }
    if config.seq_len > config.max_positions {
        let (seq_len, limit) = (config.seq_len, config.max_positions);
        let message = format!("windows of {seq_len} tokens, expected at most {limit}");
        return Err(Error::Setting(message));
    }
    let tokenizer = train_tokenizer(documents, config.vocab_size)?;
    let mut rng = StdRng::seed_from_u64(config.seed);
    let windows = encode_windows(
        &tokenizer,
        documents,
        shape.special_tokens(),
        config.seq_len,
    )?;
    // Each epoch cuts the text at a new place, which costs a window.
    let steps_per_epoch = windows.len().saturating_sub(1) / config.batch_size;
    if steps_per_epoch == 0 {
        return Err(Error::Setting(format!(
            "the text has {} windows of {} tokens, expected more than a batch of {}",
            windows.len(),
            config.seq_len,
            config.batch_size
        )));
    }
    let steps = steps_per_epoch * config.epochs;

    let device = device.clone().autodiff();
    device.seed(config.seed);
    let mut model = shape.init(&device);
    let adamw = AdamWConfig::new()
        .with_beta_2(0.95)
        .with_epsilon(1e-8)
        .with_weight_decay(config.weight_decay);
    let no_decay = adamw.clone().with_weight_decay(0.0);
    let mut optim =
        adamw
            .init()
            .with_group(ParamGroup::from_predicate("norm"), no_decay.build(), None);

    let schedule = CosineSchedule::new(config.learning_rate, 0.1, (steps / 20).max(1), steps);
    let mut step = 0;
    for _ in 0..config.epochs {
        for batch in epoch(&windows, config.batch_size, &mut rng, &device) {
            let logits = model.forward(batch.tokens.clone())?;
            let loss = next_token_loss(logits, batch.tokens);
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            let (grads, _) = clip_grad_norm(&model, grads, 1.0);
            model = optim.step(schedule.at(step), model, grads);
            step += 1;
            let report = PretrainStep {
                step,
                steps,
                loss: loss.into_scalar(),
                finished_epoch: None,
            };
            progress(report, &tokenizer)?;
        }
        let report = PretrainStep {
            step,
            steps,
            loss: f64::NAN,
            finished_epoch: Some(&model.valid()),
        };
        progress(report, &tokenizer)?;
    }
    Ok((model.valid(), tokenizer))
}

/// The windows in a new order, split at a new offset.
fn epoch(
    windows: &TokenWindows,
    batch_size: usize,
    rng: &mut StdRng,
    device: &Device,
) -> Vec<TokenBatch> {
    let seq_len = windows.seq_len();
    let shift = rng.random_range(0..seq_len);
    let mut order: Vec<&[i32]> = windows.tokens()[shift..].chunks_exact(seq_len).collect();
    order.shuffle(rng);
    order
        .chunks_exact(batch_size)
        .map(|batch| TokenBatch::new(batch.concat(), seq_len, device))
        .collect()
}
