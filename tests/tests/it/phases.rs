//! How the two phases fail: a failed phase is an error that names where, through `launch` and through `run`.

use crate::any_model::{Batch, Encoder, Mlp, loader, samples, training};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn::train::metric::LossMetric;
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::{
    ClassificationOutput, InferenceStep, Interrupter, MetricEarlyStoppingStrategy,
    StoppingCondition, SupervisedTraining, TrainOutput, TrainStep,
};
use burn_eqat::train::{
    BlockAp, BlockApConfig, Blockwise, E2eQpConfig, ModelError, ProgressLines, TrainError,
    TrainEvent,
};
use burn_eqat::{QuantLinear, QuantLinearConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::{batches, seeded};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// A loss that is not finite ends the training and says where.
#[test]
fn a_loss_that_is_not_finite_is_named() {
    let _random = seeded(7);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let mut set = samples(16, &|x| model.forward(x), &device);
    set[12].0[0] = f32::INFINITY;
    let scheme: Scheme = "w2g12".parse().unwrap();
    let config = BlockApConfig::new(scheme, Weights::linears());
    let phase = config.with_max_skipped(0).init();
    let launched = phase.launch(training::<Mlp>(&set, &set), model.clone());
    let run = phase.run(model.clone(), loader(&set, 8), loader(&set, 8), &mut |_| {
        Ok(())
    });
    for result in [launched, run] {
        let error = result.unwrap_err().to_string();
        let place = "Block-AP, block 0, step 2: the loss is ";
        let rates = "with learning rate 0.0207s (quantizer) and 0.0103s (weights)";
        assert!(error.starts_with(place) && error.contains(rates), "{error}");
    }

    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let phase = E2eQpConfig::new().with_max_skipped(0).init();
    let launched = phase.launch(training::<Mlp>(&set, &set), packed.clone());
    let run = phase.run(packed, loader(&set, 8), loader(&set, 8), &mut |_| Ok(()));
    for result in [launched, run] {
        let error = result.unwrap_err().to_string();
        let place = "E2E-QP, step 2: the loss is ";
        assert!(error.starts_with(place), "{error}");
        assert!(error.contains("with learning rate 0.0045s"), "{error}");
    }
}

/// Steps whose loss is not finite are left out and told of, as long as they are few in a row.
#[test]
fn a_step_that_is_not_finite_is_left_out() {
    let _random = seeded(17);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let mut set = samples(40, &|x| model.forward(x), &device);
    set[12].0[0] = f32::INFINITY;
    let (good, scheme): (_, Scheme) = (loader(&set[16..], 8), "w2g12".parse().unwrap());
    let mut told = Vec::new();
    let mut tell = |event| {
        if let TrainEvent::Skipped { message, .. } = event {
            told.push(message);
        }
        Ok(())
    };
    let phase = BlockApConfig::new(scheme, Weights::linears()).init();
    let packed = phase.run(model, loader(&set, 8), good.clone(), &mut tell);
    let packed = packed.unwrap();
    let phase = E2eQpConfig::new().with_grad_accumulation(2).init();
    let tuned = phase.run(packed, loader(&set, 8), good, &mut tell).unwrap();
    // One batch of five: twice for each of three blocks, then once.
    assert_eq!(told.len(), 7, "{told:?}");
    assert!(told[0].starts_with("Block-AP, block 0, step 2: the loss is"));
    assert!(told[1].starts_with("Block-AP, block 0, step 7: the loss is"));
    assert!(
        told[6].starts_with("E2E-QP, step 1: the loss is"),
        "{told:?}"
    );
    let output = tuned.forward(Tensor::ones([1, 2, 24], &device));
    assert!(output.is_finite().all().into_scalar::<bool>());

    // All of them are too many.
    for (input, _) in &mut set {
        input[0] = f32::NAN;
    }
    let phase = BlockApConfig::new(scheme, Weights::linears()).init();
    let error = phase.run(
        Mlp::new(&device),
        loader(&set, 8),
        loader(&[], 8),
        &mut |_| Ok(()),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("Block-AP, block 0, step 4: the loss is"),
        "{error}"
    );
}

/// Block-AP refuses what it would not do: weights outside of the blocks, and settings of the training that mean nothing to it.
#[test]
fn block_ap_refuses_what_it_cannot_do() {
    let _random = seeded(8);
    let device = Device::flex();
    let model = Encoder::new(&device);
    let set = samples(8, &|x| model.forward(x), &device);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let phase = BlockApConfig::new(scheme, Weights::linears()).init();
    let launch = |training: SupervisedTraining<Encoder>, phase: &BlockAp| {
        let error = phase.launch(training, model.clone()).unwrap_err();
        error.to_string()
    };
    let error = launch(training(&set, &set), &phase);
    assert_eq!(
        error,
        "selected weights are in no block of the model: head.weight"
    );

    let blocks = Weights::matching(r"^blocks\..*\.weight$").unwrap();
    let phase = BlockApConfig::new(scheme, blocks).init();
    let error = launch(training(&set, &set).grads_accumulation(2), &phase);
    assert_eq!(
        error,
        "Block-AP cannot follow grads_accumulation of the training: leave it out"
    );
    let error = launch(training(&[], &set), &phase);
    assert_eq!(error, "the training data has no batch");
}

/// Without validation data the phases run through; a last group of batches that is not full counts.
#[test]
fn without_validation_data() {
    let _random = seeded(9);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = samples(24, &|x| model.forward(x), &device);
    let scheme: Scheme = "w4g12-sym".parse().unwrap();
    let phase = BlockApConfig::new(scheme, Weights::linears()).init();
    let packed = phase.launch(training::<Mlp>(&set, &[]), model).unwrap();
    let phase = E2eQpConfig::new()
        .with_learning_rate(Some(1e-3.into()))
        .with_grad_accumulation(2)
        .init();
    let tuned = phase
        .launch(training::<Mlp>(&set, &[]), packed.clone())
        .unwrap();
    let scales = |model: &Mlp| model.middle.weight.base().into_data();
    assert_ne!(scales(&packed), scales(&tuned));
}
/// Every setting that a phase cannot follow is refused by its name.
#[test]
fn settings_that_cannot_be_followed_are_named() {
    let _random = seeded(10);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = samples(16, &|x| model.forward(x), &device);
    let scheme: Scheme = "w4g12".parse().unwrap();
    let packed = model
        .clone()
        .quantize_rtn(&Weights::linears(), scheme)
        .unwrap();
    let stopping = || {
        let condition = StoppingCondition::NoImprovementSince { n_epochs: 1 };
        let loss = LossMetric::new();
        MetricEarlyStoppingStrategy::new(
            &loss,
            Aggregate::Mean,
            Direction::Lowest,
            Split::Valid,
            condition,
        )
    };
    let refused = |error: TrainError, expected: &str| {
        let TrainError::Setting(message) = error else {
            panic!("{error}")
        };
        assert!(message.contains(expected), "{message}");
    };

    let block_ap = BlockApConfig::new(scheme, Weights::linears());
    let launch = |phase: &BlockAp, training: SupervisedTraining<Mlp>| {
        phase.launch(training, model.clone()).unwrap_err()
    };
    let phase = block_ap.clone().init();
    refused(
        launch(&phase, training(&set, &set).num_epochs(5)),
        "num_epochs of the training is 5",
    );
    refused(
        launch(&phase, training(&set, &set).early_stopping(stopping())),
        "early_stopping of the training",
    );
    refused(
        launch(&phase, training(&set, &set).checkpoint(1)),
        "checkpoint of the training",
    );
    let phase = block_ap.with_early_stopping(Some(1)).init();
    refused(
        launch(&phase, training(&set, &[])),
        "early_stopping of Block-AP needs validation data",
    );
    let run = phase.run(model.clone(), loader(&set, 8), loader(&[], 8), &mut |_| {
        Ok(())
    });
    refused(
        run.unwrap_err(),
        "early_stopping of Block-AP needs validation data",
    );

    let e2e = E2eQpConfig::new().with_epochs(2);
    let launch = |config: &E2eQpConfig, training: SupervisedTraining<Mlp>| {
        config.init().launch(training, packed.clone()).unwrap_err()
    };
    refused(
        launch(&e2e, training(&set, &set).num_epochs(3)),
        "E2E-QP as configured has 2",
    );
    refused(
        launch(&e2e, training(&set, &set).checkpoint(1)),
        "checkpoint of the training needs checkpointers",
    );
    refused(
        launch(&e2e, training(&set, &[]).early_stopping(stopping())),
        "early_stopping of the training needs validation",
    );
    let stops = e2e.clone().with_early_stopping(Some(1));
    refused(
        launch(&stops, training(&set, &[])),
        "early_stopping of E2E-QP needs validation data",
    );
    let accumulates = e2e.with_grad_accumulation(2);
    refused(
        launch(&accumulates, training(&set, &set).grads_accumulation(3)),
        "grads_accumulation of the training is 3",
    );
}

/// Gradients that the training accumulates count for the cosine: its last step is at the end of the data.
#[test]
fn accumulation_of_the_training_is_that_of_the_configuration() {
    let _random = seeded(11);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = samples(40, &|x| model.forward(x), &device);
    let scheme: Scheme = "w4g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let config = E2eQpConfig::new().with_learning_rate(Some(1e-3.into()));
    let by_training = config
        .init()
        .launch(training(&set, &set).grads_accumulation(2), packed.clone());
    let config = config.with_grad_accumulation(2);
    let by_config = config.init().launch(training(&set, &set), packed.clone());
    let run = config
        .init()
        .run(packed, loader(&set, 8), loader(&set, 8), &mut |_| Ok(()));
    let scales = |model: Result<Mlp, TrainError>| model.unwrap().middle.weight.base().into_data();
    let expected = scales(by_training);
    scales(by_config).assert_eq(&expected, true);
    scales(run).assert_eq(&expected, true);
}

#[test]
fn what_is_not_packed_has_no_step_sizes() {
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = samples(8, &|x| model.forward(x), &device);
    let phase = E2eQpConfig::new().init();
    let launched = phase.launch(training::<Mlp>(&set, &set), model.clone());
    assert!(matches!(launched, Err(TrainError::NoPackedWeights)));
    let run = phase.run(model, loader(&set, 8), loader(&set, 8), &mut |_| Ok(()));
    assert!(matches!(run, Err(TrainError::NoPackedWeights)));
}

#[test]
fn a_training_that_was_stopped_gives_no_model() {
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = samples(8, &|x| model.forward(x), &device);
    let scheme: Scheme = "w4g12".parse().unwrap();
    let stopped = Interrupter::new();
    stopped.stop(Some("the user"));
    let block_ap = BlockApConfig::new(scheme, Weights::linears()).init();
    let launched = block_ap.launch(
        training(&set, &set).with_interrupter(stopped.clone()),
        model.clone(),
    );
    assert!(matches!(launched, Err(TrainError::Interrupted)));
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let launched = E2eQpConfig::new()
        .init()
        .launch(training(&set, &set).with_interrupter(stopped), packed);
    assert!(matches!(launched, Err(TrainError::Interrupted)));
}

/// A model whose blocks are what a test says.
#[derive(Module, Debug)]
struct Broken {
    first: Linear,
    second: Linear,
    #[module(skip)]
    blocks: Vec<String>,
}

impl Broken {
    fn new(blocks: &[&str]) -> Self {
        let device = Device::flex();
        Self {
            first: LinearConfig::new(24, 24).init(&device),
            second: LinearConfig::new(24, 20).init(&device),
            blocks: blocks.iter().map(|path| path.to_string()).collect(),
        }
    }
}

impl Blockwise for Broken {
    type Batch = Batch;
    type Hidden = Tensor<3>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        self.blocks.clone()
    }
    fn embed(&self, batch: Batch) -> Result<(Tensor<3>, ()), ModelError> {
        Ok((batch.input, ()))
    }
    fn run_block(&self, index: usize, x: Tensor<3>, _: &()) -> Result<Tensor<3>, ModelError> {
        if index == 1 {
            return Err("second: its file has changed".into());
        }
        Ok(self.first.forward(x))
    }
}

