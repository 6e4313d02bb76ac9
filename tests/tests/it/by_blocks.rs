//! E2E-QP by blocks: gradients and step sizes are those of a backward pass through the whole model.

use super::any_model::{Batch, Encoder, Mlp, loader, samples, training};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::activation::tanh;
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn::train::{InferenceStep, LearnerModel, TrainOutput, TrainStep};
use burn_eqat::lm::TokenBatch;
use burn_eqat::train::{
    Blockwise, E2eQpConfig, ModelError, QatOutput, StepLoss, TrainError, TrainEvent,
    backward_by_blocks,
};
use burn_eqat::{EfficientQatConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::{assert_close, assert_near, seeded};
use llama::LlamaConfig;
use llama::model::Llama;

/// What is there for each float parameter, by path.
fn by_path<M: Module>(model: &M, grads: Option<&GradientsParams>) -> Vec<(String, Vec<f32>)> {
    struct Collect<'a> {
        path: Vec<String>,
        grads: Option<&'a GradientsParams>,
        found: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = match self.grads {
                Some(grads) => grads.get::<D>(param.id),
                None => Some(param.val()),
            };
            if let Some(tensor) = tensor {
                let values = tensor.into_data().iter::<f32>().collect();
                self.found.push((self.path.join("."), values));
            }
        }
    }
    let mut collect = Collect {
        path: Vec::new(),
        grads,
        found: Vec::new(),
    };
    model.visit(&mut collect);
    collect.found
}

/// The loss of a batch and the gradients of so many parameters are the same by blocks, and no others are there.
pub(super) fn assert_same_gradients<M>(packed: M, batch: <M as Blockwise>::Batch, trained: usize)
where
    M: LearnerModel + Blockwise + TrainStep<Input = <M as Blockwise>::Batch>,
    <M as TrainStep>::Output: StepLoss,
{
    let model = packed.train_scales_only().train();
    let plain = TrainStep::step(&model, batch.clone());
    let (loss, grads) = backward_by_blocks(&model, batch).unwrap();
    let number = |loss: Tensor<1>| vec![loss.into_scalar::<f32>()];
    assert!(!loss.is_autodiff());
    assert_close(
        "loss",
        &number(loss),
        &number(plain.item.loss().inner()),
        1e-6,
    );
    let expected = by_path(&model, Some(&plain.grads));
    let actual = by_path(&model, Some(&grads));
    assert_eq!(actual.len(), trained);
    assert_eq!(grads.len(), trained);
    assert_eq!(actual.len(), expected.len());
    for ((path, actual), (expected_path, expected)) in actual.iter().zip(&expected) {
        assert_eq!(path, expected_path);
        assert!(expected.iter().any(|value| *value != 0.0), "{path}");
        assert_close(path, actual, expected, 1e-5);
    }
}

#[test]
fn gradients_of_an_mlp() {
    let (_random, device) = (seeded(31), Device::flex());
    let model = Mlp::new(&device);
    let set = samples(8, &|x| model.forward(x), &device);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let batch = loader(&set, 8).iter().next().unwrap().unwrap();
    assert_same_gradients(packed, batch, 3);
}

#[test]
fn gradients_of_a_llama() {
    let (_random, device) = (seeded(32), Device::flex());
    for tied in [false, true] {
        let config: LlamaConfig = serde_json::from_value(serde_json::json!({
            "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied,
        }))
        .unwrap();
        let model = config.init(&device);
        let scheme: Scheme = "w2g16".parse().unwrap();
        let packed = model
            .quantize_rtn(&Llama::quantized_weights(), scheme)
            .unwrap();
        let ids = Distribution::Uniform(0.0, 39.0);
        let batch = TokenBatch::from(Tensor::<2>::random([2, 20], ids, &device).int());
        assert_same_gradients(packed, batch, 3 * 7);
    }
}

/// Layers before and behind the blocks train, too, one of them through the context; flows are nested.
#[derive(Module, Debug)]
struct Stemmed {
    stem: Linear,
    shift: Linear,
    layers: Vec<Linear>,
    head: Linear,
}

type State = (Tensor<2>, (Tensor<2>, Tensor<2>));

impl Stemmed {
    fn new(device: &Device) -> Self {
        let linear = || LinearConfig::new(8, 8).init(device);
        Self {
            stem: linear(),
            shift: linear(),
            layers: (0..3).map(|_| linear()).collect(),
            head: linear(),
        }
    }

