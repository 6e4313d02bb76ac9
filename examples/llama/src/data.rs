//! Token windows for training: where they come from and how Burn's loaders batch them.

use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::{Llama, TokenBatch};
use crate::sample::Sampler;
use crate::text::TokenWindows;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::store::{ModuleStore, SafetensorsStore, bridge};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use std::path::Path;
use std::sync::Arc;

/// The windows that a quantization run needs.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Block-AP trains on these.
    pub train: TokenWindows,
    /// Block-AP validates on these.
    pub valid: TokenWindows,
    /// E2E-QP trains on these.
    pub e2e: TokenWindows,
    /// Perplexity is measured on these.
    pub eval: TokenWindows,
}

/// How many windows of each kind are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// For Block-AP.
    pub train: usize,
    /// For its validation.
    pub valid: usize,
    /// For E2E-QP.
    pub e2e: usize,
}

impl Calibration {
    /// Reads the tensors `calib`, `val`, `e2e` and `eval`, each i32 `[samples, seq_len]`, and takes as
    /// many of the first three as asked for, from their start.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, not of that form or too short, or a token is not in the vocabulary.
    pub fn from_tokens(path: &Path, sizes: Sizes, vocab_size: usize) -> Result<Self, Error> {
        let read = |name: &str, wanted: Option<usize>| -> Result<TokenWindows, Error> {
            if wanted == Some(0) {
                return Ok(TokenWindows::new(Vec::new(), 2));
            }
            let windows = read_tokens(path, name, vocab_size)?;
            match wanted {
                Some(wanted) if wanted > windows.len() => {
                    let found = windows.len();
                    let message = format!("{name} has {found} windows, expected {wanted} or more");
                    Err(Error::input(path, message))
                }
                Some(wanted) => Ok(windows.range(0..wanted)),
                None => Ok(windows),
            }
        };
        Ok(Self {
            train: read("calib", Some(sizes.train))?,
            valid: read("val", Some(sizes.valid))?,
            e2e: read("e2e", Some(sizes.e2e))?,
            eval: read("eval", None)?,
        })
    }

    /// Deals windows out at random: evaluation first (a tenth, at most 128), then validation (at most
    /// a tenth), then Block-AP's; E2E-QP trains on what is left and, where that is not enough, on
    /// Block-AP's too. Where there are fewer windows than asked for, each kind gets fewer.
    ///
    /// # Errors
    ///
    /// When there is not a window for evaluation and one for training.
    pub fn deal(
        windows: &TokenWindows,
        sizes: Sizes,
        seed: u64,
        source: &Path,
    ) -> Result<Self, Error> {
        let mut order: Vec<usize> = (0..windows.len()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        let pick = |indices: &[usize]| {
            let tokens = indices
                .iter()
                .flat_map(|index| windows.window(*index).iter().copied())
                .collect();
            TokenWindows::new(tokens, windows.seq_len())
        };
        let eval = windows.len().div_ceil(10).min(128);
        let valid = sizes.valid.min(windows.len() / 10);
        let train = sizes.train.min(windows.len().saturating_sub(eval + valid));
        if train == 0 {
            let (found, seq_len) = (windows.len(), windows.seq_len());
            let message = format!("holds {found} windows of {seq_len} tokens, expected more");
            return Err(Error::input(source, message));
        }
        let (eval, rest) = order.split_at(eval);
        let (valid, rest) = rest.split_at(valid);
        // Fresh windows first, then those of Block-AP again.
        let mut e2e: Vec<usize> = rest[train..].to_vec();
        e2e.extend_from_slice(&rest[..train]);
        e2e.truncate(sizes.e2e);
        Ok(Self {
            train: pick(&rest[..train]),
            valid: pick(valid),
            e2e: pick(&e2e),
            eval: pick(eval),
        })
    }
}

/// Reads one tensor of tokens, i32 `[samples, seq_len]`.
///
/// # Errors
///
/// When it is missing or not of that form, or a token is not in the vocabulary.
pub fn read_tokens(path: &Path, name: &str, vocab_size: usize) -> Result<TokenWindows, Error> {
    std::fs::File::open(path).map_err(Error::read(path))?;
    let mut store = SafetensorsStore::from_file(path);
    let tensor = store
        .get_tensor(name)
        .map_err(|error| Error::input(path, format!("not a safetensors file: {error}")))?
        .ok_or_else(|| Error::input(path, format!("tensor {name}: missing")))?;
    let shape = tensor.shape.as_slice().to_vec();
    let [_, seq_len] = shape[..] else {
        let message = format!("tensor {name}: has shape {shape:?}, expected [samples, seq_len]");
        return Err(Error::input(path, message));
    };
    if tensor.dtype != DType::I32 || seq_len < 2 {
        let dtype = tensor.dtype;
        let message =
            format!("tensor {name}: holds {dtype:?} {shape:?}, expected i32 of 2 tokens or more");
        return Err(Error::input(path, message));
    }
    let data = bridge::to_data(tensor)
        .map_err(|error| Error::input(path, format!("tensor {name}: {error:?}")))?;
    let windows = TokenWindows::new(data.iter::<i32>().collect(), seq_len);
    if windows.is_empty() {
        return Err(Error::input(
            path,
            format!("tensor {name}: holds no window"),
        ));
    }
    let source = format!("{}: tensor {name}", path.display());
    windows.check_vocabulary(vocab_size, &source)?;
    Ok(windows)
}

/// Has a model write windows of text itself, at temperature 1, each from the begin token on: what it
/// was trained on, as far as it remembers. `progress` hears of each token of each batch.
///
/// # Errors
///
/// When `progress` says to stop.
pub fn sample_windows(
    loaded: &LoadedLlama,
    count: usize,
    seq_len: usize,
    seed: u64,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), Error>,
) -> Result<TokenWindows, Error> {
    const BATCH: usize = 64;
    let config = &loaded.config;
    let begin = config.bos_token_id.or(config.end_token()).unwrap_or(0) as i32;
    let mut sampler = Sampler::new(1.0, 1.0, seed);
    let mut tokens = Vec::with_capacity(count * seq_len);
    let total = count.div_ceil(BATCH) * seq_len;
    let mut done = 0;
    while tokens.len() < count * seq_len {
        let rows = BATCH.min(count - tokens.len() / seq_len);
        let mut windows = vec![vec![begin]; rows];
        let mut cache = loaded.model.new_cache();
        for _ in 1..seq_len {
            let last: Vec<i32> = windows
                .iter()
                .map(|window| window[window.len() - 1])
                .collect();
            let input = Tensor::<2, Int>::from_data(TensorData::new(last, [rows, 1]), device);
            let logits = loaded.model.forward_cached(input, &mut cache);
            for (window, token) in windows.iter_mut().zip(sampler.sample(logits)) {
                window.push(token as i32);
            }
            done += 1;
            progress(done, total)?;
        }
        done += 1;
        tokens.extend(windows.into_iter().flatten());
    }
    Ok(TokenWindows::new(tokens, seq_len))
}

