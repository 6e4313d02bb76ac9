//! Bits of each weight by a budget.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_eqat::train::{BitsBudgetConfig, Blockwise, ModelError, TrainError, TrainEvent};
use burn_eqat::{Quantize, Schemes, Weights};
use burn_eqat_tests::{batches, seeded};

/// Two layers side by side, each a block; the loss hardly depends on the second.
#[derive(Module, Debug)]
struct Sum {
    layers: Vec<Linear>,
}

type Pair = (Tensor<2>, Tensor<2>);

impl Sum {
    fn new(device: &Device) -> Self {
        let layer = |_| LinearConfig::new(24, 24).with_bias(false).init(device);
        Self {
            layers: (0..2).map(layer).collect(),
        }
    }
}

impl Blockwise for Sum {
    type Batch = Pair;
    /// The input, and the sum so far.
    type Hidden = Pair;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        vec!["layers.0".into(), "layers.1".into()]
    }

    fn embed(&self, (x, _): Pair) -> Result<(Pair, ()), ModelError> {
        let zeros = x.zeros_like();
        Ok(((x, zeros), ()))
    }

    fn run_block(&self, index: usize, (x, sum): Pair, _: &()) -> Result<Pair, ModelError> {
        let weight = [1.0, 0.03][index];
        let output = self.layers[index].forward(x.clone()) * weight;
        Ok((x, sum + output))
    }

    fn output_loss(&self, (_, sum): Pair, _: &(), (_, y): Pair) -> Result<Tensor<1>, ModelError> {
        Ok((sum - y).square().mean())
    }
}

fn data(device: &Device) -> Vec<Pair> {
    let normal = || Tensor::random([16, 24], Distribution::Normal(0.0, 1.0), device);
    (0..6).map(|_| (normal(), normal())).collect()
}

fn schemes(model: &Sum, bits: f64, data: Vec<Pair>) -> Result<Schemes, TrainError> {
    let config = BitsBudgetConfig::new(bits).with_batches(4);
    let scheme = "w2g12".parse().unwrap();
    let mut heard = 0;
    let schemes = config.schemes(
        model,
        &Weights::linears(),
        scheme,
        batches(data),
        &mut |event| {
            heard += usize::from(matches!(event, TrainEvent::Pass { .. }));
            Ok(())
        },
    );
    assert!(schemes.is_err() || heard == 4, "{heard}");
    schemes
}

#[test]
fn what_the_loss_depends_on_gets_the_bits() {
    let (_random, device) = (seeded(81), Device::flex());
    let model = Sum::new(&device);
    let autodiff: Vec<Pair> = data(&device)
        .into_iter()
        .map(|(x, y)| (x.train(), y.train()))
        .collect();
    // 2 bits take 3.5 with step sizes and zero points, 8 take 10.
    for (budget, expected) in [
        (3.5, ["w2g12", "w2g12"]),
        (4.2, ["w3g12", "w2g12"]),
        (4.7, ["w4g12", "w2g12"]),
        (7.0, ["w8g12", "w2g12"]),
        (10.0, ["w8g12", "w8g12"]),
    ] {
        let schemes = schemes(&model, budget, autodiff.clone()).unwrap();
        let found = [0, 1].map(|index| schemes.of(&format!("layers.{index}.weight")).to_string());
        assert_eq!(found, expected, "{budget}");
        let bits: f64 = [0, 1]
            .map(|index| schemes.of(&format!("layers.{index}.weight")))
            .map(|scheme| scheme.bits_per_weight(24))
            .iter()
            .sum();
        assert!(bits / 2.0 <= budget, "{bits} {budget}");
        model
            .clone()
            .quantize_rtn(&Weights::linears(), schemes)
            .unwrap();
    }
}

#[test]
fn a_budget_that_is_too_small_and_no_data_are_refused() {
    let (_random, device) = (seeded(82), Device::flex());
    let model = Sum::new(&device);
    let error = |bits, data| schemes(&model, bits, data).unwrap_err().to_string();
    let text = error(
        3.0,
        data(&device)
            .into_iter()
            .map(|(x, y)| (x.train(), y.train()))
            .collect(),
    );
    assert!(text.contains("w2g12 alone takes 3.500"), "{text}");
    let text = error(4.0, Vec::new());
    assert_eq!(text, TrainError::NoData.to_string());
}
