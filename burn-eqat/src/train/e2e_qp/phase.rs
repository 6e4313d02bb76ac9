use super::E2eQpConfig;
use super::fit::{Fit, Listener, OneByOne, Schedule, Steps, check_finite, end_to_end, start};
use super::trainee::{Resumable, Trainee};
use crate::train::error::catch_ops;
use crate::train::event::OnEvent;
use crate::train::{DataSplit, DeviceList, Epoch, StepLoss, TrainError, TrainEvent};
use crate::{Quantize, RunDir};
use burn::data::dataloader::{DataLoader, Progress};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use serde_json::Value;
use std::sync::Arc;

/// E2E-QP: trains the step sizes of a packed model, end to end, on the loss of its own `TrainStep` (the paper's section 3.3).
///
/// Everything else is frozen: codes and zero points are integers, and the phase freezes the other parameters. Made by
/// [`E2eQpConfig::init`].
///
/// There are two equivalent ways to run it: [`launch`](Self::launch) under Burn's `SupervisedTraining` (metrics,
/// dashboard, checkpoints, interruption), and [`run`](Self::run) with only data and a callback. If activations are too
/// large for memory, [`run_by_blocks`](Self::run_by_blocks) keeps those of one block.
#[derive(Clone, Debug)]
pub struct E2eQp {
    pub(super) config: E2eQpConfig,
    pub(super) run_dir: Option<RunDir>,
    pub(super) devices: DeviceList,
}

impl E2eQp {
    /// The configuration.
    pub fn config(&self) -> &E2eQpConfig {
        &self.config
    }

    /// Keeps the state in a run directory every [`save_every`](E2eQpConfig::save_every) optimizer steps, and goes on from what
    /// it has: step sizes, moments of the optimizer, the position in the schedule and in the data, and the best epoch so far.
    ///
    /// Batches that were trained on are read again and left out. For a resumed run to end as one that was never stopped, the
    /// loaders have to be made in the same way, and give the same batches in the same order.
    pub fn with_run_dir(mut self, run: RunDir) -> Self {
        self.run_dir = Some(run);
        self
    }

