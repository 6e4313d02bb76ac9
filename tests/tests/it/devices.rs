//! Both phases on several devices, which are workers on the CPU here: what they end with is what one device ends with.

use super::any_model::{Batch, Encoder, Mlp, Sample, loader, samples, training};
use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn::train::{InferenceStep, LearnerModel, TrainOutput, TrainStep};
use burn_eqat::kernels::OpError;
use burn_eqat::lm::TokenWindows;
use burn_eqat::train::{
    BlockApConfig, Blockwise, CacheConfig, CacheDType, DataSplit, E2eQpConfig, ModelError,
    QatOutput, StepLoss, TrainError, TrainEvent,
};
use burn_eqat::{EfficientQatConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::{assert_close, batches, seeded, values};
use llama::LlamaConfig;
use llama::model::Llama;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

type Loader<B> = Arc<dyn DataLoader<B>>;

/// The same worker so many times.
fn workers(count: usize) -> Vec<Device> {
    vec![Device::flex(); count]
}

/// The losses of training steps, and of validation after each epoch.
#[derive(Default)]
struct Losses {
    train: Vec<f32>,
    valid: Vec<f32>,
    skipped: usize,
}

impl Losses {
    fn hear(&mut self, event: TrainEvent) -> Result<(), TrainError> {
        match event {
            TrainEvent::Batch {
                split: DataSplit::Train,
                loss,
                ..
            } => self.train.push(loss.into_scalar()),
            TrainEvent::SplitEnd {
                split: DataSplit::Valid,
                loss,
                ..
            } => self.valid.push(loss as f32),
            TrainEvent::Skipped { .. } => self.skipped += 1,
            _ => {}
        }
        Ok(())
    }
}

/// Each within a ten-thousandth of what is expected.
fn assert_same_losses(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs() / expected.abs();
        assert!(
            error <= 1e-4,
            "{what} [{index}]: {actual} is not {expected}"
        );
    }
}

/// Every parameter, to the bit.
fn bytes<M: Module>(model: &M) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    model.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

/// Means of losses, so many at a time.
fn means(losses: &[f32], count: usize) -> Vec<f32> {
    let groups = losses.chunks(count);
    groups
        .map(|group| group.iter().sum::<f32>() / group.len() as f32)
        .collect()
}

fn block_ap<M: Blockwise>(
    model: &M,
    weights: Weights,
    [train, valid]: [&Loader<M::Batch>; 2],
    cache: CacheConfig,
    devices: usize,
) -> (Losses, M) {
    let phase = BlockApConfig::new("w2g12".parse().unwrap(), weights)
        .with_cache(cache)
        .init()
        .with_devices(workers(devices));
    let mut losses = Losses::default();
    let data = (train.clone(), valid.clone());
    let packed = phase.run(model.clone(), data.0, data.1, &mut |event| {
        losses.hear(event)
    });
    (losses, packed.unwrap())
}

/// Sets of 48 samples to train and 8 to validate.
fn sets(forward: &dyn Fn(Tensor<3>) -> Tensor<3>) -> [Vec<Sample>; 2] {
    let device = Device::flex();
    [48, 8].map(|count| samples(count, &|x| forward(x), &device))
}

fn block_ap_with_the_same_global_batch<M: Blockwise<Batch = Batch>>(
    model: &M,
    weights: &Weights,
    [train, valid]: [Vec<Sample>; 2],
    blocks: usize,
) {
    let run = |batch, devices| {
        let data = [&loader(&train, batch), &loader(&valid, 8)];
        let (losses, _) = block_ap(model, weights.clone(), data, CacheConfig::new(), devices);
        losses
    };
    let one = run(12, 1);
    assert_eq!(one.train.len(), 2 * blocks * 4);
    for devices in [2, 3] {
        let several = run(12 / devices, devices);
        assert_same_losses("training", &several.train, &one.train);
        assert_same_losses("validation", &several.valid, &one.valid);
    }
}