/// A loader of windows for Burn's training; shuffled anew each epoch where a seed is given.
pub fn loader(
    windows: &TokenWindows,
    batch_size: usize,
    shuffle: Option<u64>,
    device: &Device,
) -> Arc<dyn DataLoader<TokenBatch>> {
    struct Windows;
    impl Batcher<Vec<i32>, TokenBatch> for Windows {
        fn batch(&self, items: Vec<Vec<i32>>, device: &Device) -> TokenBatch {
            let shape = [items.len(), items.first().map_or(0, Vec::len)];
            let data = TensorData::new(items.concat(), shape);
            TokenBatch {
                tokens: Tensor::<2, Int>::from_data(data, device),
            }
        }
    }
    let items = (0..windows.len())
        .map(|index| windows.window(index).to_vec())
        .collect();
    let builder = DataLoaderBuilder::new(Windows)
        .batch_size(batch_size.clamp(1, windows.len().max(1)))
        .set_device(device.clone());
    match shuffle {
        Some(seed) => builder.shuffle(seed),
        None => builder,
    }
    .build(InMemDataset::new(items))
}

/// Perplexity of windows: the exponential of the mean cross-entropy of their `seq_len - 1` predicted
/// positions.
///
/// # Errors
///
/// When `progress`, which hears of each batch, says to stop.
pub fn perplexity(
    model: &Llama,
    windows: &TokenWindows,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), Error>,
) -> Result<f64, Error> {
    const BATCH: usize = 8;
    /// Values of hidden states that are kept at a time where blocks are read for each run.
    const HIDDEN: usize = 1 << 25;
    let batches = windows.batches(BATCH, device);
    let width = model.model.norm.gamma.val().dims()[0];
    let in_a_batch = BATCH * windows.seq_len() * width;
    let run = match model.streams() {
        true => (HIDDEN / in_a_batch.max(1)).max(1),
        false => 1,
    };
    let (mut sum, mut windows, mut done) = (0.0, 0, 0);
    for run in batches.chunks(run) {
        let embedded = run.iter().map(|batch| model.embed(batch.tokens.clone()));
        let mut hidden: Vec<Tensor<3>> = embedded.collect();
        for index in 0..model.blocks() {
            model.with_block(index, |block| {
                for hidden in &mut hidden {
                    *hidden = block.forward(hidden.clone(), &model.rope, None);
                }
            });
        }
        for (batch, hidden) in run.iter().zip(hidden) {
            let [rows, _] = batch.tokens.dims();
            let loss = model.loss_behind(hidden, batch.tokens.clone());
            sum += loss.into_scalar::<f64>() * rows as f64;
            windows += rows;
            done += 1;
            progress(done, batches.len())?;
        }
    }
    Ok((sum / windows as f64).exp())
}
