use super::E2eQp;
use super::fit::{BatchStep, OneByOne};
use super::offload::{Offloaded, Start};
use crate::train::error::catch_ops;
use crate::train::{Blockwise, StepLoss, TrainError, TrainEvent, backward_by_blocks, is_loaded};
use burn::data::dataloader::DataLoader;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use std::sync::Arc;

impl E2eQp {
    /// As [`run`](Self::run), by [`backward_by_blocks`]: it ends with the same step sizes, to rounding. Activations of one block
    /// are in memory at a time, however many there are, and the blocks are run once more for that. It does so whether or not
    /// the configuration says `recompute`.
    ///
    /// Where blocks are in files (a model with [`Blockwise::store_block`] and a run directory), one block's packed weights are in
    /// memory at a time, too: they are read from the run directory for each pass, and step sizes and their moments wait in host
    /// memory. The model that comes out has its blocks in files as well. An optimizer step is AdamW's then; the model's own
    /// [`TrainStep::optimize`] is not asked.
    ///
    /// It trains on the devices of [`with_devices`](Self::with_devices) as [`run_on_devices`](Self::run_on_devices) does.
    ///
    /// The loss is that of [`Blockwise::output_loss`]; the model's `TrainStep` is not run.
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
    /// // `model` implements `Blockwise` with `output_loss`, and Burn's steps.
    /// let scheme: Scheme = "w4g8".parse()?;
    /// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
    /// let e2e_qp = E2eQpConfig::new().with_epochs(2).with_recompute(true).init();
    /// let mut losses = Vec::new();
    /// let tuned = e2e_qp.run_by_blocks(packed.clone(), train, valid, &mut |event| {
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
    /// As [`run_on_devices`](Self::run_on_devices); also when the model's own code fails, or has no `output_loss`.
    pub fn run_by_blocks<M>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            if is_loaded(&model) {
                return self.fit_on_devices(model, train, valid, on_event, by_blocks);
            }
            if self.devices.are_several() {
                let message = "E2E-QP of a model with blocks in files runs on one device";
                return Err(TrainError::Setting(message.to_string()));
            }
            let Some(run) = &self.run_dir else {
                let message = "E2E-QP of a model with blocks in files needs a run directory";
                return Err(TrainError::Setting(message.to_string()));
            };
            let start = Start::new(&self.config, model, run)?;
            self.devices.check_main(&start.device)?;
            self.agree(run, start.digests.clone().into(), true)?;
            let schedule = start.schedule();
            let mut trainee = Offloaded::new(start, run.clone());
            let steps = OneByOne(by_blocks);
            let model = self.train(&mut trainee, schedule, train, valid, on_event, &steps)?;
            trainee.finish(model, self.config.round_scales)
        })
    }
}

/// A batch's gradients, a block at a time.
pub(in crate::train) fn by_blocks<M>(
    model: &M,
    batch: <M as TrainStep>::Input,
) -> Result<BatchStep<()>, TrainError>
where
    M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
{
    let (loss, grads) = backward_by_blocks(model, batch)?;
    Ok(BatchStep {
        loss,
        output: (),
        grads,
    })
}