    fn loss(&self, batch: Tensor<2>) -> Result<Tensor<1>, ModelError> {
        let (mut hidden, context) = self.embed(batch.clone())?;
        for index in 0..self.layers.len() {
            hidden = self.run_block(index, hidden, &context)?;
        }
        self.output_loss(hidden, &context, batch)
    }
}

impl Blockwise for Stemmed {
    type Batch = Tensor<2>;
    type Hidden = State;
    /// What is added before each layer, and the order in which rows leave it.
    type Context = (Vec<Tensor<2>>, Option<Tensor<1, Int>>);

    fn blocks(&self) -> Vec<String> {
        let layers = 0..self.layers.len();
        layers.map(|index| format!("layers.{index}")).collect()
    }

    fn embed(&self, batch: Tensor<2>) -> Result<(State, Self::Context), ModelError> {
        let order = Tensor::from_data([2, 0, 1], &batch.device());
        let shift = tanh(self.shift.forward(batch.clone()));
        let stem = self.stem.forward(batch.clone());
        Ok(((stem, (batch.clone(), batch)), (vec![shift], Some(order))))
    }

    fn run_block(
        &self,
        index: usize,
        (a, (b, factor)): State,
        (shift, order): &Self::Context,
    ) -> Result<State, ModelError> {
        let y = tanh(self.layers[index].forward(a.clone() + shift[0].clone()));
        let y = y.select(0, order.clone().unwrap());
        let y = if index == 1 { y * factor.clone() } else { y };
        Ok((y, (b + a, factor)))
    }

    /// What the last layer made is left out, so that layer gets no gradient.
    fn output_loss(
        &self,
        (_, (b, _)): State,
        (shift, _): &Self::Context,
        batch: Tensor<2>,
    ) -> Result<Tensor<1>, ModelError> {
        let output = self.head.forward(b) + shift[0].clone();
        Ok((output - batch).square().mean())
    }
}

impl TrainStep for Stemmed {
    type Input = Tensor<2>;
    type Output = QatOutput;

    fn step(&self, batch: Tensor<2>) -> TrainOutput<QatOutput> {
        let loss = self.loss(batch).unwrap();
        TrainOutput::new(self, loss.backward(), QatOutput::new(loss))
    }
}

impl InferenceStep for Stemmed {
    type Input = Tensor<2>;
    type Output = QatOutput;

    fn step(&self, batch: Tensor<2>) -> QatOutput {
        QatOutput::new(self.loss(batch).unwrap())
    }
}

#[test]
fn gradients_outside_of_the_blocks() {
    let (_random, device) = (seeded(33), Device::flex());
    let scheme: Scheme = "w4g8".parse().unwrap();
    let model = Stemmed::new(&device);
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let batch = Tensor::random([3, 8], Distribution::Normal(0.0, 1.0), &device);
    // All but the last layer's.
    assert_same_gradients(packed, batch, 5);
}

/// The whole phase, with gradients of one batch and of three to a step; five batches, so that a rest is left over.
#[test]
fn the_phase_ends_with_the_same_step_sizes() {
    let (_random, device) = (seeded(34), Device::flex());
    let model = Mlp::new(&device);
    let set = samples(40, &|x| model.forward(x), &device);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    for accumulation in [1, 3] {
        let config = E2eQpConfig::new()
            .with_learning_rate(Some(1e-3.into()))
            .with_epochs(2)
            .with_grad_accumulation(accumulation)
            .with_round_scales(false);
        let (train, valid) = (loader(&set, 8), loader(&set[..8], 8));
        let mut losses = [Vec::new(), Vec::new()];
        let [plain_losses, block_losses] = &mut losses;
        let hear = |losses: &mut Vec<f32>, event| {
            if let TrainEvent::Batch { loss, .. } = event {
                losses.push(loss.into_scalar::<f32>());
            }
            Ok(())
        };
        let plain = config
            .init()
            .run(packed.clone(), train.clone(), valid.clone(), &mut |event| {
                hear(plain_losses, event)
            });
        let by_blocks = config.with_recompute(true).init().run_by_blocks(
            packed.clone(),
            train,
            valid,
            &mut |event| hear(block_losses, event),
        );
        assert_eq!(losses[0].len(), 2 * (5 + 1));
        assert_close("losses", &losses[1], &losses[0], 1e-4);
        let before = by_path(&packed, None);
        let plain = by_path(&plain.unwrap(), None);
        let by_blocks = by_path(&by_blocks.unwrap(), None);
        let mut moved = 0;
        for (((path, before), (_, expected)), (_, actual)) in
            before.iter().zip(&plain).zip(&by_blocks)
        {
            let way = |after: &[f32]| -> Vec<f32> {
                after.iter().zip(before).map(|(a, b)| a - b).collect()
            };
            if before != expected {
                moved += 1;
                assert_near(path, &way(actual), &way(expected), 1e-2);
            } else {
                assert_eq!(actual, expected, "{path}");
            }
        }
        assert_eq!(moved, 3, "step sizes of all layers, and nothing else");
    }
}