    /// Trains on several devices at the same time, in [`run_on_devices`](Self::run_on_devices) and
    /// [`run_by_blocks`](Self::run_by_blocks), by Burn's `MultiDevicesTrainStep`. All of them should be of one backend; a
    /// device that is there twice has two workers. The first is the main one: the model is there, and the optimizer steps and
    /// validation too. With that device alone, or none, the phase runs as without this call.
    ///
    /// Each device gets a copy of the model and takes one batch after the other from the same loader, and a step is taken
    /// once each had [`grad_accumulation`](E2eQpConfig::grad_accumulation) of them. Their gradients are added up in the order of
    /// the batches. So `n` devices do what one device does whose `grad_accumulation` is `n` times as large, and nearly what it does
    /// with batches `n` times as large: to rounding, where a batch's loss is a mean over equal parts, and but for a last, smaller
    /// batch, which weighs as much as the others.
    ///
    /// Burn's other way, `ExecutionStrategy::ddp`, is not used: its loop is its own and has no place for the clipping, the left-out
    /// steps and the run directory of this phase.
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = DeviceList::new(devices);
        self
    }

    /// Trains the step sizes of a packed model; returns it. The training data is read once more than there are epochs, to count
    /// its batches.
    ///
    /// The callback `on_event` gets each batch and epoch, and may stop the phase with an error.
    ///
    /// [`BlockAp::run`](crate::train::BlockAp::run) runs the other phase in the same way, and [`launch`](Self::launch) runs
    /// under Burn's `SupervisedTraining`.
    ///
    /// ```
    /// use burn_eqat::train::{DataSplit, E2eQpConfig, TrainEvent};
    /// use burn_eqat::{Quantize, Scheme, Weights};
    /// # use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
    /// # use burn::data::dataset::InMemDataset;
    /// # use burn::module::Module;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Device, Distribution, Tensor};
    /// # use burn::train::{InferenceStep, TrainOutput, TrainStep};
    /// # use burn_eqat::train::{Blockwise, ModelError, QatOutput};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { layers: Vec<Linear> }
    /// # impl Blockwise for Mlp {
    /// #     type Batch = Tensor<2>;
    /// #     type Hidden = Tensor<2>;
    /// #     type Context = ();
    /// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
    /// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
    /// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
    /// #     fn output_loss(&self, y: Tensor<2>, _: &(), x: Tensor<2>) -> Result<Tensor<1>, ModelError> { Ok((y - x).square().mean()) }
    /// # }
    /// # impl Mlp {
    /// #     fn loss(&self, x: Tensor<2>) -> Tensor<1> {
    /// #         (self.layers.iter().fold(x.clone(), |x, layer| layer.forward(x)) - x).square().mean()
    /// #     }
    /// # }
    /// # impl TrainStep for Mlp {
    /// #     type Input = Tensor<2>;
    /// #     type Output = QatOutput;
    /// #     fn step(&self, batch: Tensor<2>) -> TrainOutput<QatOutput> {
    /// #         let loss = self.loss(batch);
    /// #         TrainOutput::new(self, loss.backward(), QatOutput::new(loss))
    /// #     }
    /// # }
    /// # impl InferenceStep for Mlp {
    /// #     type Input = Tensor<2>;
    /// #     type Output = QatOutput;
    /// #     fn step(&self, batch: Tensor<2>) -> QatOutput { QatOutput::new(self.loss(batch)) }
    /// # }
    /// # struct Rows;
    /// # impl Batcher<u32, Tensor<2>> for Rows {
    /// #     fn batch(&self, rows: Vec<u32>, device: &Device) -> Tensor<2> {
    /// #         Tensor::random([rows.len(), 8], Distribution::Default, device)
    /// #     }
    /// # }
    /// # let loader = |rows: u32| {
    /// #     let builder = DataLoaderBuilder::new(Rows).batch_size(2).set_device(Device::flex());
    /// #     builder.build(InMemDataset::new((0..rows).collect()))
    /// # };
    /// # let (train, valid) = (loader(8), loader(4));
    /// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
    ///
    /// // `model` implements `TrainStep` and `InferenceStep`.
    /// let scheme: Scheme = "w4g8".parse()?;
    /// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
    /// let e2e_qp = E2eQpConfig::new().with_epochs(2).init();
    /// let mut losses = Vec::new();
    /// let tuned = e2e_qp.run(packed.clone(), train, valid, &mut |event| {
    ///     if let TrainEvent::SplitEnd { split: DataSplit::Valid, loss, .. } = event {
    ///         losses.push(loss);
    ///     }
    ///     Ok(())
    /// })?;
    /// assert_eq!(losses.len(), 2);
    /// assert_eq!(tuned.layer_sizes(), packed.layer_sizes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When several devices are set, the model has no packed weights, there is no training batch, or a loss or a gradient
    /// is not finite (the error names the step and the learning rate).
    pub fn run<M>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel,
        <M as TrainStep>::Output: StepLoss,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            self.check_whole("run")?;
            if self.devices.are_several() {
                let message = "E2E-QP on several devices needs E2eQp::run_on_devices or E2eQp::run_by_blocks: E2eQp::run knows no \
                               way to bring a batch to a device";
                return Err(TrainError::Setting(message.to_string()));
            }
            self.fit(model, train, valid, on_event, &OneByOne(end_to_end))
        })
    }

    /// Runs the phase with the given way to a batch's gradients.
    pub(super) fn fit<M, O>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: OnEvent<'_>,
        steps: &dyn Steps<M, O>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel,
        <M as InferenceStep>::Output: StepLoss,
    {
        self.devices.of_model(&model)?;
        let (model, schedule) = start(&self.config, model)?;
        if let Some(run) = &self.run_dir {
            let digest = run.digest(&model.valid(), &|_| true)?;
            self.agree(run, digest.into(), false)?;
        }
        let mut trainee = Resumable::new(model, schedule.clone(), self.run_dir.clone());
        let model = self.train(&mut trainee, schedule, train, valid, on_event, steps)?;
        self.finish(model)
    }

    /// Trains for all epochs.
    pub(super) fn train<M, T, O>(
        &self,
        trainee: &mut T,
        schedule: Schedule,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: OnEvent<'_>,
        steps: &dyn Steps<M, O>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel,
        <M as InferenceStep>::Output: StepLoss,
        T: Trainee<M>,
    {
        let accumulation = self.config.grad_accumulation;
        let mut fit = Fit::new(schedule, accumulation, Callback(on_event));
        fit.run(trainee, train, valid, 1, steps)
    }

    /// Fails where the run directory is that of another configuration or model, which has this digest, or of one whose blocks
    /// were elsewhere.
    pub(super) fn agree(
        &self,
        run: &RunDir,
        model: Value,
        offload: bool,
    ) -> Result<(), TrainError> {
        let config = E2eQpConfig {
            // It changes nothing of the result.
            save_every: 0,
            ..self.config.clone()
        };
        let config = serde_json::to_value(&config);
        let mut config = config.map_err(|error| TrainError::Setting(error.to_string()))?;
        self.devices.add_to(&mut config);
        if let (true, Value::Object(config)) = (offload, &mut config) {
            config.insert("offload".to_string(), true.into());
        }
        run.agree("e2e_qp", config)?;
        Ok(run.agree("packed_model", model)?)
    }

    /// Fails if the configuration asks for blocks and the model is taken as a whole.
    pub(super) fn check_whole(&self, called: &str) -> Result<(), TrainError> {
        if self.config.recompute {
            let message = format!(
                "recompute of E2E-QP needs E2eQp::run_by_blocks: E2eQp::{called} knows no blocks"
            );
            return Err(TrainError::Setting(message));
        }
        Ok(())
    }

    /// The model as it leaves the phase.
    pub(super) fn finish<M: LearnerModel>(&self, model: M) -> Result<M, TrainError> {
        let model = model.valid();
        check_finite(&model)?;
        Ok(if self.config.round_scales {
            model.round_scales()
        } else {
            model
        })
    }
}

/// A callback that gets events.
pub(in crate::train) struct Callback<'a>(pub OnEvent<'a>);

impl<M: LearnerModel, T, O> Listener<M, T, O> for Callback<'_> {
    fn event(&mut self, event: TrainEvent) -> Result<(), TrainError> {
        (self.0)(event)
    }

    fn trained(
        &mut self,
        epoch: Epoch,
        progress: Progress,
        _iteration: usize,
        rates: Option<ModuleLearningRate>,
        loss: Tensor<1>,
        _output: O,
    ) -> Result<(), TrainError> {
        (self.0)(TrainEvent::Batch {
            epoch,
            split: DataSplit::Train,
            done: progress.items_processed,
            total: progress.items_total,
            loss,
            rates: rates.map(Box::new),
        })
    }

    fn validated(
        &mut self,
        epoch: Epoch,
        progress: Progress,
        _iteration: usize,
        loss: Tensor<1>,
        _output: <M as InferenceStep>::Output,
    ) -> Result<(), TrainError> {
        (self.0)(TrainEvent::Batch {
            epoch,
            split: DataSplit::Valid,
            done: progress.items_processed,
            total: progress.items_total,
            loss,
            rates: None,
        })
    }
}