#[test]
fn blocks_that_cannot_be_are_named() {
    let _random = seeded(12);
    let set = samples(8, &|x| x, &Device::flex());
    let error = |blocks: &[&str]| {
        let config = BlockApConfig::new("w4g12".parse().unwrap(), Weights::linears());
        let phase = config.init();
        let run = phase.run(
            Broken::new(blocks),
            loader(&set, 8),
            loader(&[], 8),
            &mut |_| Ok(()),
        );
        run.unwrap_err().to_string()
    };
    assert!(error(&[]).starts_with("the model has no blocks"));
    assert!(
        error(&["first", "second", "first"]).starts_with("block first is a part of block first")
    );
    assert!(
        error(&["first", "first.weight"])
            .starts_with("block first.weight is a part of block first")
    );
    assert!(
        error(&["first", "sekond", "second"])
            .starts_with("block sekond: the model has no parameter")
    );
    assert_eq!(
        error(&["first"]),
        "selected weights are in no block of the model: second.weight"
    );
    // The model's own error arrives with its message.
    assert_eq!(error(&["first", "second"]), "second: its file has changed");
}

/// A classifier with Burn's own output.
#[derive(Module, Debug)]
struct Classifier {
    first: Linear,
    second: QuantLinear,
}

type Labelled = (Tensor<2>, Tensor<1, Int>);