#[test]
fn block_ap_has_the_same_losses_with_the_same_global_batch() {
    let (_random, device) = (seeded(91), Device::flex());
    let model = Mlp::new(&device);
    let data = sets(&|x| model.forward(x));
    block_ap_with_the_same_global_batch(&model, &Weights::linears(), data, 3);
    // Blocks with a mask besides.
    let model = Encoder::new(&device);
    let data = sets(&|x| model.forward(x));
    let weights = Weights::under(model.blocks());
    block_ap_with_the_same_global_batch(&model, &weights, data, 2);
}

/// Eleven batches, the last of them smaller, on three devices: the last step has two. Shards in memory and on disk are the same.
#[test]
fn block_ap_is_the_same_each_time() {
    let (_random, device) = (seeded(92), Device::flex());
    let model = Encoder::new(&device);
    let [train, valid] = sets(&|x| model.forward(x));
    let data = [&loader(&train[..43], 4), &loader(&valid, 3)];
    let weights = Weights::under(model.blocks());
    let run = |cache| block_ap(&model, weights.clone(), data, cache, 3);
    let on_disk = CacheConfig::new()
        .with_memory(Some(0))
        .with_dtype(CacheDType::F32);
    let (losses, packed) = run(CacheConfig::new());
    assert_eq!(losses.train.len(), 2 * 2 * 4);
    let packed = bytes(&packed);
    for cache in [CacheConfig::new(), on_disk] {
        let (again, same) = run(cache);
        assert_eq!(again.train, losses.train);
        assert_eq!(again.valid, losses.valid);
        assert!(bytes(&same) == packed);
    }
}

/// A step of one device and of several, by the model's own step or by blocks.
fn e2e_qp<M>(
    packed: &M,
    [train, valid]: [&Loader<<M as Blockwise>::Batch>; 2],
    [devices, accumulation]: [usize; 2],
    by_blocks: bool,
) -> (Losses, M)
where
    M: LearnerModel
        + Blockwise
        + TrainStep<Input = <M as Blockwise>::Batch>
        + InferenceStep<Input = <M as Blockwise>::Batch>,
    <M as TrainStep>::Output: StepLoss,
    <M as InferenceStep>::Output: StepLoss,
{
    let phase = E2eQpConfig::new()
        .with_learning_rate(Some(1e-3.into()))
        .with_epochs(2)
        .with_grad_accumulation(accumulation)
        .with_recompute(by_blocks)
        .with_round_scales(false)
        .init()
        .with_devices(workers(devices));
    let mut losses = Losses::default();
    let (model, train, valid) = (packed.clone(), train.clone(), valid.clone());
    let on_event = &mut |event| losses.hear(event);
    let tuned = if by_blocks {
        phase.run_by_blocks(model, train, valid, on_event)
    } else {
        phase.run_on_devices(model, train, valid, on_event)
    };
    (losses, tuned.unwrap())
}

/// `loader(n)` has the same data in batches of `12 / n`, so many that some steps are left over.
fn e2e_qp_with_the_same_global_batch<M>(
    packed: &M,
    loader: &dyn Fn(usize) -> Loader<<M as Blockwise>::Batch>,
) where
    M: LearnerModel
        + Blockwise
        + TrainStep<Input = <M as Blockwise>::Batch>
        + InferenceStep<Input = <M as Blockwise>::Batch>,
    <M as TrainStep>::Output: StepLoss,
    <M as InferenceStep>::Output: StepLoss,
{
    for by_blocks in [false, true] {
        // Loaders that are new each time, since one that shuffles goes on from where it was.
        let run = |parts, step| {
            let data = [&loader(parts), &loader(1)];
            e2e_qp(packed, data, step, by_blocks)
        };
        let (whole, _) = run(1, [1, 1]);
        assert!(whole.train.len() >= 2 * 4);
        for devices in [2, 3] {
            let (losses, tuned) = run(devices, [devices, 1]);
            assert_same_losses("training", &means(&losses.train, devices), &whole.train);
            assert_same_losses("validation", &losses.valid, &whole.valid);
            // To the bit, what one device does with as many batches for a step.
            let (accumulated, same) = run(devices, [1, devices]);
            assert_eq!(losses.train, accumulated.train);
            assert_eq!(losses.valid, accumulated.valid);
            assert!(bytes(&tuned) == bytes(&same), "by blocks: {by_blocks}");
            assert!(bytes(&tuned) != bytes(packed));
        }
    }
}

