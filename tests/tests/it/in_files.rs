//! Blocks that leave memory once they are finished: everything comes out as where they stay.

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::Device;
use burn_eqat::files::{
    StagedDir, save_model, save_model_by_block, saved_size, saved_size_by_block,
};
use burn_eqat::lm::{LmError, TokenBatch, TokenWindows, perplexity, perplexity_by_block};
use burn_eqat::train::{
    CacheConfig, CacheDType, DataSplit, E2eApConfig, Phase, TrainError, TrainEvent,
    layer_sizes_by_block, load_blocks, schemes_by_block, size_by_block,
};
use burn_eqat::{
    EfficientQatConfig, Method, Observer, PhaseLoaders, Quantize, RunDir, Stage, StageName,
};
use llama::LoadedLlama;
use llama::model::Llama;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/llama/assets/tiny-stories")
}

fn by_block() -> Llama {
    let loaded = LoadedLlama::open_by_block(&bundled(), &Device::flex());
    loaded.unwrap().model
}

fn whole() -> Llama {
    LoadedLlama::open(&bundled(), &Device::flex())
        .unwrap()
        .model
}

fn windows(count: i32, seq_len: i32) -> TokenWindows {
    let tokens = (0..count * seq_len).map(|i| (i * i + 7 * i) % 509);
    TokenWindows::new(tokens.collect(), seq_len as usize)
}

fn loader(count: i32, batch: usize) -> Arc<dyn DataLoader<TokenBatch>> {
    windows(count, 11).loader(batch, None, &Device::flex())
}

/// Both phases train on seven windows and are validated on three.
fn data() -> PhaseLoaders<TokenBatch> {
    PhaseLoaders {
        block_ap: (loader(7, 2), loader(3, 2)),
        e2e_qp: (
            windows(7, 11).loader(2, Some(3), &Device::flex()),
            loader(3, 2),
        ),
    }
}

fn config(method: Method) -> EfficientQatConfig {
    EfficientQatConfig::new("w2g64".parse().unwrap(), Llama::quantized_weights())
        .with_method(method)
        .with_epochs(1)
        .with_e2e_epochs(3)
        .with_e2e_learning_rate(Some(2e-3.into()))
        .with_early_stopping(Some(2))
}

/// The bytes of all files of a model.
fn bytes(model: &Llama) -> Vec<u8> {
    let parent = tempfile::tempdir().unwrap();
    let staged = StagedDir::begin(&parent.path().join("model"), false).unwrap();
    let config = serde_json::json!({});
    let dtype = burn::tensor::DType::F16;
    save_model_by_block(model, &config, dtype, &staged).unwrap();
    let mut bytes = fs::read(staged.path().join("model.safetensors")).unwrap();
    bytes.extend(fs::read(staged.path().join("config.json")).unwrap());
    bytes
}

fn loaded(model: Llama) -> Llama {
    load_blocks(model).unwrap()
}

fn in_memory(model: &Llama) -> usize {
    model.model.layers.iter().flatten().count()
}

