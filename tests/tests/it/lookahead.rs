//! Block-AP where a block's output is compared some original blocks further on, and relative to the size of each position.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_eqat::train::{
    BlockApConfig, Blockwise, DataSplit, ModelError, ReconstructionLoss, TrainEvent,
};
use burn_eqat::{Quantize, Scheme, Weights};
use burn_eqat_tests::{batches, seeded};

/// Layers in a row, each a block.
#[derive(Module, Debug)]
struct Layers {
    layers: Vec<Linear>,
    /// Whether tanh is behind each.
    #[module(skip)]
    bounded: bool,
}

impl Layers {
    fn new(device: &Device) -> Self {
        let layer = |_| LinearConfig::new(12, 12).init(device);
        Self {
            layers: (0..4).map(layer).collect(),
            bounded: true,
        }
    }

    /// What layers `from` to the end of `to` make of a batch.
    fn run(&self, from: usize, to: usize, x: Tensor<2>) -> Tensor<2> {
        let layers = &self.layers[from..=to];
        layers.iter().fold(x, |x, layer| match self.bounded {
            true => layer.forward(x).tanh(),
            false => layer.forward(x),
        })
    }
}

impl Blockwise for Layers {
    type Batch = Tensor<2>;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        let indices = 0..self.layers.len();
        indices.map(|index| format!("layers.{index}")).collect()
    }

    fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((batch, ()))
    }

    fn run_block(&self, index: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        Ok(self.run(index, index, x))
    }
}

fn config() -> BlockApConfig {
    BlockApConfig::new("w2g12".parse().unwrap(), Weights::linears()).with_epochs(1)
}

fn batch(device: &Device) -> Tensor<2> {
    Tensor::random([9, 12], Distribution::Normal(0.0, 1.0), device)
}

/// The model after Block-AP on these batches.
fn trained(model: &Layers, config: BlockApConfig, train: &[Tensor<2>]) -> Layers {
    let phase = config
        .with_quant_learning_rate(Some(3e-3.into()))
        .with_weight_learning_rate(Some(3e-3.into()))
        .init();
    let (data, none) = (batches(train.to_vec()), batches(Vec::new()));
    let packed = phase.run(model.clone(), data, none, &mut |_| Ok(()));
    packed.unwrap()
}

/// With rates of zero a block ends rounded to nearest, so each loss can be computed by hand.
#[test]
fn the_output_is_compared_further_on() {
    let (_random, device) = (seeded(61), Device::flex());
    let model = Layers::new(&device);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let rounded = model
        .clone()
        .quantize_rtn(&Weights::linears(), scheme)
        .unwrap();
    let (first, second) = (batch(&device), batch(&device));
    for lookahead in [0, 1, 2, 9] {
        let phase = config()
            .with_lookahead(lookahead)
            .with_quant_learning_rate(Some(0.0.into()))
            .with_weight_learning_rate(Some(0.0.into()))
            .init();
        let mut losses = Vec::new();
        let (train, valid) = (
            batches(vec![first.clone(), second.clone()]),
            batches(vec![second.clone()]),
        );
        let packed = phase.run(model.clone(), train, valid, &mut |event| {
            if let TrainEvent::SplitEnd {
                split: DataSplit::Valid,
                loss,
                ..
            } = event
            {
                losses.push(loss);
            }
            Ok(())
        });
        assert_eq!(packed.unwrap().size_report().packed_weights, 4 * 144);
        assert_eq!(losses.len(), 4);
        for (index, loss) in losses.into_iter().enumerate() {
            let last = (index + lookahead).min(3);
            let target = model.run(0, last, second.clone());
            let mut output = rounded.run(0, index, second.clone());
            if last > index {
                output = model.run(index + 1, last, output);
            }
            let expected: f64 = (output - target).square().mean().into_scalar();
            // Step sizes are 16-bit floats in the rounded model.
            let difference = (loss / expected - 1.0).abs();
            assert!(difference < 5e-3, "{lookahead} {index}: {loss} {expected}");
        }
    }
}

/// The trained block is better at what it is compared at.
#[test]
fn training_for_what_comes_behind_helps_there() {
    let (_random, device) = (seeded(62), Device::flex());
    let model = Layers::new(&device);
    let train: Vec<Tensor<2>> = (0..12).map(|_| batch(&device)).collect();
    let error = |lookahead: usize| {
        let config = config().with_lookahead(lookahead).with_epochs(12);
        let packed = trained(&model, config, &train);
        let difference = |x: &Tensor<2>| -> f64 {
            let both = packed.run(0, 3, x.clone()) - model.run(0, 3, x.clone());
            both.square().mean().into_scalar()
        };
        train.iter().map(difference).sum::<f64>()
    };
    let (here, behind) = (error(0), error(3));
    assert!(behind < here, "{behind} {here}");
}

/// A row that is a thousand times as large as the others drowns the squared error, and not the relative one, which is found by itself.
#[test]
fn a_massive_row_does_not_drown_the_others() {
    let (_random, device) = (seeded(63), Device::flex());
    // Without bounds, one layer.
    let model = Layers {
        layers: vec![LinearConfig::new(12, 12).with_bias(false).init(&device)],
        bounded: false,
    };
    let massive = Tensor::<2>::random([1, 12], Distribution::Normal(0.0, 1000.0), &device);
    let rows = |_| Tensor::cat(vec![batch(&device), massive.clone()], 0);
    let train: Vec<Tensor<2>> = (0..16).map(rows).collect();
    let ordinary = |loss: ReconstructionLoss| {
        let config = config().with_loss(loss).with_epochs(20);
        let packed = trained(&model, config, &train);
        let error = |x: &Tensor<2>| -> f64 {
            let x = x.clone().slice_dim(0, 0..9);
            let both = packed.run(0, 0, x.clone()) - model.run(0, 0, x);
            both.square().mean().into_scalar()
        };
        train.iter().map(error).sum::<f64>()
    };
    let (squared, relative) = (
        ordinary(ReconstructionLoss::Squared),
        ordinary(ReconstructionLoss::Relative),
    );
    assert!(relative < 0.9 * squared, "{relative} {squared}");
    assert_eq!(ordinary(ReconstructionLoss::Auto), relative);
}

#[test]
fn without_massive_rows_the_error_is_squared() {
    let (_random, device) = (seeded(64), Device::flex());
    let model = Layers::new(&device);
    let train: Vec<Tensor<2>> = (0..4).map(|_| batch(&device)).collect();
    let result = |loss| {
        let packed = trained(&model, config().with_loss(loss), &train);
        packed.run(0, 3, train[0].clone()).into_data()
    };
    let auto = result(ReconstructionLoss::Auto);
    assert_eq!(auto, result(ReconstructionLoss::Squared));
    assert_ne!(auto, result(ReconstructionLoss::Relative));
}