#[test]
fn e2e_qp_has_the_same_losses_with_the_same_global_batch() {
    let (_random, device) = (seeded(93), Device::flex());
    let model = Mlp::new(&device);
    let [train, _] = sets(&|x| model.forward(x));
    let scheme: Scheme = "w2g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    e2e_qp_with_the_same_global_batch(&packed, &|parts| loader(&train, 12 / parts));
}

#[test]
fn e2e_qp_of_a_llama_has_the_same_losses() {
    let (_random, device) = (seeded(94), Device::flex());
    let config: LlamaConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true,
    }))
    .unwrap();
    let model = config.init(&device);
    let scheme: Scheme = "w2g16".parse().unwrap();
    let packed = model
        .quantize_rtn(&Llama::quantized_weights(), scheme)
        .unwrap();
    let ids = Tensor::<1>::random([48 * 9], Distribution::Uniform(0.0, 39.0), &device);
    let ids = values(ids).into_iter().map(|id| id as i32).collect();
    let windows = TokenWindows::new(ids, 9);
    // The same order in loaders of all batch sizes, another in each epoch.
    e2e_qp_with_the_same_global_batch(&packed, &|parts| {
        windows.loader(12 / parts, Some(3), &device)
    });
}

/// Accumulation on each device, and a last step of an odd rest.
#[test]
fn devices_and_accumulation_multiply() {
    let (_random, device) = (seeded(95), Device::flex());
    let model = Mlp::new(&device);
    let [train, valid] = sets(&|x| model.forward(x));
    let scheme: Scheme = "w3g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let (train, valid) = (loader(&train, 3), loader(&valid, 8));
    let data = [&train, &valid];
    let (losses, tuned) = e2e_qp(&packed, data, [3, 2], false);
    assert_eq!(losses.train.len(), 2 * 16);
    let (expected, same) = e2e_qp(&packed, data, [1, 6], false);
    assert_eq!(losses.train, expected.train);
    assert!(bytes(&tuned) == bytes(&same));
}

/// One device is the way of a phase that was told of none.
#[test]
fn one_device_changes_nothing() {
    let (_random, device) = (seeded(96), Device::flex());
    let model = Mlp::new(&device);
    let [train, valid] = sets(&|x| model.forward(x));
    let config = EfficientQatConfig::new("w2g12".parse().unwrap(), Weights::linears());
    let data = || (loader(&train, 4), loader(&valid, 8));
    let none = config.init().run(model.clone(), data(), &mut ()).unwrap();
    let one = config.init().with_devices(workers(1));
    let one = one.run(model.clone(), data(), &mut ()).unwrap();
    assert!(bytes(&one) == bytes(&none));
    // The recipe hands several on to both phases.
    let several = |config: EfficientQatConfig| {
        let recipe = config.init().with_devices(workers(3));
        let tuned = recipe.run(model.clone(), data(), &mut ()).unwrap();
        bytes(&tuned)
    };
    let three = several(config.clone());
    assert!(three != bytes(&none));
    assert!(three == several(config.clone()), "the same each time");
    let by_blocks = several(config.clone().with_recompute(true));
    assert!(by_blocks == several(config.with_recompute(true)));
}

/// A layer that notes the threads that run it, and fails where a batch is not what it should be.
#[derive(Module, Debug)]
struct Layer {
    layer: Linear,
    #[module(skip)]
    threads: Arc<Mutex<HashSet<ThreadId>>>,
    #[module(skip)]
    fails: Fails,
}

/// How it fails on a batch of negative numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fails {
    Not,
    WithAnError,
    InAnOp,
    WithAPanic,
    WithALoss,
}

impl Layer {
    fn new(fails: Fails) -> Self {
        Self {
            layer: LinearConfig::new(4, 4).init(&Device::flex()),
            threads: Arc::default(),
            fails,
        }
    }

    fn packed(self) -> Self {
        let scheme: Scheme = "w4g4".parse().unwrap();
        self.quantize_rtn(&Weights::linears(), scheme).unwrap()
    }

