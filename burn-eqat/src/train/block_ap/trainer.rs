//! Trains one block: attaches fake quantization, trains against the original, and packs it.

use super::BlockApConfig;
use super::copies::Copies;
use super::importance::importance;
use super::loss::BlockLoss;
use super::slope::Slope;
use crate::StartValues;
use crate::module::{attach_fake_quant, attach_searched, is_under, pack_trained, selected_under};
use crate::train::clip::{are_finite, grad_norm};
use crate::train::optimizer::adamw;
use crate::train::param_rates::ParamRates;
use crate::train::trained::{train_block, trains_in_block};
use crate::train::{Blockwise, Flow, Rate, TrainError};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::ModuleOptimizer;
use burn::tensor::Tensor;

/// A batch for one block: its input, its target, and the context of every block.
#[derive(Clone)]
pub struct BlockSample<M: Blockwise> {
    /// Output of the quantized blocks before this one.
    pub input: M::Hidden,
    /// Output of the original block on original inputs; with a [`lookahead`](BlockApConfig::lookahead), of that many original blocks
    /// further on (or the last).
    pub target: M::Hidden,
    /// The context of every block.
    pub context: M::Context,
}

impl<M: Blockwise> BlockSample<M> {
    /// The same sample, with gradients recorded.
    pub(super) fn train(self) -> Self {
        Self {
            input: self.input.train(),
            target: self.target.train(),
            context: self.context.train(),
        }
    }
}

/// Learning rates of a step of Block-AP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockRates {
    /// Step sizes and zero points.
    pub quantizer: Rate,
    /// Weights and norms.
    pub weights: Rate,
}

impl BlockRates {
    /// A part of both.
    pub(super) fn times(self, part: f64) -> Self {
        Self {
            quantizer: self.quantizer.times(part),
            weights: self.weights.times(part),
        }
    }
}

/// What came of a step.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, handed over and gone"
)]
pub enum BlockStep {
    /// It was taken.
    Taken {
        /// The reconstruction error, `[1]`.
        loss: Tensor<1>,
        /// The learning rates by parameter.
        rates: Box<ModuleLearningRate>,
    },
    /// It was not, for the loss is this.
    Loss(f64),
    /// It was not, for the gradients have this norm.
    Gradient(f64),
}

/// Trains one block of a model. [`BlockAp`](super::BlockAp) does this for each block in turn; use the trainer for your
/// own loop.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::Weights;
/// use burn_eqat::train::{BlockApConfig, BlockRates, BlockSample, BlockStep, BlockTrainer};
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// # #[derive(Module, Debug)]
/// # struct Mlp { layers: Vec<Linear> }
/// # impl Blockwise for Mlp {
/// #     type Batch = Tensor<2>;
/// #     type Hidden = Tensor<2>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
/// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
/// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
/// # }
/// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
///
/// // `model` implements `Blockwise`.
/// let config = BlockApConfig::new("w2g8".parse()?, Weights::linears());
/// let mut trainer = BlockTrainer::new(model.clone(), 0, &config)?;
/// let x = Tensor::<2>::ones([4, 8], &Device::flex());
/// let target = model.run_block(0, x.clone(), &())?;
/// let sample = BlockSample { input: x, target, context: () };
/// for _ in 0..10 {
///     let rates = BlockRates { quantizer: 1e-2.into(), weights: 1e-2.into() };
///     let step = trainer.step(sample.clone(), rates)?;
///     assert!(matches!(step, BlockStep::Taken { .. }));
/// }
/// let error = trainer.validate(&trainer.model().valid(), sample)?;
/// assert!(error.into_scalar::<f32>() < 1.0);
/// # Ok::<(), ModelError>(())
/// ```
pub struct BlockTrainer<M: Blockwise> {
    /// The whole model, with gradients recorded; absent only while the optimizer has it.
    model: Option<M>,
    loss: BlockLoss,
    optim: ModuleOptimizer,
    rates: ParamRates,
}

impl<M: Blockwise> BlockTrainer<M> {
    /// Attaches fake quantization to the selected weights of block `index`. It trains these weights, their step sizes
    /// and zero points, and all other parameters of the block named `weight` or `gamma` (mainly norms). Biases and all
    /// other blocks do not change.
    ///
    /// # Errors
    ///
    /// When a weight does not fit the scheme.
    ///
    /// # Panics
    ///
    /// When there is no such block.
    pub fn new(model: M, index: usize, config: &BlockApConfig) -> Result<Self, TrainError> {
        Self::with_samples(model, index, config, [])
    }