impl Classifier {
    fn new(device: &Device) -> Self {
        Self {
            first: LinearConfig::new(16, 24).init(device),
            second: QuantLinearConfig::new(24, 5).init(device),
        }
    }

    fn classify(&self, (x, targets): Labelled) -> ClassificationOutput {
        let logits = self.second.forward(relu(self.first.forward(x)));
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        let loss = loss.forward(logits.clone(), targets.clone());
        ClassificationOutput::new(loss, logits, targets)
    }
}

impl TrainStep for Classifier {
    type Input = Labelled;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled) -> TrainOutput<ClassificationOutput> {
        let batch = (Tensor::from_inner(batch.0), Tensor::from_inner(batch.1));
        let output = self.classify(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Classifier {
    type Input = Labelled;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled) -> ClassificationOutput {
        self.classify(batch)
    }
}

impl Blockwise for Classifier {
    type Batch = Labelled;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        vec!["first".to_string(), "second".to_string()]
    }
    fn embed(&self, batch: Labelled) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((batch.0, ()))
    }
    fn run_block(&self, index: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        Ok(if index == 0 {
            relu(self.first.forward(x))
        } else {
            self.second.forward(x)
        })
    }
}

fn labelled(count: usize, width: usize) -> Vec<Labelled> {
    let device = Device::flex();
    let batch = |_| {
        let x = Tensor::<2>::random([6, width], Distribution::Normal(0.0, 1.0), &device);
        let targets = Tensor::<1, Int>::from_data([0, 1, 2, 3, 4, 0], &device);
        (x, targets)
    };
    (0..count).map(batch).collect()
}

