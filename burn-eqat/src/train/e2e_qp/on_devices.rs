//! E2E-QP on several devices, through Burn's own multi-device training.

use super::E2eQp;
use super::fit::{BatchStep, OneByOne, StepOf, Steps, end_to_end};
use super::worker::{Outcome, Share, Worker};
use crate::train::error::catch_ops;
use crate::train::event::OnEvent;
use crate::train::{Blockwise, StepLoss, TrainError, TrainEvent};
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use burn::train::train::MultiDevicesTrainStep;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use std::sync::Arc;

impl E2eQp {
    /// As [`run`](Self::run), on the devices of [`with_devices`](Self::with_devices); on one device it is the same.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use burn_eqat::train::{DataSplit, E2eQpConfig, TrainEvent};
    /// use burn_eqat::{Quantize, Scheme, Weights};
    /// # use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
    /// # use burn::data::dataset::InMemDataset;
    /// # use burn::module::Module;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Distribution, Tensor};
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
    /// #     fn batch_to_device(batch: Tensor<2>, device: &Device) -> Result<Tensor<2>, ModelError> { Ok(batch.to_device(device)) }
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
    /// // `model` implements `Blockwise` with `batch_to_device`, and Burn's steps.
    /// let scheme: Scheme = "w4g8".parse()?;
    /// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
    /// let devices = vec![Device::flex(), Device::flex()];
    /// let e2e_qp = E2eQpConfig::new().with_epochs(2).init().with_devices(devices);
    /// let mut losses = Vec::new();
    /// let tuned = e2e_qp.run_on_devices(packed.clone(), train, valid, &mut |event| {
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
    /// As [`run`](Self::run); also when the model is not on the first of the devices, or has no
    /// [`batch_to_device`](Blockwise::batch_to_device).
    pub fn run_on_devices<M>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
        <M as TrainStep>::Output: StepLoss,
        <M as InferenceStep>::Output: StepLoss,
    {
        catch_ops(|| {
            self.check_whole("run_on_devices")?;
            let step: StepOf<M, ()> = |model, batch| {
                let BatchStep { loss, grads, .. } = end_to_end(model, batch)?;
                let output = ();
                Ok(BatchStep {
                    loss,
                    output,
                    grads,
                })
            };
            self.fit_on_devices(model, train, valid, on_event, step)
        })
    }

    /// Runs the phase with the given way to a batch's gradients, on as many devices as there are.
    pub(super) fn fit_on_devices<M>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
        on_event: OnEvent<'_>,
        step: StepOf<M, ()>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
        <M as InferenceStep>::Output: StepLoss,
    {
        if self.devices.are_several() {
            let devices = self.devices.of_model(&model)?;
            let steps = OnDevices::start(devices, step);
            self.fit(model, train, valid, on_event, &steps)
        } else {
            self.fit(model, train, valid, on_event, &OneByOne(step))
        }
    }
}

/// A batch on each device at a time.
struct OnDevices<M: LearnerModel> {
    burn: MultiDevicesTrainStep<Worker<M>>,
    devices: Vec<Device>,
    step: StepOf<M, ()>,
}

impl<M: LearnerModel> OnDevices<M> {
    /// Starts a worker for each device; they end when this is dropped.
    fn start(devices: Vec<Device>, step: StepOf<M, ()>) -> Self {
        Self {
            burn: MultiDevicesTrainStep::new(&devices),
            devices,
            step,
        }
    }
}

impl<M> Steps<M, ()> for OnDevices<M>
where
    M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
{
    fn width(&self) -> usize {
        self.devices.len()
    }

    fn take(
        &self,
        model: M,
        batches: Vec<<M as TrainStep>::Input>,
    ) -> Result<Vec<BatchStep<()>>, TrainError> {
        let main = &self.devices[0];
        let mut batches = batches.into_iter().enumerate();
        let mut shares = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let share = match batches.next() {
                Some((number, batch)) => {
                    let device = device.clone().autodiff();
                    let batch = match number {
                        0 => batch,
                        _ => M::batch_to_device(batch, &device).map_err(TrainError::Model)?,
                    };
                    Some(Share {
                        number,
                        batch,
                        step: self.step,
                    })
                }
                None => None,
            };
            let share: Box<dyn DataLoaderIterator<Share<M>>> = Box::new(AtMostOne(share));
            shares.push(share);
        }
        let worker = Worker { model };
        let done = self.burn.step(&mut shares, &worker);
        let (outputs, _) = done.map_err(|error| TrainError::Training(error.to_string()))?;
        let mut outputs: Vec<_> = outputs.into_iter().map(|output| output.output).collect();
        // They come as they are done. In the order of their batches, sums are always the same.
        outputs.sort_by_key(|output| output.item.number);
        let outputs = outputs.into_iter().map(|output| {
            let Outcome { loss, .. } = output.item;
            Ok(BatchStep {
                loss: loss?.to_device(main),
                output: (),
                grads: output.grads.to_device(main, &worker.model),
            })
        });
        outputs.collect()
    }
}

/// What one worker gets at a time, as Burn's step reads it.
struct AtMostOne<T>(Option<T>);

impl<T> Iterator for AtMostOne<T> {
    type Item = Result<T, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl<T> DataLoaderIterator<T> for AtMostOne<T> {
    fn progress(&self) -> Progress {
        let done = usize::from(self.0.is_none());
        Progress::new(done, 1, None)
    }
}
