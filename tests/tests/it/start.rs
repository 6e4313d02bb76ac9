//! Start values of Block-AP that are searched for, and rates in step sizes.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_eqat::train::{
    BlockApConfig, BlockRates, BlockSample, BlockStep, BlockTrainer, Blockwise, ModelError, Rate,
};
use burn_eqat::{Quantize, Scheme, StartValues, Weights};
use burn_eqat_tests::{batches, seeded};

/// Two layers without biases, each a block.
#[derive(Module, Debug)]
struct Pair {
    first: Linear,
    second: Linear,
}

impl Pair {
    fn new(device: &Device) -> Self {
        let layer = || LinearConfig::new(24, 24).with_bias(false).init(device);
        Self {
            first: layer(),
            second: layer(),
        }
    }
}

impl Blockwise for Pair {
    type Batch = Tensor<2>;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        vec!["first".into(), "second".into()]
    }

    fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((batch, ()))
    }

    fn run_block(&self, index: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        Ok([&self.first, &self.second][index].forward(x))
    }
}

fn config() -> BlockApConfig {
    BlockApConfig::new("w2g12".parse().unwrap(), Weights::linears())
}

/// Inputs of which a few columns are much larger than the others.
fn batch(device: &Device) -> Tensor<2> {
    let x = Tensor::<2>::random([32, 24], Distribution::Normal(0.0, 1.0), device);
    let large = Tensor::<2>::ones([32, 3], device) * 20.0;
    let small = Tensor::<2>::ones([32, 21], device);
    x * Tensor::cat(vec![large, small], 1)
}

/// The output error of a model, relative to the original's output.
fn error(model: &Pair, original: &Pair, x: &Tensor<2>) -> f64 {
    let run = |model: &Pair| model.second.forward(model.first.forward(x.clone()));
    let (output, target) = (run(model), run(original));
    let size: f64 = target.clone().square().mean().into_scalar();
    let error: f64 = (output - target).square().mean().into_scalar();
    error / size
}

#[test]
fn what_matters_for_the_output_is_found_by_the_samples() {
    let (_random, device) = (seeded(71), Device::flex());
    let model = Pair::new(&device);
    let x = batch(&device);
    let target = model.run_block(0, x.clone(), &()).unwrap();
    let sample = BlockSample {
        input: x,
        target,
        context: (),
    };
    let begin = |start: StartValues, samples: usize| {
        let config = config().with_start(start);
        let samples = (0..samples).map(|_| Ok(sample.clone()));
        let trainer = BlockTrainer::with_samples(model.clone(), 0, &config, samples).unwrap();
        let begun = trainer.model().valid();
        let loss = trainer.validate(&begun, sample.clone()).unwrap();
        loss.into_scalar::<f64>()
    };
    let range = begin(StartValues::MinMax, 4);
    let alike = begin(StartValues::Searched, 0);
    let known = begin(StartValues::Searched, 4);
    assert!(alike < 0.9 * range, "{alike} {range}");
    assert!(known < 0.7 * alike, "{known} {alike}");
}

/// With rates of zero, what Block-AP ends with is what it starts with.
#[test]
fn the_phase_starts_each_block_there() {
    let (_random, device) = (seeded(72), Device::flex());
    let original = Pair::new(&device);
    let x = batch(&device);
    let packed = |start| {
        let phase = config()
            .with_start(start)
            .with_epochs(1)
            .with_quant_learning_rate(Some(0.0.into()))
            .with_weight_learning_rate(Some(0.0.into()))
            .init();
        let (train, none) = (batches(vec![x.clone()]), batches(Vec::new()));
        let packed = phase.run(original.clone(), train, none, &mut |_| Ok(()));
        packed.unwrap()
    };
    let [range, searched, again] = [
        StartValues::MinMax,
        StartValues::Searched,
        StartValues::Searched,
    ]
    .map(packed);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let rounded = original
        .clone()
        .quantize_rtn(&Weights::linears(), scheme)
        .unwrap();
    let of = |model: &Pair| error(model, &original, &x);
    assert_eq!(of(&range), of(&rounded));
    assert!(of(&searched) < 0.6 * of(&range));
    // Its random signs are the same in every run.
    assert_eq!(of(&searched), of(&again));
}

/// Larger weights for inputs that are as much smaller train to the same codes.
#[test]
fn rates_in_steps_do_not_depend_on_the_size_of_weights() {
    let (_random, device) = (seeded(73), Device::flex());
    let model = Pair::new(&device);
    let x = Tensor::<2>::random([32, 24], Distribution::Normal(0.0, 1.0), &device);
    let target = model.run_block(0, x.clone(), &()).unwrap();
    let codes = |scale: f64, rates: [Rate; 2]| {
        let mut model = model.clone();
        let weight = model.first.weight.val() * scale;
        model.first.weight = Param::from_tensor(weight);
        let mut trainer = BlockTrainer::new(model, 0, &config()).unwrap();
        let sample = BlockSample {
            input: x.clone() / scale,
            target: target.clone(),
            context: (),
        };
        let [quantizer, weights] = rates;
        let rates = BlockRates { quantizer, weights };
        for _ in 0..20 {
            let step = trainer.step(sample.clone(), rates).unwrap();
            assert!(matches!(step, BlockStep::Taken { .. }));
        }
        let packed = trainer.model().valid().pack().unwrap();
        // In units of the scale.
        (packed.first.weight.val() / scale).into_data()
    };
    let in_steps = [Rate::InSteps(0.05), Rate::InSteps(0.05)];
    let (one, large) = (codes(1.0, in_steps), codes(8.0, in_steps));
    let differ = |a: &burn::tensor::TensorData, b: &burn::tensor::TensorData| {
        let pairs = a.iter::<f32>().zip(b.iter::<f32>());
        let far = pairs.filter(|(a, b)| (a - b).abs() > 1e-3 * a.abs().max(1e-3));
        far.count()
    };
    // The epsilon of AdamW is absolute, so a weight may fall to the next code.
    let few = differ(&one, &large);
    assert!(few <= 6, "{few} of 576");
    let absolute = [1e-3.into(), 1e-3.into()];
    let many = differ(&codes(1.0, absolute), &codes(8.0, absolute));
    assert!(many > 60, "{many} of 576");
}