    /// As [`new`](Self::new), with samples that the start values may be searched with
    /// ([`StartValues::Searched`](crate::StartValues)): the first 16 of them say how important each row of a weight is. Without samples all rows
    /// are alike.
    ///
    /// # Errors
    ///
    /// As `new`, and when a sample is an error, or the model's own code fails.
    ///
    /// # Panics
    ///
    /// As `new`.
    pub fn with_samples(
        model: M,
        index: usize,
        config: &BlockApConfig,
        samples: impl IntoIterator<Item = Result<BlockSample<M>, TrainError>>,
    ) -> Result<Self, TrainError> {
        let steps = samples.into_iter().map(|sample| Ok(vec![sample?]));
        Self::with_steps(model, index, config, steps)
    }

    /// As [`with_samples`](Self::with_samples), with all samples of a step at a time.
    pub(super) fn with_steps(
        model: M,
        index: usize,
        config: &BlockApConfig,
        steps: impl Iterator<Item = Result<Vec<BlockSample<M>>, TrainError>>,
    ) -> Result<Self, TrainError> {
        let mut blocks = model.blocks();
        let loss = BlockLoss::new(config, index, blocks.len());
        let path = blocks.swap_remove(index);
        let selected = selected_under(&model, &config.weights, &config.schemes(), Some(&path))?;
        let model = match config.start {
            StartValues::MinMax => attach_fake_quant(model, &selected),
            StartValues::Searched => {
                let rows = importance(&model, &loss, &selected, steps)?;
                attach_searched(model, &selected, rows)
            }
        };
        let model = model.train();
        let selected = |param: &str| selected.iter().any(|weight| weight.path == param);
        let rates = ParamRates::of(&model, &|param| trains_in_block(param, &path, &selected));
        let model = train_block(model, &path, &selected);
        Ok(Self {
            model: Some(model),
            loss,
            optim: adamw(),
            rates,
        })
    }

    /// The same with an optimizer that has taken no step.
    pub(super) fn anew(&self) -> Self {
        Self {
            model: self.model.clone(),
            loss: self.loss,
            optim: adamw(),
            rates: self.rates.clone(),
        }
    }

    /// The current model, with gradients recorded.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("it comes back from each step")
    }

    /// One step on a batch. It is not taken if the loss or a gradient is not finite.
    ///
    /// # Errors
    ///
    /// When the model's own code fails.
    pub fn step(
        &mut self,
        sample: BlockSample<M>,
        rates: BlockRates,
    ) -> Result<BlockStep, TrainError> {
        let slope = Slope::of(self.model(), &self.loss, sample)?;
        Ok(self.take(slope, rates))
    }

    /// One step on several samples, one of each device; `copies` are those of the model on the further ones.
    pub(super) fn step_on(
        &mut self,
        copies: &mut Copies<M>,
        samples: Vec<BlockSample<M>>,
        rates: BlockRates,
    ) -> Result<BlockStep, TrainError> {
        let slope = copies.slope(self.model(), &self.loss, samples)?;
        let step = self.take(slope, rates);
        if matches!(step, BlockStep::Taken { .. }) {
            copies.refresh(self.model());
        }
        Ok(step)
    }

    /// Takes a step, if it can be taken.
    fn take(&mut self, slope: Slope, rates: BlockRates) -> BlockStep {
        let Slope { value, loss, grads } = slope;
        if !value.is_finite() {
            return BlockStep::Loss(value);
        }
        let model = self.model();
        if !are_finite(model, &grads) {
            return BlockStep::Gradient(grad_norm(model, &grads));
        }
        let rates = self.rates.at(rates.quantizer, rates.weights);
        // The optimizer updates parameters in place if nothing else holds them.
        let model = self.model.take().expect("it comes back from each step");
        self.model = Some(self.optim.step(rates.clone(), model, grads));
        let rates = Box::new(rates);
        BlockStep::Taken { loss, rates }
    }

    /// The loss of the block on a batch, `[1]`, without training; `model` is the [model](Self::model) without gradients recorded.
    ///
    /// # Errors
    ///
    /// When the model's own code fails.
    pub fn validate(&self, model: &M, sample: BlockSample<M>) -> Result<Tensor<1>, TrainError> {
        self.loss.of(model, sample)
    }

    /// Puts the trained block into `model`, which this trainer was made from: its weights packed, everything else as in
    /// `trained`.
    ///
    /// # Errors
    ///
    /// When a parameter is not finite.
    pub(super) fn pack(
        model: M,
        trained: &M,
        path: &str,
        config: &BlockApConfig,
    ) -> Result<M, TrainError> {
        let inside = |param: &str| is_under(param, path);
        Ok(pack_trained(model, trained, &inside, config.round_scales)?)
    }
}