/// The recipe takes the way that its configuration says.
#[test]
fn the_recipe_goes_by_blocks_where_it_is_told_to() {
    let (_random, device) = (seeded(35), Device::flex());
    let model = Mlp::new(&device);
    let set = samples(32, &|x| model.forward(x), &device);
    let batch: Batch = loader(&set, 32).iter().next().unwrap().unwrap();
    let config = EfficientQatConfig::new("w2g12".parse().unwrap(), Weights::linears())
        .with_e2e_learning_rate(Some(1e-3.into()))
        .with_grad_accumulation(2);
    let data = || (loader(&set, 8), loader(&[], 8));
    let error = |config: &EfficientQatConfig| {
        let tuned = config.init().run(model.clone(), data(), &mut ()).unwrap();
        let output = InferenceStep::step(&tuned, batch.clone());
        vec![output.loss.into_scalar::<f32>()]
    };
    let plain = error(&config);
    let by_blocks = error(&config.clone().with_recompute(true));
    assert_close("loss", &by_blocks, &plain, 1e-3);

    // A model that has no loss behind its blocks says what it lacks.
    let model = Encoder::new(&device);
    let set = samples(8, &|x| model.forward(x), &device);
    let weights = Weights::in_blocks(&model).except("bias|norm").unwrap();
    let config = EfficientQatConfig::new("w2g12".parse().unwrap(), weights);
    let data = (loader(&set, 8), loader(&[], 8));
    let recipe = config.with_recompute(true).init();
    let error = recipe.run(model, data, &mut ()).unwrap_err();
    assert!(matches!(error, TrainError::Model(_)));
    let error = error.to_string();
    assert!(
        error.contains("Encoder has no loss behind its blocks: implement Blockwise::output_loss"),
        "{error}"
    );
}

/// Ways that take a model as a whole do not pass over the setting.
#[test]
fn a_model_as_a_whole_cannot_be_recomputed() {
    let (_random, device) = (seeded(36), Device::flex());
    let model = Mlp::new(&device);
    let set = samples(8, &|x| model.forward(x), &device);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let phase = E2eQpConfig::new().with_recompute(true).init();
    let ran = phase.run(
        packed.clone(),
        loader(&set, 8),
        loader(&set, 8),
        &mut |_| Ok(()),
    );
    let launched = phase.launch(training::<Mlp>(&set, &set), packed);
    for (result, called) in [(ran, "run"), (launched, "launch")] {
        let error = result.unwrap_err();
        assert!(matches!(error, TrainError::Setting(_)));
        let expected = format!(
            "recompute of E2E-QP needs E2eQp::run_by_blocks: E2eQp::{called} knows no blocks"
        );
        assert_eq!(error.to_string(), expected);
    }
}

/// A loss that no gradient reaches is named, and so is a block that is not the same the second time.
#[test]
fn what_cannot_be_run_again_is_an_error() {
    #[derive(Module, Debug)]
    struct Fickle {
        layer: Linear,
        #[module(skip)]
        constant: bool,
    }
    impl Blockwise for Fickle {
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
            let y = self.layer.forward(x);
            Ok(if y.is_autodiff() {
                y.slice_dim(0, 0..1)
            } else {
                y
            })
        }
        fn output_loss(&self, x: Tensor<2>, _: &(), _: Tensor<2>) -> Result<Tensor<1>, ModelError> {
            let loss = x.sum();
            Ok(if self.constant { loss.detach() } else { loss })
        }
    }
    let (_random, device) = (seeded(37), Device::flex());
    for (constant, expected) in [
        (false, "block 0 made other shapes when it was run again"),
        (true, "the loss does not depend on what the last block made"),
    ] {
        let model = Fickle {
            layer: LinearConfig::new(4, 4).init(&device),
            constant,
        };
        let scheme: Scheme = "w4g4".parse().unwrap();
        let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
        let model = packed.train_scales_only().train();
        let batch = Tensor::ones([2, 4], &device);
        let error = backward_by_blocks(&model, batch).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
