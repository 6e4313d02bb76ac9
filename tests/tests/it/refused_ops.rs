//! An op that is refused in a module's `forward`, which cannot fail, is an error of the phase and of the recipe.

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn::train::{InferenceStep, RegressionOutput, SupervisedTraining, TrainOutput, TrainStep};
use burn_eqat::train::{
    BlockApConfig, Blockwise, E2eQpConfig, ModelError, Phase, ProgressLines, TrainError,
};
use burn_eqat::{
    EfficientQatConfig, Packed, QuantLinear, QuantLinearConfig, Quantize, Scheme, Stage, StageName,
    Weights,
};
use burn_eqat_tests::{batches, seeded};
use std::sync::Arc;

/// Two layers. One is handed a column too few, once it is packed: in Block-AP the first, which others come behind, and in E2E-QP the
/// second.
#[derive(Module, Debug)]
struct Narrow {
    first: QuantLinear,
    second: QuantLinear,
    #[module(skip)]
    wrong_in: Phase,
}

impl Narrow {
    fn new(wrong_in: Phase) -> Self {
        let linear = || QuantLinearConfig::new(16, 16).init(&Device::flex());
        Self {
            first: linear(),
            second: linear(),
            wrong_in,
        }
    }

    fn narrow(&self, linear: &QuantLinear, x: Tensor<2>, phase: Phase) -> Tensor<2> {
        // Burn's own matrix product panics instead, so the dense layer gets what it needs.
        let packed = linear.weight.reparameterization::<Packed>().is_some();
        let wrong = packed && self.wrong_in == phase;
        let columns = if wrong { 15 } else { 16 };
        linear.forward(x.slice_dim(1, 0..columns))
    }

    fn regress(&self, x: Tensor<2>) -> RegressionOutput {
        let hidden = self.first.forward(x.clone());
        let output = self.narrow(&self.second, hidden, Phase::E2eQp);
        let loss = (output.clone() - x.clone()).square().mean();
        RegressionOutput::new(loss, output, x)
    }
}

impl Blockwise for Narrow {
    type Batch = Tensor<2>;
    type Hidden = Tensor<2>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        vec!["first".to_string(), "second".to_string()]
    }
    fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> {
        Ok((batch, ()))
    }
    fn run_block(&self, index: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
        Ok(match index {
            0 => self.narrow(&self.first, x, Phase::BlockAp),
            _ => self.second.forward(x),
        })
    }
}

impl TrainStep for Narrow {
    type Input = Tensor<2>;
    type Output = RegressionOutput;

    fn step(&self, batch: Tensor<2>) -> TrainOutput<RegressionOutput> {
        let output = self.regress(Tensor::from_inner(batch));
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Narrow {
    type Input = Tensor<2>;
    type Output = RegressionOutput;

    fn step(&self, batch: Tensor<2>) -> RegressionOutput {
        self.regress(batch)
    }
}

fn scheme() -> Scheme {
    "w4g8".parse().unwrap()
}

fn data() -> Arc<dyn DataLoader<Tensor<2>>> {
    let batch = || Tensor::random([4, 16], Distribution::Normal(0.0, 1.0), &Device::flex());
    batches(vec![batch(), batch()])
}

fn training() -> SupervisedTraining<Narrow> {
    SupervisedTraining::new(std::env::temp_dir(), data(), data())
        .with_metric_logger(burn::train::logger::InMemoryMetricLogger::default())
        .with_application_logger(None)
        .renderer(Box::new(ProgressLines::new(std::io::sink())))
}

/// The op that was refused, and over what.
fn is_refused(result: Result<Narrow, TrainError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, TrainError::Op(_)), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("15") && message.contains("16"),
        "{message}"
    );
}

#[test]
fn in_block_ap() {
    let _random = seeded(14);
    let model = Narrow::new(Phase::BlockAp);
    let phase = BlockApConfig::new(scheme(), Weights::linears()).init();
    is_refused(phase.run(model.clone(), data(), data(), &mut |_| Ok(())));
    is_refused(phase.launch(training(), model));
}

#[test]
fn in_e2e_qp() {
    let _random = seeded(15);
    let model = Narrow::new(Phase::E2eQp);
    let packed = model.quantize_rtn(&Weights::linears(), scheme()).unwrap();
    let phase = E2eQpConfig::new().init();
    is_refused(phase.run(packed.clone(), data(), data(), &mut |_| Ok(())));
    is_refused(phase.launch(training(), packed));
}

#[test]
fn in_the_recipe() {
    let _random = seeded(16);
    let recipe = EfficientQatConfig::new(scheme(), Weights::linears()).init();
    for (phase, before) in [
        (Phase::BlockAp, StageName::Rtn),
        (Phase::E2eQp, StageName::BlockAp),
    ] {
        let mut last = None;
        let mut observer = |stage: &Stage<'_, Narrow>| last = Some(stage.name);
        is_refused(recipe.run(Narrow::new(phase), (data(), data()), &mut observer));
        assert_eq!(last, Some(before));
    }
}