#[test]
fn finished_blocks_are_not_in_memory_and_are_the_same() {
    for method in [Method::Rtn, Method::BlockAp] {
        let stays = (config(method).init())
            .run(by_block(), data(), &mut ())
            .unwrap();
        assert_eq!(in_memory(&stays), 6);
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("run")).unwrap();
        let mut sizes = Vec::new();
        let mut observer = |stage: &Stage<'_, Llama>| {
            assert_eq!(in_memory(stage.model), 0, "{}", stage.name);
            sizes.push((stage.name, stage.size_report));
        };
        let leaves = config(method)
            .init()
            .with_run_dir(run.clone())
            .run(by_block(), data(), &mut observer)
            .unwrap();
        assert!(bytes(&leaves) == bytes(&stays), "{method}");
        let dtype = burn::tensor::DType::F16;
        assert_eq!(
            saved_size_by_block(&leaves, dtype).unwrap(),
            saved_size(&stays, dtype).unwrap()
        );
        assert_eq!(size_by_block(&leaves).unwrap(), stays.size_report());
        assert_eq!(layer_sizes_by_block(&leaves).unwrap(), stays.layer_sizes());
        let schemes = schemes_by_block(&leaves).unwrap().unwrap();
        assert_eq!(schemes.to_string(), "w2g64");
        let (last, size) = *sizes.last().unwrap();
        assert_eq!(size, stays.size_report(), "{last}");
        // What was rounded for comparison only is gone.
        let rounded = fs::read_dir(run.path()).unwrap().flatten();
        let rounded = rounded.filter(|f| f.file_name().to_string_lossy().starts_with("rtn"));
        let expected = if method == Method::Rtn { 6 } else { 0 };
        assert_eq!(rounded.count(), expected);

        // As with the model as a whole, which is saved in the same way.
        let all = loaded(leaves);
        assert_eq!(in_memory(&all), 6);
        // Norms train as they did before.
        for model in [stays.clone(), all.clone()] {
            let model = model.train();
            let norms = model.model.layers.iter().flatten();
            let mut norms = norms.map(|block| block.input_layernorm.gamma.is_require_grad());
            assert!(norms.all(|trains| trains), "{method}");
        }
        let parent = tempfile::tempdir().unwrap();
        let staged = StagedDir::begin(&parent.path().join("model"), false).unwrap();
        save_model(&all, &serde_json::json!({}), dtype, &staged).unwrap();
        let saved = fs::read(staged.path().join("model.safetensors")).unwrap();
        assert!(bytes(&stays).starts_with(&saved));
    }
}

#[test]
fn perplexity_block_by_block_is_that_of_the_whole() {
    let (windows, device) = (windows(19, 13), Device::flex());
    let expected = perplexity(&whole(), &windows, &device, &mut |_, _| Ok(())).unwrap();
    for memory in [None, Some(0), Some(60_000)] {
        let cache = CacheConfig::new().with_memory(memory);
        let mut last = (0, 0);
        let measured = perplexity_by_block(&by_block(), &windows, &device, &cache, &mut |d, t| {
            assert_eq!(d, last.0 + 1);
            last = (d, t);
            Ok(())
        });
        assert_eq!(measured.unwrap(), expected, "{memory:?}");
        // Three batches, six blocks and the loss.
        assert_eq!(last, (21, 21));
    }
    let cache = CacheConfig::new();
    let stopped = perplexity_by_block(&by_block(), &windows, &device, &cache, &mut |done, _| {
        if done == 5 {
            return Err(LmError::Interrupted);
        }
        Ok(())
    });
    assert!(matches!(stopped, Err(LmError::Interrupted)));
}

/// The validation losses of E2E-QP, and stops at an event.
#[derive(Default)]
struct Losses {
    valid: Vec<f64>,
    train: Vec<f64>,
    events: usize,
    stop_at: Option<usize>,
    most_in_memory: usize,
    /// How often E2E-AP went on from a state of before.
    resumed: usize,
}

impl Observer<Llama> for Losses {
    fn stage(&mut self, stage: &Stage<'_, Llama>) -> Result<(), TrainError> {
        if stage.name == StageName::E2eQp {
            self.most_in_memory = in_memory(stage.model);
        }
        Ok(())
    }

    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        // Passes come again in every process, until they are through.
        self.events += usize::from(!matches!(event, TrainEvent::Pass { .. }));
        if let TrainEvent::Resumed {
            phase: Phase::E2eAp,
            ..
        } = event
        {
            self.resumed += 1;
        }
        if let TrainEvent::SplitEnd { epoch, split, loss } = event
            && epoch.block.is_none()
        {
            match split {
                DataSplit::Valid => self.valid.push(*loss),
                DataSplit::Train => self.train.push(*loss),
            }
        }
        match self.stop_at {
            Some(at) if self.events > at => Err(TrainError::Interrupted),
            _ => Ok(()),
        }
    }
}