/// What is written to it, shared.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(String::from).collect()
    }
}

/// Burn's own outputs will do; a plain renderer writes a line for each epoch.
#[test]
fn a_classifier_with_burns_output_goes_through_both_phases() {
    let _random = seeded(13);
    let (train, valid) = (labelled(4, 16), labelled(2, 16));
    let training = |page: &Page, label: &str| {
        let training = SupervisedTraining::<Classifier>::new(
            std::env::temp_dir(),
            batches(train.clone()),
            batches(valid.clone()),
        );
        training
            .with_metric_logger(burn::train::logger::InMemoryMetricLogger::default())
            .with_application_logger(None)
            .renderer(Box::new(ProgressLines::new(page.clone())))
            .label(label)
            .metric_train_numeric(LossMetric::new())
            .metric_valid_numeric(LossMetric::new())
    };
    let model = Classifier::new(&Device::flex());
    let page = Page::default();
    let phase = BlockApConfig::new("w2g8".parse().unwrap(), Weights::linears()).init();
    let packed = phase
        .launch(training(&page, "block-ap"), model.clone())
        .unwrap();
    let lines = page.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (epoch, line) in lines.iter().enumerate() {
        let start = format!("block-ap {}/4: Loss ", epoch + 1);
        assert!(
            line.starts_with(&start) && line.contains("validation"),
            "{line}"
        );
        assert!(line.ends_with(" s left"), "{line}");
    }
    let page = Page::default();
    let phase = E2eQpConfig::new().with_epochs(2).init();
    let tuned = phase
        .launch(training(&page, "e2e-qp"), packed.clone())
        .unwrap();
    assert_eq!(page.lines().len(), 2);
    assert_ne!(
        packed.first.weight.base().into_data(),
        tuned.first.weight.base().into_data()
    );

    // The same by events: the rates, then a line for each epoch.
    let page = Page::default();
    let mut lines = ProgressLines::new(page.clone()).with_note(|| Some("peak 3 MB".to_string()));
    let phase = BlockApConfig::new("w2g8".parse().unwrap(), Weights::linears()).init();
    let run = phase.run(
        model,
        batches(train.clone()),
        batches(valid.clone()),
        &mut |event| {
            lines.event(&event);
            Ok(())
        },
    );
    let data = |model: &Classifier| model.first.weight.base().into_data();
    data(&run.unwrap()).assert_eq(&data(&packed), true);
    let lines = page.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(
        lines[0].starts_with("Block-AP: learning rates 0.024s"),
        "{lines:?}"
    );
    assert!(
        lines[4].starts_with("Block-AP, block 2 of 2, epoch 2 of 2: loss ")
            && lines[4].ends_with(", 16 of 16 batches, 0 s left, peak 3 MB"),
        "{lines:?}"
    );

    // Without the least time between lines, one for each batch, too.
    let page = Page::default();
    let mut lines = ProgressLines::new(page.clone()).with_interval(std::time::Duration::ZERO);
    let phase = E2eQpConfig::new().init();
    let run = phase.run(
        packed,
        batches(train.clone()),
        batches(valid.clone()),
        &mut |event| {
            lines.event(&event);
            Ok(())
        },
    );
    run.unwrap();
    let lines = page.lines();
    assert_eq!(lines.len(), 1 + 4 + 2 + 1, "{lines:?}");
    assert!(
        lines[2].starts_with("E2E-QP, epoch 1 of 1: loss ")
            && lines[2].contains(", 2 of 4 items, "),
        "{lines:?}"
    );
    assert!(lines[7].contains(", validation "), "{lines:?}");
}

/// A callback may end a phase; what it failed with comes out.
#[test]
fn a_callback_ends_a_phase() {
    let _random = seeded(15);
    let model = Classifier::new(&Device::flex());
    let phase = BlockApConfig::new("w4g8".parse().unwrap(), Weights::linears()).init();
    let data = || batches(labelled(2, 16));
    let run = phase.run(model, data(), data(), &mut |event| match event {
        TrainEvent::BlockEnd { .. } => Err(TrainError::Callback("the disk is full".into())),
        _ => Ok(()),
    });
    assert_eq!(run.unwrap_err().to_string(), "the disk is full");
}
