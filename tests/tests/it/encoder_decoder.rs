//! An encoder and a decoder with cross-attention: blocks of different types, a pair as hidden state.

use super::by_blocks::assert_same_gradients;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn::train::{InferenceStep, RegressionOutput, TrainOutput, TrainStep};
use burn_eqat::train::{BlockApConfig, Blockwise, E2eQpConfig, ModelError, TrainEvent};
use burn_eqat::{EfficientQatConfig, Packed, Quantize, Scheme, Stage, StageName, Weights};
use burn_eqat_tests::{batches, seeded, values};
use std::sync::{Arc, Mutex};

const WIDTH: usize = 16;

#[derive(Module, Debug)]
struct EncoderBlock {
    norm: LayerNorm,
    up: Linear,
    down: Linear,
}

#[derive(Module, Debug)]
struct DecoderBlock {
    norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
}

/// What a block was run on.
#[derive(Clone, Debug)]
struct Seen {
    block: usize,
    training: bool,
    memory: TensorData,
}

#[derive(Module, Debug)]
struct Translator {
    encoder: Vec<EncoderBlock>,
    decoder: Vec<DecoderBlock>,
    head: Linear,
    #[module(skip)]
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Source and target sequences, and what the model should make of them.
#[derive(Clone, Debug)]
struct Pair {
    source: Tensor<3>,
    target: Tensor<3>,
    wanted: Tensor<3>,
}

/// The encoder's output so far, and the decoder's.
type State = (Tensor<3>, Tensor<3>);

impl Translator {
    fn new(device: &Device) -> Self {
        let linear = |d_input, d_output| LinearConfig::new(d_input, d_output).init(device);
        let norm = || LayerNormConfig::new(WIDTH).init(device);
        Self {
            encoder: (0..2)
                .map(|_| EncoderBlock {
                    norm: norm(),
                    up: linear(WIDTH, 2 * WIDTH),
                    down: linear(2 * WIDTH, WIDTH),
                })
                .collect(),
            decoder: (0..2)
                .map(|_| DecoderBlock {
                    norm: norm(),
                    query: linear(WIDTH, WIDTH),
                    key: linear(WIDTH, WIDTH),
                    value: linear(WIDTH, WIDTH),
                })
                .collect(),
            head: linear(WIDTH, 12),
            seen: Arc::default(),
        }
    }

    fn run(&self, index: usize, (memory, x): State) -> State {
        match index {
            0 | 1 => {
                let block = &self.encoder[index];
                let fed = gelu(block.up.forward(block.norm.forward(memory.clone())));
                (memory + block.down.forward(fed), x)
            }
            2 | 3 => {
                let block = &self.decoder[index - 2];
                let query = block.query.forward(block.norm.forward(x.clone()));
                let key = block.key.forward(memory.clone());
                let value = block.value.forward(memory.clone());
                let scores = softmax(query.matmul(key.transpose()), 2);
                (memory, x + scores.matmul(value))
            }
            _ => (memory, self.head.forward(x)),
        }
    }

    fn forward(&self, source: Tensor<3>, target: Tensor<3>) -> Tensor<3> {
        (0..5)
            .fold((source, target), |state, index| self.run(index, state))
            .1
    }

    fn encode(&self, source: Tensor<3>) -> TensorData {
        let state = (source.clone(), source);
        self.run(1, self.run(0, state)).0.into_data()
    }

    fn linears(&self) -> Vec<&Linear> {
        let encoder = self
            .encoder
            .iter()
            .flat_map(|block| [&block.up, &block.down]);
        let decoder = self.decoder.iter();
        let decoder = decoder.flat_map(|block| [&block.query, &block.key, &block.value]);
        encoder.chain(decoder).chain([&self.head]).collect()
    }

    fn regress(&self, batch: Pair) -> RegressionOutput {
        let output = self.forward(batch.source, batch.target);
        let loss = (output.clone() - batch.wanted.clone()).square().mean();
        RegressionOutput::new(loss, output.flatten(0, 1), batch.wanted.flatten(0, 1))
    }
}

impl Blockwise for Translator {
    type Batch = Pair;
    type Hidden = State;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        ["encoder.0", "encoder.1", "decoder.0", "decoder.1", "head"]
            .map(String::from)
            .to_vec()
    }

    fn embed(&self, batch: Pair) -> Result<(State, ()), ModelError> {
        Ok(((batch.source, batch.target), ()))
    }