#[test]
fn offload_trains_as_the_whole_model_does() {
    let run = |offload: bool, losses: &mut Losses| {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("run")).unwrap();
        let recipe = config(Method::EfficientQat)
            .with_offload(offload)
            .with_grad_accumulation(2)
            .init()
            .with_run_dir(run);
        let model = recipe.run(by_block(), data(), losses).unwrap();
        // Before the files are gone.
        (bytes(&model), loaded(model))
    };
    let (mut expected, mut found) = (Losses::default(), Losses::default());
    let (_, whole) = run(false, &mut expected);
    let (_, model) = run(true, &mut found);
    assert_eq!((expected.most_in_memory, found.most_in_memory), (6, 0));
    assert_eq!(expected.valid.len(), found.valid.len());
    let losses = expected.valid.iter().chain(&expected.train);
    for (expected, found) in losses.zip(found.valid.iter().chain(&found.train)) {
        let difference = (expected - found).abs() / expected;
        assert!(difference < 1e-5, "{expected} {found}");
    }
    // It has learned something: the losses are not all the same.
    assert!(found.train[1] < found.train[0] - 1e-3, "{:?}", found.train);
    let step_sizes = |model: &Llama| -> Vec<f32> {
        let layers = model.model.layers.iter().flatten();
        let scales = layers.map(|block| block.mlp.down_proj.weight.base().into_data());
        scales
            .flat_map(|data| data.iter::<f32>().collect::<Vec<_>>())
            .collect()
    };
    for (whole, found) in step_sizes(&whole).into_iter().zip(step_sizes(&model)) {
        assert!((whole - found).abs() <= 2e-3 * whole, "{whole} {found}");
    }
}

#[test]
fn an_offloaded_run_that_is_stopped_ends_as_one_that_was_not() {
    let recipe = |run: RunDir| {
        let mut config = config(Method::EfficientQat).with_offload(true);
        config.epochs = 1;
        config.init().with_run_dir(run)
    };
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("whole")).unwrap();
    let mut all = Losses::default();
    let whole = recipe(run).run(by_block(), data(), &mut all).unwrap();
    let expected = bytes(&whole);

    let path = dir.path().join("stopped");
    let mut stops = 0;
    let model = loop {
        let run = RunDir::open_or_create(&path).unwrap();
        let mut observer = Losses {
            stop_at: Some(24 + stops * 13 % 11),
            ..Losses::default()
        };
        match recipe(run).run(by_block(), data(), &mut observer) {
            Ok(model) => break model,
            Err(TrainError::Interrupted) => stops += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(stops < 40);
    };
    println!("stopped {stops} times, {} events", all.events);
    assert!(stops >= 3);
    assert!(bytes(&model) == expected, "a resumed run ends elsewhere");
}

/// E2E-AP in the place of E2E-QP, two epochs.
fn with_e2e_ap() -> EfficientQatConfig {
    let e2e_ap = E2eApConfig::new()
        .with_weight_learning_rate(Some(1e-3.into()))
        .with_quant_learning_rate(Some(1e-3.into()))
        .with_epochs(2)
        .with_save_every(3);
    let mut config = config(Method::EfficientQat)
        .with_e2e_epochs(0)
        .with_e2e_ap(Some(e2e_ap));
    config.early_stopping = None;
    config
}