    fn forward(&self, x: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        self.threads.lock().unwrap().insert(thread::current().id());
        let y = self.layer.forward(x.clone());
        if x.sum().into_scalar::<f32>() >= 0.0 {
            return Ok(y);
        }
        match self.fails {
            Fails::Not => Ok(y),
            Fails::WithAnError => Err("a batch that it does not like".into()),
            Fails::InAnOp => OpError::Groups {
                op: "layer",
                d_input: 4,
                groups: 3,
            }
            .raise(),
            Fails::WithAPanic => panic!("the layer broke"),
            Fails::WithALoss => Ok(y / 0.0),
        }
    }

    fn threads(&self) -> usize {
        self.threads.lock().unwrap().len()
    }
}

impl Blockwise for Layer {
    type Batch = Tensor<2>;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        vec!["layer".into()]
    }
    fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((batch, ()))
    }
    fn run_block(&self, _: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        self.forward(x)
    }
    fn output_loss(&self, x: Tensor<2>, _: &(), _: Tensor<2>) -> Result<Tensor<1>, ModelError> {
        Ok(x.square().mean())
    }
    fn batch_to_device(batch: Tensor<2>, device: &Device) -> Result<Tensor<2>, ModelError> {
        Ok(batch.to_device(device))
    }
}

impl TrainStep for Layer {
    type Input = Tensor<2>;
    type Output = QatOutput;

    fn step(&self, batch: Tensor<2>) -> TrainOutput<QatOutput> {
        let loss = self.forward(batch).unwrap().square().mean();
        TrainOutput::new(self, loss.backward(), QatOutput::new(loss))
    }
}

impl InferenceStep for Layer {
    type Input = Tensor<2>;
    type Output = QatOutput;

    fn step(&self, batch: Tensor<2>) -> QatOutput {
        QatOutput::new(self.forward(batch).unwrap().square().mean())
    }
}

/// Batches of ones, the second of minus ones, where gradients are recorded or not.
fn ones(recorded: bool) -> Loader<Tensor<2>> {
    let one = |sign: f64| {
        let device = Device::flex();
        let device = if recorded { device.autodiff() } else { device };
        Tensor::<2>::ones([2, 4], &device) * sign
    };
    batches(vec![one(1.0), one(-1.0), one(2.0)])
}

fn block_ap_of(layer: &Layer, devices: usize, most: usize) -> (Losses, Result<Layer, TrainError>) {
    let phase = BlockApConfig::new("w4g4".parse().unwrap(), Weights::linears())
        .with_max_skipped(most)
        .init()
        .with_devices(workers(devices));
    let (mut losses, none) = (Losses::default(), batches(Vec::new()));
    let packed = phase.run(layer.clone(), ones(false), none, &mut |event| {
        losses.hear(event)
    });
    (losses, packed)
}

fn e2e_qp_of(layer: &Layer, devices: usize, most: usize) -> (Losses, Result<Layer, TrainError>) {
    let phase = E2eQpConfig::new()
        .with_max_skipped(most)
        .init()
        .with_devices(workers(devices));
    let (mut losses, none) = (Losses::default(), batches(Vec::new()));
    let layer = layer.clone().packed();
    let tuned = phase.run_by_blocks(layer, ones(true), none, &mut |event| losses.hear(event));
    (losses, tuned)
}

#[test]
fn each_device_has_a_thread() {
    let _random = seeded(97);
    let layer = Layer::new(Fails::Not);
    e2e_qp_of(&layer, 3, 0).1.unwrap();
    assert_eq!(layer.threads(), 3);
    let layer = Layer::new(Fails::Not);
    block_ap_of(&layer, 1, 0).1.unwrap();
    assert_eq!(layer.threads(), 1);
    // New threads each time, beside the one that asks.
    block_ap_of(&layer, 3, 0).1.unwrap();
    assert!(layer.threads() > 3);
}