    fn run_block(&self, index: usize, state: State, _: &()) -> Result<State, ModelError> {
        self.seen.lock().unwrap().push(Seen {
            block: index,
            training: state.0.is_autodiff(),
            memory: state.0.to_data(),
        });
        Ok(self.run(index, state))
    }

    fn reconstruction_error(&self, index: usize, output: State, target: State) -> Tensor<1> {
        let difference = if index < 2 {
            output.0 - target.0
        } else {
            output.1 - target.1
        };
        difference.square().mean()
    }

    fn output_loss(
        &self,
        (_memory, output): State,
        _: &(),
        batch: Pair,
    ) -> Result<Tensor<1>, ModelError> {
        Ok((output - batch.wanted).square().mean())
    }
}

impl TrainStep for Translator {
    type Input = Pair;
    type Output = RegressionOutput;

    fn step(&self, batch: Pair) -> TrainOutput<RegressionOutput> {
        let output = self.regress(Pair {
            source: Tensor::from_inner(batch.source),
            target: Tensor::from_inner(batch.target),
            wanted: Tensor::from_inner(batch.wanted),
        });
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Translator {
    type Input = Pair;
    type Output = RegressionOutput;

    fn step(&self, batch: Pair) -> RegressionOutput {
        self.regress(batch)
    }
}

fn pairs(count: usize, teacher: &Translator) -> Vec<Pair> {
    let device = Device::flex();
    let random =
        |seq| Tensor::<3>::random([4, seq, WIDTH], Distribution::Normal(0.0, 1.0), &device);
    let pair = |_| {
        let (source, target) = (random(5), random(3));
        let wanted = teacher.forward(source.clone(), target.clone());
        Pair {
            source,
            target,
            wanted,
        }
    };
    (0..count).map(pair).collect()
}

fn loss(model: &Translator, data: &[Pair]) -> f64 {
    let losses = data
        .iter()
        .map(|pair| model.regress(pair.clone()).loss.into_scalar::<f64>());
    losses.sum::<f64>() / data.len() as f64
}

#[test]
fn goes_through_both_phases() {
    let _random = seeded(21);
    let teacher = Translator::new(&Device::flex());
    let (train, valid) = (pairs(24, &teacher), pairs(6, &teacher));
    let scheme: Scheme = "w2g8".parse().unwrap();
    let rtn = teacher
        .clone()
        .quantize_rtn(&Weights::linears(), scheme)
        .unwrap();

    let mut first_losses = [None; 5];
    let block_ap = BlockApConfig::new(scheme, Weights::linears())
        .with_quant_learning_rate(Some(3e-3.into()))
        .with_weight_learning_rate(Some(3e-3.into()))
        .init();
    let data = |set: &[Pair]| batches(set.to_vec());
    let mut on_event = |event: TrainEvent| {
        if let TrainEvent::Batch { epoch, loss, .. } = event {
            let first = &mut first_losses[epoch.block.unwrap()];
            first.get_or_insert(loss.into_scalar::<f64>());
        }
        Ok(())
    };
    let packed = block_ap
        .run(teacher.clone(), data(&train), data(&valid), &mut on_event)
        .unwrap();
    for linear in packed.linears() {
        assert!(linear.weight.reparameterization::<Packed>().is_some());
    }
    assert!(loss(&packed, &valid) < loss(&rtn, &valid));

    // Decoder blocks train on what the packed encoder makes, and are compared with what the original decoder makes of
    // the original encoder's output.
    let original: Vec<TensorData> = train
        .iter()
        .map(|p| teacher.encode(p.source.clone()))
        .collect();
    let quantized: Vec<TensorData> = train
        .iter()
        .map(|p| packed.encode(p.source.clone()))
        .collect();
    for (a, b) in original.iter().zip(&quantized) {
        assert_ne!(a, b, "two bits change what the encoder makes");
    }
    let seen = teacher.seen.lock().unwrap().clone();
    for block in [2, 3, 4] {
        let seen: Vec<&Seen> = seen.iter().filter(|seen| seen.block == block).collect();
        // First the targets: every training batch through the original.
        for (seen, expected) in seen.iter().zip(&original) {
            assert!(!seen.training);
            seen.memory.assert_eq(expected, true);
        }
        // Then the epochs, in order, on the quantized encoder's output.
        let training: Vec<&&Seen> = seen.iter().filter(|seen| seen.training).collect();
        assert_eq!(training.len(), 2 * train.len());
        for (step, seen) in training.iter().enumerate() {
            seen.memory.assert_eq(&quantized[step % train.len()], true);
        }
    }

    // The loss of a decoder block is that of its own part: the encoder's error is not in it.
    let (memory, x) = (train[0].source.clone(), train[0].target.clone());
    let off = (memory.clone() + 1.0, x.clone());
    let error = |index, output: State, target: State| {
        let error = teacher.reconstruction_error(index, output, target);
        error.into_scalar::<f64>()
    };
    assert_eq!(error(2, off.clone(), (memory.clone(), x.clone())), 0.0);
    assert!((error(1, off, (memory.clone(), x.clone())) - 1.0).abs() < 1e-6);
    // And the phase asks for it: the first loss of the first decoder block, computed here.
    let before = packed.encode(train[0].source.clone());
    let device = Device::flex();
    let start = teacher
        .clone()
        .attach_fake_quant(&Weights::linears(), scheme)
        .unwrap();
    let output = start.run(2, (Tensor::from_data(before, &device), x.clone()));
    let target = Tensor::from_data(original[0].clone(), &device);
    let expected = error(2, output, teacher.run(2, (target, x)));
    let first = first_losses[2].unwrap();
    assert!(
        (first - expected).abs() < 1e-5 * expected,
        "{first} is not {expected}"
    );

    let e2e = E2eQpConfig::new()
        .with_learning_rate(Some(1e-3.into()))
        .with_epochs(3)
        .init();
    let tuned = e2e
        .run(packed.clone(), data(&train), data(&valid), &mut |_| Ok(()))
        .unwrap();
    assert!(loss(&tuned, &valid) < loss(&packed, &valid));
    // Step sizes leave the phase as 16-bit floats hold them.
    for linear in tuned.linears() {
        for scale in values(linear.weight.base()) {
            assert_eq!(half::f16::from_f32(scale).to_f32(), scale);
        }
    }
}

/// The whole recipe in one call; what it made is in a file, to the bit.
#[test]
fn goes_through_the_recipe_and_a_file() {
    let _random = seeded(22);
    let teacher = Translator::new(&Device::flex());
    let (train, valid) = (pairs(24, &teacher), pairs(6, &teacher));
    let recipe = EfficientQatConfig::new("w2g8".parse().unwrap(), Weights::linears())
        .with_quant_learning_rate(Some(3e-3.into()))
        .with_weight_learning_rate(Some(3e-3.into()))
        .with_e2e_learning_rate(Some(1e-3.into()))
        .with_e2e_epochs(3)
        .init();
    let mut losses = Vec::new();
    let data = (batches(train), batches(valid.clone()));
    let packed = recipe.run(teacher, data, &mut |stage: &Stage<'_, Translator>| {
        losses.push((stage.name, loss(stage.model, &valid)));
    });
    let packed = packed.unwrap();
    let [full, rtn, block_ap, e2e_qp] = losses[..] else {
        panic!("{losses:?}");
    };
    assert_eq!(full, (StageName::FullPrecision, 0.0));
    assert!(block_ap.1 < rtn.1 && e2e_qp.1 < block_ap.1, "{losses:?}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("packed.safetensors");
    packed.save(&file).unwrap();
    let loaded = Translator::new(&Device::flex()).load(&file).unwrap();
    for linear in loaded.linears() {
        assert!(linear.weight.reparameterization::<Packed>().is_some());
    }
    for pair in valid {
        let output = |model: &Translator| {
            let output = model.forward(pair.source.clone(), pair.target.clone());
            output.into_data()
        };
        output(&loaded).assert_eq(&output(&packed), true);
    }
}

/// E2E-QP by blocks: the gradient of the memory is that of all decoder blocks together. Each block is run twice: in order without
/// recording, then backwards.
#[test]
fn gradients_of_a_pair() {
    let _random = seeded(22);
    let model = Translator::new(&Device::flex());
    let pair = pairs(1, &model).remove(0);
    let scheme: Scheme = "w2g8".parse().unwrap();
    let packed = model.quantize_rtn(&Weights::linears(), scheme).unwrap();
    let seen = packed.seen.clone();
    assert_same_gradients(packed, pair, 11);
    let seen = seen.lock().unwrap();
    let runs: Vec<_> = seen
        .iter()
        .map(|seen| (seen.block, seen.training))
        .collect();
    let expected = (0..5).map(|block| (block, false));
    let expected = expected.chain((0..5).rev().map(|block| (block, true)));
    assert_eq!(runs, expected.collect::<Vec<_>>());
}
