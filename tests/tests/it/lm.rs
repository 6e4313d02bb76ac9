//! A decoder that is no Llama, from text to a packed model that writes: it shares nothing with the Llama but
//! what `burn_eqat::lm` has. And Llamas whose blocks stay in their files.

use burn::module::{Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use burn_eqat::lm::*;
use burn_eqat::train::{Blockwise, ModelError, QatOutput};
use burn_eqat::{
    EfficientQatConfig, QuantLinear, QuantLinearConfig, Quantize, Scheme, Stage, StageName, Weights,
};
use burn_eqat_tests::seeded;
use llama::LoadedLlama;
use std::fs;
use std::path::{Path, PathBuf};

const HEADS: usize = 2;
const WIDTH: usize = 32;
const POSITIONS: usize = 32;

/// A block of a GPT-2: LayerNorm, one layer for queries, keys and values, GELU.
#[derive(Module, Debug)]
struct Block {
    ln_1: LayerNorm,
    qkv: QuantLinear,
    proj: QuantLinear,
    ln_2: LayerNorm,
    up: QuantLinear,
    down: QuantLinear,
}

impl Block {
    fn new(device: &Device) -> Self {
        let norm = || LayerNormConfig::new(WIDTH).init(device);
        let linear = |d_input, d_output| QuantLinearConfig::new(d_input, d_output).init(device);
        Self {
            ln_1: norm(),
            qkv: linear(WIDTH, 3 * WIDTH),
            proj: linear(WIDTH, WIDTH),
            ln_2: norm(),
            up: linear(WIDTH, 4 * WIDTH),
            down: linear(4 * WIDTH, WIDTH),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, width] = x.dims();
        let heads = |part: Tensor<3>| {
            let part = part.reshape([batch, seq, HEADS, width / HEADS]);
            part.swap_dims(1, 2)
        };
        let qkv = self.qkv.forward(self.ln_1.forward(x.clone()));
        let mut qkv = qkv.chunk(3, 2).into_iter().map(heads);
        let (q, k, v) = (
            qkv.next().unwrap(),
            qkv.next().unwrap(),
            qkv.next().unwrap(),
        );
        let scores = q.matmul(k.transpose()) / ((width / HEADS) as f64).sqrt();
        let ahead = Tensor::<2, Bool>::tril_mask([seq, seq], 0, &x.device());
        let ahead = ahead.expand([batch, HEADS, seq, seq]);
        let attended = softmax(scores.mask_fill(ahead, f32::NEG_INFINITY), 3).matmul(v);
        let x = x + self
            .proj
            .forward(attended.swap_dims(1, 2).reshape([batch, seq, width]));
        let h = self.up.forward(self.ln_2.forward(x.clone()));
        x + self.down.forward(gelu(h))
    }
}

/// A GPT-2: learned positions, and an output layer that is the embedding, transposed.
#[derive(Module, Debug)]
struct Gpt {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Gpt {
    fn new(vocab_size: usize, device: &Device) -> Self {
        let embedding = |rows| {
            let std = Initializer::Normal {
                mean: 0.0,
                std: 0.1,
            };
            EmbeddingConfig::new(rows, WIDTH)
                .with_initializer(std)
                .init(device)
        };
        Self {
            tokens: embedding(vocab_size),
            positions: embedding(POSITIONS),
            blocks: (0..2).map(|_| Block::new(device)).collect(),
            norm: LayerNormConfig::new(WIDTH).init(device),
        }
    }

    fn decode(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, seq] = tokens.dims();
        let positions = Tensor::<1, Int>::arange(0..seq as i64, &tokens.device()).unsqueeze();
        let x = self.tokens.forward(tokens) + self.positions.forward(positions);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.norm.forward(x)
    }

    fn head(&self) -> Tensor<2> {
        self.tokens.weight.val().transpose()
    }

    fn step_output(&self, batch: TokenBatch) -> QatOutput {
        let [windows, seq] = batch.tokens.dims();
        QatOutput::next_token(self.loss(batch).unwrap(), windows * (seq - 1))
    }
}

impl NextTokenLoss for Gpt {
    fn loss(&self, batch: TokenBatch) -> Result<Tensor<1>, ModelError> {
        let hidden = self.decode(batch.tokens.clone());
        Ok(if self.tokens.weight.is_require_grad() {
            next_token_loss(hidden.matmul(self.head().unsqueeze()), batch.tokens)
        } else {
            frozen_head_loss(hidden, self.head(), batch.tokens)
        })
    }
}

impl NextTokenLogits for Gpt {
    /// The tokens so far: every position is run anew.
    type Cache = Option<Tensor<2, Int>>;

    fn new_cache(&self) -> Self::Cache {
        None
    }

    fn next_token_logits(
        &self,
        tokens: Tensor<2, Int>,
        cache: &mut Self::Cache,
    ) -> Result<Tensor<2>, ModelError> {
        let all = Tensor::cat(cache.take().into_iter().chain([tokens]).collect(), 1);
        let hidden = self.decode(all.clone());
        *cache = Some(all);
        let [batch, seq, width] = hidden.dims();
        let last = hidden.slice_dim(1, seq - 1..seq).reshape([batch, width]);
        Ok(last.matmul(self.head()))
    }
}

impl TrainStep for Gpt {
    type Input = TokenBatch;
    type Output = QatOutput;

    fn step(&self, batch: TokenBatch) -> TrainOutput<QatOutput> {
        let output = self.step_output(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Gpt {
    type Input = TokenBatch;
    type Output = QatOutput;

    fn step(&self, batch: TokenBatch) -> QatOutput {
        self.step_output(batch)
    }
}

impl Blockwise for Gpt {
    type Batch = TokenBatch;
    type Hidden = Tensor<3>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        (0..self.blocks.len())
            .map(|index| format!("blocks.{index}"))
            .collect()
    }

    fn embed(&self, batch: TokenBatch) -> Result<(Tensor<3>, ()), ModelError> {
        let [_, seq] = batch.tokens.dims();
        let positions = Tensor::<1, Int>::arange(0..seq as i64, &batch.tokens.device());
        let positions = self.positions.forward(positions.unsqueeze());
        Ok((self.tokens.forward(batch.tokens) + positions, ()))
    }

    fn run_block(&self, index: usize, x: Tensor<3>, _: &()) -> Result<Tensor<3>, ModelError> {
        Ok(self.blocks[index].forward(x))
    }
}

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/llama/assets")
}

/// The bundled text in windows.
fn windows() -> TokenWindows {
    let tokenizer = load_tokenizer(&assets().join("tiny-stories")).unwrap();
    let documents = read_documents(&assets().join("eval.txt")).unwrap();
    let special = SpecialTokens {
        bos: Some(0),
        eos: Some(1),
    };
    encode_windows(&tokenizer, &documents, special, POSITIONS).unwrap()
}

fn measure(model: &Gpt, windows: &TokenWindows) -> f64 {
    perplexity(model, windows, &Device::flex(), &mut |_, _| Ok(())).unwrap()
}

/// Full-precision training, all of the parameters.
fn pretrain(model: Gpt, data: &TokenWindows, epochs: usize) -> Gpt {
    let device = Device::flex().autodiff();
    let mut model = model.train();
    let mut optimizer = AdamWConfig::new().init();
    let loader = data.loader(8, Some(1), &device);
    for _ in 0..epochs {
        for batch in loader.iter() {
            let loss = model.loss(batch.unwrap()).unwrap();
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(3e-3, model, grads);
        }
    }
    model.valid()
}

#[test]
fn a_gpt_2_learns_is_quantized_and_writes() {
    let device = Device::flex();
    let _random = seeded(4);
    let vocab_size = 1024;
    let windows = windows();
    windows
        .check_vocabulary(vocab_size, "the bundled text")
        .unwrap();
    let sizes = CalibrationSizes {
        train: 96,
        valid: 16,
        e2e: 128,
    };
    let data = Calibration::split(&windows, sizes, 7).unwrap();
    assert_eq!((data.available, data.used()), (windows.len(), sizes));

    let model = Gpt::new(vocab_size, &device);
    // On what it was trained on, which a model of this size learns fastest.
    let untrained = measure(&model, &data.train);
    let model = pretrain(model, &data.train, 40);
    let dense = measure(&model, &data.train);
    assert!(dense < untrained / 3.0, "{dense}, untrained {untrained}");

    let scheme: Scheme = "w2g16".parse().unwrap();
    let weights = Weights::matching(r"^blocks\.\d+\.(qkv|proj|up|down)\.weight$").unwrap();
    let batch = BatchSizes {
        block_ap: 4,
        e2e_qp: 4,
    };
    let loaders = data.phase_loaders(batch, 7, &device);
    let mut stages = Vec::new();
    let mut observer = |stage: &Stage<'_, Gpt>| {
        stages.push((stage.name, measure(stage.model, &data.train)));
    };
    let recipe = EfficientQatConfig::new(scheme, weights).init();
    let packed = recipe.run(model, loaders, &mut observer).unwrap();
    println!("{stages:.2?}");
    let [(_, full), (_, rtn), (_, block_ap), (last, e2e_qp)] = stages[..] else {
        panic!("{stages:?}");
    };
    assert_eq!((last, full), (StageName::E2eQp, dense));
    assert!(dense < rtn && block_ap < rtn && e2e_qp < rtn);
    // Much of what rounding costs is won back.
    assert!((e2e_qp / dense).ln() < 0.7 * (rtn / dense).ln());
    assert_eq!(packed.size_report().packed_weights, 2 * 12 * WIDTH * WIDTH);

    writes(&packed, &device);
}

/// What a model writes is its own logits' doing, whatever cache it has.
fn writes(model: &Gpt, device: &Device) {
    let tokenizer = load_tokenizer(&assets().join("tiny-stories")).unwrap();
    let prompt = [vec![0], encode(&tokenizer, "Once upon a time").unwrap()].concat();
    let limits = GenerationLimits {
        max_new_tokens: 12,
        max_positions: POSITIONS,
        eos: Vec::new(),
    };
    let mut text = TextStream::new(&tokenizer);
    let mut shown = String::new();
    let mut on_token = |token| {
        shown += &text.push(&[token])?;
        Ok(())
    };
    let mut greedy = Sampler::new(0.0, 1.0, 0);
    let written = generate(model, &prompt, &limits, &mut greedy, device, &mut on_token).unwrap();
    shown += &text.finish().unwrap();
    assert_eq!((written.tokens.len(), written.sampled), (12, 12));
    assert_eq!(shown, text.text().unwrap());
    assert!(!shown.trim().is_empty());

    // The same, one position after the other, by hand.
    let mut all = prompt.clone();
    for token in &written.tokens {
        let input = TokenBatch::new(all.iter().map(|id| *id as i32).collect(), all.len(), device);
        let logits = model.next_token_logits(input.tokens, &mut None).unwrap();
        assert_eq!(greedy.sample(logits), [*token]);
        all.push(*token);
    }

    // EOS ends the text and is no part of it; so do the positions, and an error of the callback.
    let stop = GenerationLimits {
        eos: vec![written.tokens[3]],
        ..limits.clone()
    };
    let first = written
        .tokens
        .iter()
        .position(|token| stop.eos.contains(token))
        .unwrap();
    let stopped = generate(model, &prompt, &stop, &mut greedy, device, &mut |_| Ok(())).unwrap();
    assert_eq!((stopped.tokens.len(), stopped.sampled), (first, first + 1));
    let short = GenerationLimits {
        max_positions: prompt.len() + 2,
        ..limits.clone()
    };
    let cut = generate(model, &prompt, &short, &mut greedy, device, &mut |_| Ok(())).unwrap();
    assert_eq!(cut.tokens, written.tokens[..2]);
    let mut interrupt = |_| Err(LmError::Interrupted);
    let error = generate(model, &prompt, &limits, &mut greedy, device, &mut interrupt);
    assert!(matches!(error, Err(LmError::Interrupted)));
    let error = generate(model, &[], &limits, &mut greedy, device, &mut |_| Ok(()));
    assert!(matches!(
        error,
        Err(LmError::Prompt {
            tokens: 0,
            limit: POSITIONS
        })
    ));

    let mut calls = Vec::new();
    let mut progress = |done, total| {
        calls.push((done, total));
        Ok(())
    };
    let own = sample_windows(model, 0, [67, 5], 3, device, &mut progress).unwrap();
    assert_eq!((own.len(), own.seq_len()), (67, 5));
    assert!(own.iter().all(|window| window[0] == 0));
    own.check_vocabulary(1024, "the model's own text").unwrap();
    assert_eq!(calls, (1..=10).map(|done| (done, 10)).collect::<Vec<_>>());

    // What was kept before a stop is gone on with, and ends the same.
    let (mut kept, none) = (
        TokenWindows::new(Vec::new(), 5),
        TokenWindows::new(Vec::new(), 5),
    );
    let mut stop = |done, _| match done {
        8 => Err(LmError::Interrupted),
        _ => Ok(()),
    };
    let stopped = sample_more_windows(
        model,
        0,
        [67, 5],
        3,
        device,
        none,
        &mut stop,
        &mut |windows| {
            kept = windows.clone();
            Ok(())
        },
    );
    assert!(matches!(stopped, Err(LmError::Interrupted)));
    assert_eq!(kept.len(), 64);
    let mut new = Vec::new();
    let mut progress = |done, _| {
        new.push(done);
        Ok(())
    };
    let again = sample_more_windows(
        model,
        0,
        [67, 5],
        3,
        device,
        kept,
        &mut progress,
        &mut |_| Ok(()),
    );
    assert_eq!(again.unwrap(), own);
    assert_eq!(new, [6, 7, 8, 9, 10]);
}

/// The bundled Llama in a directory of its own.
fn bundled(parent: &Path) -> PathBuf {
    let dir = parent.join("model");
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(assets().join("tiny-stories")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn blocks_in_files_give_what_blocks_in_memory_give() {
    let device = Device::flex();
    let parent = tempfile::tempdir().unwrap();
    let dir = bundled(parent.path());
    let windows = windows().range(0..19);
    let measure = |model: &LoadedLlama| {
        let mut batches = 0;
        let value = perplexity(&model.model, &windows, &device, &mut |done, total| {
            batches += 1;
            assert_eq!((done, total), (batches, 3));
            Ok(())
        });
        value.map_err(|error| error.to_string())
    };
    let whole = LoadedLlama::open(&dir, &device).unwrap();
    let by_block = LoadedLlama::open_by_block(&dir, &device).unwrap();
    assert_eq!(measure(&by_block), measure(&whole));
    assert!(measure(&whole).unwrap() < 20.0);

    // A file that changes under the run is an error with its name.
    let file = dir.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = measure(&by_block).unwrap_err();
    assert!(error.contains("model.safetensors"), "{error}");
    fs::remove_file(&file).unwrap();
    let error = measure(&by_block).unwrap_err();
    assert!(error.contains("model.safetensors"), "{error}");
    assert!(measure(&whole).is_ok());
}

#[test]
fn nothing_to_predict_is_an_error() {
    let model = Gpt::new(16, &Device::flex());
    let measure = |windows: TokenWindows| {
        let result = perplexity(&model, &windows, &Device::flex(), &mut |_, _| Ok(()));
        result.unwrap_err().to_string()
    };
    let none = measure(TokenWindows::new(vec![1, 2], 3));
    assert_eq!(none, "holds 0 windows of 3 tokens, expected 1 or more");
    let short = measure(TokenWindows::new(vec![1, 2], 1));
    assert_eq!(short, "windows have 1 tokens, expected 2 or more");
}