/// What goes wrong on another device is the error that it is on one.
#[test]
fn errors_of_a_device_come_out() {
    let _random = seeded(98);
    let errors = |fails| {
        let layer = Layer::new(fails);
        [block_ap_of(&layer, 2, 0), e2e_qp_of(&layer, 2, 0)].map(|(_, result)| result.unwrap_err())
    };
    for error in errors(Fails::WithAnError) {
        assert!(matches!(error, TrainError::Model(_)));
        assert_eq!(error.to_string(), "a batch that it does not like");
    }
    for error in errors(Fails::InAnOp) {
        assert!(
            matches!(error, TrainError::Op(OpError::Groups { .. })),
            "{error}"
        );
    }
    for error in errors(Fails::WithALoss) {
        assert!(matches!(error, TrainError::Loss { step: 1, .. }), "{error}");
    }
    let (_, tuned) = e2e_qp_of(&Layer::new(Fails::WithAPanic), 2, 0);
    let error = tuned.unwrap_err();
    assert!(matches!(error, TrainError::Training(_)));
    let expected = "training: training worker on device 1 failed: the layer broke";
    assert_eq!(error.to_string(), expected);
}

/// A step with a loss that is not finite on one device is left out on all.
#[test]
fn a_step_is_left_out_on_all_devices() {
    let _random = seeded(99);
    let layer = Layer::new(Fails::WithALoss);
    let (losses, packed) = block_ap_of(&layer, 2, 1);
    packed.unwrap();
    // Two epochs of a step of two batches, which is left out, and one of one.
    assert_eq!((losses.skipped, losses.train.len()), (2, 2));
    let (losses, tuned) = e2e_qp_of(&layer, 2, 1);
    tuned.unwrap();
    assert_eq!((losses.skipped, losses.train.len()), (1, 2));
}

/// Ways that know only one device do not pass over the others.
#[test]
fn what_cannot_use_devices_says_so() {
    let (_random, device) = (seeded(100), Device::flex());
    let model = Mlp::new(&device);
    let [train, valid] = sets(&|x| model.forward(x));
    let scheme: Scheme = "w2g12".parse().unwrap();
    let packed = (model.clone().quantize_rtn(&Weights::linears(), scheme)).unwrap();
    let phase = E2eQpConfig::new().init().with_devices(workers(2));
    let data = || (loader(&train, 8), loader(&valid, 8));
    let ran = phase.run(packed.clone(), data().0, data().1, &mut |_| Ok(()));
    let launched = phase.launch(training::<Mlp>(&train, &valid), packed);
    let block_ap = BlockApConfig::new(scheme, Weights::linears()).init();
    let block_ap = block_ap.with_devices(workers(2));
    let block_ap = block_ap.launch(training::<Mlp>(&train, &valid), model);
    for (result, expected) in [
        (ran, "E2E-QP on several devices needs E2eQp::run_on_devices"),
        (
            launched,
            "E2E-QP trains on several devices in run_on_devices and run_by_blocks only",
        ),
        (block_ap, "Block-AP trains on several devices in run only"),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, TrainError::Setting(_)));
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    // A model that says nothing of its batches.
    let model = Encoder::new(&device);
    let weights = Weights::in_blocks(&model).except("bias|norm").unwrap();
    let packed = model.quantize_rtn(&weights, scheme).unwrap();
    let tuned = phase.run_on_devices(packed, data().0, data().1, &mut |_| Ok(()));
    let error = tuned.unwrap_err();
    assert!(matches!(error, TrainError::Model(_)));
    let expected = "Encoder has no way to bring a batch to another device: implement Blockwise::batch_to_device";
    assert!(error.to_string().contains(expected), "{error}");
}

/// Losses are close though batches are small and their order matters: a check of the check.
#[test]
fn another_global_batch_has_other_losses() {
    let (_random, device) = (seeded(101), Device::flex());
    let model = Mlp::new(&device);
    let [train, valid] = sets(&|x| model.forward(x));
    let scheme: Scheme = "w2g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let (train, valid) = (loader(&train, 6), loader(&valid, 8));
    let (two, _) = e2e_qp(&packed, [&train, &valid], [2, 1], false);
    let (one, _) = e2e_qp(&packed, [&train, &valid], [1, 1], false);
    let apart = (two.valid[1] - one.valid[1]).abs() / one.valid[1];
    assert!(apart > 1e-4, "{apart}");
    assert_close("validation", &two.valid, &one.valid, 0.5);
}