#[test]
fn e2e_ap_in_files_trains_as_the_whole_model_does() {
    let run = |offload: bool, moments: CacheDType, losses: &mut Losses| {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("run")).unwrap();
        let mut config = with_e2e_ap().with_offload(offload);
        // In files the norm is that of the step before.
        let exact = |phase: E2eApConfig| phase.with_max_grad_norm(1e9).with_moments(moments);
        config.e2e_ap = config.e2e_ap.map(exact);
        let recipe = config.init().with_run_dir(run.clone());
        let model = recipe.run(by_block(), data(), losses).unwrap();
        let left = fs::read_dir(run.path()).unwrap().flatten();
        let left = left.filter(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with("e2e-ap-") && name.ends_with(".bpk")
        });
        assert_eq!(left.count(), 0);
        (in_memory(&model), loaded(model))
    };
    let (mut expected, mut found) = (Losses::default(), Losses::default());
    let (all, _) = run(false, CacheDType::F32, &mut expected);
    let (none, model) = run(true, CacheDType::F32, &mut found);
    assert_eq!((all, none), (6, 0));
    assert_eq!(layer_sizes_by_block(&model).unwrap().len(), 6 * 7);
    // Of both epochs; what is validated is packed in files, where step sizes are rounded, and is not in memory.
    assert_eq!(expected.train.len(), 2);
    for (losses, rounding) in [
        ([&expected.train, &found.train], 1e-4),
        ([&expected.valid, &found.valid], 2e-2),
    ] {
        assert_eq!(losses[0].len(), losses[1].len());
        for (expected, found) in losses[0].iter().zip(losses[1]) {
            let difference = (expected - found).abs() / expected;
            assert!(difference < rounding, "{expected} {found}");
        }
    }
    assert!(found.train[1] < 0.98 * found.train[0], "{:?}", found.train);
    // With moments in 16 bits it learns as much.
    let mut rounded = Losses::default();
    run(true, CacheDType::Bf16, &mut rounded);
    for (expected, found) in expected.train.iter().zip(&rounded.train) {
        let difference = (expected - found).abs() / expected;
        assert!(difference > 0.0 && difference < 5e-3, "{expected} {found}");
    }
}

#[test]
fn an_e2e_ap_in_files_that_is_stopped_ends_as_one_that_was_not() {
    let recipe = |run: RunDir| with_e2e_ap().with_offload(true).init().with_run_dir(run);
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("whole")).unwrap();
    let mut all = Losses::default();
    let whole = recipe(run).run(by_block(), data(), &mut all).unwrap();
    let expected = bytes(&whole);

    let path = dir.path().join("stopped");
    let (mut stops, mut resumed) = (0, 0);
    let model = loop {
        let run = RunDir::open_or_create(&path).unwrap();
        // As a process leaves them that is killed in a step.
        fs::write(path.join("e2e-ap-0001-00000099.bpk"), "half").unwrap();
        let mut observer = Losses {
            stop_at: Some(22 + stops * 13 % 11),
            ..Losses::default()
        };
        let result = recipe(run).run(by_block(), data(), &mut observer);
        resumed += observer.resumed;
        match result {
            Ok(model) => break model,
            Err(TrainError::Interrupted) => stops += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(stops < 40);
    };
    println!("stopped {stops} times, {} events", all.events);
    assert!(stops >= 3 && resumed >= 1, "{stops} {resumed}");
    assert!(bytes(&model) == expected, "a resumed run ends elsewhere");
    drop(model);
    // A run that is over gives the same again.
    let run = RunDir::open(&path).unwrap();
    let again = recipe(run).run(by_block(), data(), &mut ()).unwrap();
    assert!(bytes(&again) == expected);
}

#[test]
fn a_packed_model_in_files_is_trained_further() {
    let dir = tempfile::tempdir().unwrap();
    let packed = whole()
        .quantize_rtn(
            &Llama::quantized_weights(),
            "w2g64".parse::<burn_eqat::Scheme>().unwrap(),
        )
        .unwrap();
    let loaded = LoadedLlama::open(&bundled(), &Device::flex()).unwrap();
    let target = dir.path().join("packed");
    loaded.save_packed(&packed, &target, false).unwrap();
    let in_files = LoadedLlama::open_by_block(&target, &Device::flex()).unwrap();
    let run = RunDir::create(&dir.path().join("run")).unwrap();
    let mut losses = Losses::default();
    let model = config(Method::EfficientQat)
        .with_offload(true)
        .init()
        .with_run_dir(run)
        .run(in_files.model, data(), &mut losses)
        .unwrap();
    assert_eq!(in_memory(&model), 0);
    assert!(losses.train.last().unwrap() < &losses.train[0]);
}

#[test]
fn offload_says_what_it_needs() {
    let recipe = config(Method::EfficientQat).with_offload(true).init();
    let error = recipe.run(by_block(), data(), &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "offload of E2E-QP needs a run directory to read blocks from"
    );
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("run")).unwrap();
    let recipe = recipe.with_run_dir(run);
    let error = recipe.run(whole(), data(), &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "offload of E2E-QP needs a model whose blocks are in files"
    );
}
