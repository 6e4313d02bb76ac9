use super::{LmError, NextTokenLoss, TokenBatch, TokenWindows};
use crate::train::{Blockwise, CacheConfig, StateCache, TrainError, with_block};
use burn::tensor::Device;

/// Windows of a batch.
const BATCH: usize = 8;

/// Perplexity of a model on windows: the exponential of the mean cross-entropy of the `seq_len - 1` predicted
/// positions of each window. The callback `progress` gets the number of batches done and in all, and may stop with
/// an error, such as [`LmError::Interrupted`].
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::lm::{TokenWindows, perplexity};
/// # use burn::tensor::Tensor;
/// # use burn_eqat::lm::{ModelError, NextTokenLoss, TokenBatch, next_token_loss};
/// # /// Ten tokens, all of them as likely as another.
/// # struct Uniform;
/// #
/// # impl NextTokenLoss for Uniform {
/// #     fn loss(&self, batch: TokenBatch) -> Result<Tensor<1>, ModelError> {
/// #         let [windows, seq_len] = batch.tokens.dims();
/// #         let logits = Tensor::zeros([windows, seq_len, 10], &batch.tokens.device());
/// #         Ok(next_token_loss(logits, batch.tokens))
/// #     }
/// # }
///
/// // `Uniform` implements `NextTokenLoss`; all of its ten tokens are as likely.
/// let windows = TokenWindows::new((0..400).map(|i| i % 10).collect(), 8);
/// let device = Device::flex();
/// let perplexity = perplexity(&Uniform, &windows, &device, &mut |_done, _total| Ok(()))?;
/// assert!((perplexity - 10.0).abs() < 1e-3);
/// # Ok::<(), burn_eqat::lm::LmError>(())
/// ```
///
/// # Errors
///
/// When the windows are too short for a prediction, the model fails, or `progress` returns an error.
pub fn perplexity<M: NextTokenLoss>(
    model: &M,
    windows: &TokenWindows,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
) -> Result<f64, LmError> {
    check_windows(windows)?;
    let batches = windows.batches(BATCH, device);
    let (mut sum, total) = (0.0, batches.len());
    for (done, batch) in batches.into_iter().enumerate() {
        let [rows, _] = batch.tokens.dims();
        let loss = model.loss(batch).map_err(LmError::model)?;
        sum += loss.into_scalar::<f64>() * rows as f64;
        progress(done + 1, total)?;
    }
    Ok((sum / windows.len() as f64).exp())
}

/// [`perplexity`] of a model whose blocks are in files, by its [`Blockwise::output_loss`]: each block is loaded once, and all
/// windows go through it. Their hidden states are kept where `cache` says, and not rounded there. `progress` counts every batch
/// once for each block and once for the loss.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::lm::{TokenWindows, perplexity_by_block};
/// use burn_eqat::train::CacheConfig;
/// # use burn::module::Module;
/// # use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
/// # use burn::tensor::Tensor;
/// # use burn_eqat::lm::{TokenBatch, next_token_loss};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// # #[derive(Module, Debug)]
/// # struct Model { tokens: Embedding, layer: Linear }
/// # impl Blockwise for Model {
/// #     type Batch = TokenBatch;
/// #     type Hidden = Tensor<3>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { vec!["layer".to_string()] }
/// #     fn embed(&self, batch: TokenBatch) -> Result<(Tensor<3>, ()), ModelError> { Ok((self.tokens.forward(batch.tokens), ())) }
/// #     fn run_block(&self, _: usize, x: Tensor<3>, _: &()) -> Result<Tensor<3>, ModelError> { Ok(self.layer.forward(x)) }
/// #     fn output_loss(&self, logits: Tensor<3>, _: &(), batch: TokenBatch) -> Result<Tensor<1>, ModelError> {
/// #         Ok(next_token_loss(logits, batch.tokens))
/// #     }
/// # }
///
/// let device = Device::flex();
/// # let model = Model { tokens: EmbeddingConfig::new(10, 8).init(&device), layer: LinearConfig::new(8, 10).init(&device) };
/// // `model` implements `Blockwise` with an `output_loss`.
/// let windows = TokenWindows::new((0..400).map(|i| i % 10).collect(), 8);
/// let cache = CacheConfig::new().with_memory(Some(1_000_000_000));
/// let perplexity = perplexity_by_block(&model, &windows, &device, &cache, &mut |_done, _total| Ok(()))?;
/// assert!(perplexity > 1.0);
/// # Ok::<(), burn_eqat::lm::LmError>(())
/// ```
///
/// # Errors
///
/// As [`perplexity`]. Also when a block cannot be loaded, or hidden states cannot be kept on disk.
pub fn perplexity_by_block<M: Blockwise<Batch = TokenBatch>>(
    model: &M,
    windows: &TokenWindows,
    device: &Device,
    cache: &CacheConfig,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), LmError>,
) -> Result<f64, LmError> {
    check_windows(windows)?;
    let batches = windows.batches(BATCH, device);
    let blocks = model.blocks().len();
    let (mut done, total) = (0, (blocks + 1) * batches.len());
    let mut step = || {
        done += 1;
        // What stops it goes through the model's own errors.
        progress(done, total).map_err(|error| TrainError::Callback(error.into()))
    };
    let mut states = StateCache::<M>::new(cache, device);
    for batch in &batches {
        let (hidden, context) = model.embed(batch.clone()).map_err(LmError::model)?;
        states
            .push(hidden, context, batches.len())
            .map_err(from_train)?;
    }
    for index in 0..blocks {
        let loaded = with_block(model, index).map_err(from_train)?;
        let advanced = states.advance(|hidden, context| {
            let hidden = loaded.run_block(index, hidden, context);
            step()?;
            hidden.map_err(TrainError::Model)
        });
        advanced.map_err(from_train)?;
    }
    let (mut sum, mut batches) = (0.0, batches.into_iter());
    let summed = states.for_each(|hidden, context| {
        let Some(batch) = batches.next() else {
            return Ok(());
        };
        let [rows, _] = batch.tokens.dims();
        let loss = model.output_loss(hidden, context, batch);
        sum += loss.map_err(TrainError::Model)?.into_scalar::<f64>() * rows as f64;
        step()
    });
    summed.map_err(from_train)?;
    Ok((sum / windows.len() as f64).exp())
}

/// Fails for windows without anything to predict.
fn check_windows(windows: &TokenWindows) -> Result<(), LmError> {
    let seq_len = windows.seq_len();
    if windows.is_empty() {
        return Err(LmError::TooFewWindows {
            found: 0,
            seq_len,
            expected: 1,
        });
    }
    if seq_len < 2 {
        return Err(LmError::ShortWindows { seq_len });
    }
    Ok(())
}

fn from_train(error: TrainError) -> LmError {
    match error {
        TrainError::Model(error) | TrainError::Callback(error) => LmError::model(error),
        error => LmError::model(error.into()),
    }
}
