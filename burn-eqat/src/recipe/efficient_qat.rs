use super::data::Loader;
use super::rtn::{forget, round_to_nearest};
use super::{Comparison, EfficientQatConfig, Method, Observer, PhaseLoaders, Stage, StageName};
use crate::train::{
    Blockwise, DataSplit, E2eAp, LearningRates, StepLoss, Student, Teacher, TrainError, TrainEvent,
    is_loaded, is_packed, known_selection, layer_sizes_by_block, load_blocks, no_store,
    size_by_block,
};
use crate::{Quantize, RunDir, Scheme, SizeReport};
use burn::module::Module;
use burn::tensor::Device;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use serde_json::Value;
use std::time::{Duration, Instant};

/// EfficientQAT as a whole, for any model that implements [`Blockwise`] and Burn's training steps. Made by
/// [`EfficientQatConfig::init`].
#[derive(Clone, Debug)]
pub struct EfficientQat {
    pub(super) config: EfficientQatConfig,
    pub(super) run_dir: Option<RunDir>,
    pub(super) devices: Vec<Device>,
}

impl EfficientQat {
    /// The configuration.
    pub fn config(&self) -> &EfficientQatConfig {
        &self.config
    }

    /// Keeps what is finished in a run directory, and goes on from what it has. A resumed run gives every stage to the observer
    /// again.
    pub fn with_run_dir(mut self, run: RunDir) -> Self {
        self.run_dir = Some(run);
        self
    }

    /// Trains on several devices at the same time, as [`BlockAp`](crate::train::BlockAp::with_devices) and
    /// [`E2eQp`](crate::train::E2eQp::with_devices) do: a step takes as many batches of each device as it takes on one. The model
    /// is on the first, and needs [`Blockwise::batch_to_device`].
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = devices;
        self
    }

    /// Quantizes a full-precision model; returns it packed. `data` is `(train, valid)` or [`PhaseLoaders`].
    ///
    /// The observer gets the model in full precision, rounded to nearest (for comparison; this model is then dropped),
    /// after Block-AP, and after E2E-QP. A model that is packed already is observed and goes straight to E2E-QP.
    ///
    /// With a [run directory](Self::with_run_dir), a model that implements [`Blockwise::store_block`] has its blocks in files after
    /// Block-AP, and in the end unless E2E-QP ran without `offload`: it needs the run directory. Write it with
    /// [`save_model_by_block`](crate::files::save_model_by_block), or bring its blocks back with
    /// [`load_blocks`](crate::train::load_blocks).
    ///
    /// Where E2E-QP has validation data, what it got and what it made are measured on it. A model that it made worse is observed
    /// but not returned: the one before it is, and [`Stage::kept`] says so.
    ///
    /// ```
    /// use burn_eqat::{EfficientQatConfig, Quantize, Stage, Weights};
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
    /// // `model` is an `Mlp`, which implements `Blockwise`, `TrainStep` and `InferenceStep`.
    /// let recipe = EfficientQatConfig::new("w4g8".parse()?, Weights::linears()).init();
    /// let mut stages = Vec::new();
    /// let mut measure = |stage: &Stage<'_, Mlp>| stages.push(stage.name.to_string());
    /// let packed = recipe.run(model, (train, valid), &mut measure)?;
    /// assert_eq!(stages, ["full-precision", "rtn", "block-ap", "e2e-qp"]);
    /// assert_eq!(packed.size_report().packed_weights, 2 * 8 * 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`BlockAp`](crate::train::BlockAp::run) and [`E2eQp`](crate::train::E2eQp::run), and any error of
    /// the observer. Also when the model is packed already, and its scheme differs or the method ends before E2E-QP.
    pub fn run<M, O>(
        &self,
        model: M,
        data: impl Into<PhaseLoaders<<M as Blockwise>::Batch>>,
        observer: &mut O,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel
            + Blockwise
            + TrainStep<Input = <M as Blockwise>::Batch>
            + InferenceStep<Input = <M as Blockwise>::Batch>,
        <M as TrainStep>::Output: StepLoss,
        <M as InferenceStep>::Output: StepLoss,
        O: Observer<M> + ?Sized,
    {
        let (config, data) = (&self.config, data.into());
        let model = model.valid();
        if config.offload {
            self.check_offload(&model)?;
        }
        let packed_before = is_packed(&model, &config.weights)?;
        let end_to_end = config.method == Method::EfficientQat && !packed_before;
        let distillation = config
            .distillation
            .filter(|_| end_to_end && model.distills());
        let e2e_ap = config.e2e_ap.clone().filter(|_| end_to_end);
        if end_to_end && config.e2e_epochs == 0 && e2e_ap.is_none() {
            let message = "e2e_epochs is 0, which is for E2E-AP in the place of E2E-QP: expected 1 or more, or a configuration of E2E-AP";
            return Err(TrainError::Setting(message.to_string()));
        }
        let original = (e2e_ap.is_some() || distillation.is_some()).then(|| model.clone());
        if let Some(run) = &self.run_dir {
            let agree = |name: &str, value: Result<Value, serde_json::Error>| {
                let value = value.map_err(|error| TrainError::Setting(error.to_string()))?;
                Ok::<_, TrainError>(run.agree(name, value)?)
            };
            agree("distillation", serde_json::to_value(distillation))?;
            agree("e2e_ap", serde_json::to_value(&e2e_ap))?;
        }
        let packed = if !packed_before {
            if config.method >= Method::BlockAp {
                config.block_ap().init().check(&model)?;
            } else {
                known_selection(&model, &config.weights, &config.schemes())?;
            }
            // Blocks in files are not read to be counted.
            let size = model.size_report();
            let timer = Timer::start();
            reach(StageName::FullPrecision, &model, size, timer, observer)?;
            {
                // Dropped before Block-AP: it is a model of its own.
                let timer = Timer::start();
                let rtn = round_to_nearest(
                    model.clone(),
                    &config.weights,
                    &config.schemes(),
                    self.run_dir.as_ref(),
                    &mut |event| observer.event(event),
                )?;
                let size = size_by_block(&rtn)?;
                reach(StageName::Rtn, &rtn, size, timer, observer)?;
                if config.method == Method::Rtn {
                    return Ok(rtn);
                }
            }
            if let Some(run) = &self.run_dir {
                forget(run, model.blocks().len())?;
            }
            let mut timer = Timer::start();
            let (train, valid) = data.block_ap;
            let mut block_ap = config.block_ap();
            block_ap.probe_rates &= valid.num_items() > 0;
            let mut phase = block_ap.init().with_devices(self.devices.clone());
            if let Some(run) = &self.run_dir {
                phase = phase.with_run_dir(run.clone());
            }
            let packed = phase.run(model, train, valid, &mut |event| {
                timer.hear(&event);
                observer.event(&event)
            })?;
            let size = size_by_block(&packed)?;
            reach(StageName::BlockAp, &packed, size, timer, observer)?;
            packed
        } else {
            self.check_packed(&model)?;
            let size = size_by_block(&model)?;
            reach(StageName::Packed, &model, size, Timer::start(), observer)?;
            model
        };
        if config.method == Method::BlockAp {
            return Ok(packed);
        }
        let packed = if config.offload {
            if is_loaded(&packed) {
                return Err(no_store::<M>());
            }
            packed
        } else {
            load_blocks(packed)?
        };
        let original = match original {
            Some(original) if !config.offload => Some(load_blocks(original)?),
            other => other,
        };
        let e2e_ap = e2e_ap.map(|e2e_ap| {
            let phase = e2e_ap.with_recompute(config.recompute).init();
            match (&self.run_dir, config.offload) {
                (Some(run), true) => phase.with_run_dir(run.clone()),
                _ => phase,
            }
        });
        let lessons = Instant::now();
        let teacher = match (&original, distillation) {
            (Some(original), Some(_)) => {
                let on_event = &mut |event: TrainEvent| observer.event(&event);
                Some(self.teacher(original, e2e_ap.as_ref(), &data.e2e_qp, on_event)?)
            }
            _ => None,
        };
        // A part of the first phase that has them.
        let mut lessons = lessons.elapsed();
        let packed = match (e2e_ap, &original) {
            (Some(phase), Some(original)) => {
                let mut timer = Timer::start();
                timer.spent = std::mem::take(&mut lessons);
                let (before, loaders) = (packed.clone(), data.e2e_qp.clone());
                let on_event = &mut |event: &TrainEvent| observer.event(event);
                let tuned = match teacher.clone().zip(distillation) {
                    Some((teacher, distillation)) => {
                        let student =
                            |model: &M| Student::new(model.clone(), teacher.clone(), distillation);
                        let models = [student(&before)?, student(original)?];
                        train_all(&phase, models, loaders, &mut timer, on_event)?.into_model()
                    }
                    None => {
                        let models = [before, original.clone()];
                        train_all(&phase, models, loaders, &mut timer, on_event)?
                    }
                };
                let worse = timer.comparison.is_some_and(|losses| losses.is_worse());
                let size = size_by_block(&tuned)?;
                reach(StageName::E2eAp, &tuned, size, timer, observer)?;
                if worse { packed } else { tuned }
            }
            _ => packed,
        };
        if config.e2e_epochs == 0 {
            return Ok(packed);
        }
        let mut timer = Timer::start();
        timer.spent = lessons;
        timer.stops_early = config.early_stopping.is_some();
        let (model, e2e_qp) = (packed.clone(), data.e2e_qp);
        let on_event = &mut |event: &TrainEvent| observer.event(event);
        drop(original);
        let tuned = match teacher.zip(distillation) {
            Some((teacher, distillation)) => {
                let student = Student::new(model, teacher, distillation)?;
                self.tune(student, e2e_qp, &mut timer, on_event)?
                    .into_model()
            }
            None => self.tune(model, e2e_qp, &mut timer, on_event)?,
        };
        let worse = timer.comparison.is_some_and(|losses| losses.is_worse());
        let size = size_by_block(&tuned)?;
        reach(StageName::E2eQp, &tuned, size, timer, observer)?;
        Ok(if worse { packed } else { tuned })
    }

    /// The original as a teacher. What it makes of the data is kept where that is cheaper than to make it again: where its blocks would be
    /// read for each batch, or the data is gone through more than once.
    fn teacher<M: Blockwise>(
        &self,
        original: &M,
        e2e_ap: Option<&E2eAp>,
        (train, valid): &(Loader<M::Batch>, Loader<M::Batch>),
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<Teacher<M>, TrainError> {
        let config = &self.config;
        let teacher = Teacher::new(original.clone());
        let before = e2e_ap.map_or(0, |phase| phase.config().epochs);
        let is_over = config.e2e_epochs == 0 && e2e_ap.is_some_and(E2eAp::is_over);
        if !config.offload && before + config.e2e_epochs < 2 {
            return Ok(teacher);
        }
        let data = match is_over {
            // It is only measured once more.
            true => vec![valid.clone()],
            false => vec![train.clone(), valid.clone()],
        };
        teacher.keep(&data, &config.cache, on_event)
    }

    /// E2E-QP, with the validation losses before and after it.
    fn tune<M>(
        &self,
        model: M,
        (train, valid): (
            Loader<<M as Blockwise>::Batch>,
            Loader<<M as Blockwise>::Batch>,
        ),
        timer: &mut Timer,
        on_event: &mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError>
    where
        M: LearnerModel
            + Blockwise
            + TrainStep<Input = <M as Blockwise>::Batch>
            + InferenceStep<Input = <M as Blockwise>::Batch>,
        <M as TrainStep>::Output: StepLoss,
        <M as InferenceStep>::Output: StepLoss,
    {
        let config = &self.config;
        let mut phase = config.e2e_qp().init().with_devices(self.devices.clone());
        if let Some(run) = &self.run_dir {
            phase = phase.with_run_dir(run.clone());
        }
        let before = Comparison::measure(&model, &*valid, on_event)?;
        timer.start = Instant::now();
        let measured = valid.clone();
        let mut heard = |event: TrainEvent| {
            timer.hear(&event);
            on_event(&event)
        };
        let tuned = if config.recompute || config.offload {
            phase.run_by_blocks(model, train, measured, &mut heard)?
        } else {
            phase.run_on_devices(model, train, measured, &mut heard)?
        };
        // Without a loss before there is none after.
        if let Some(before) = before {
            // The phase has measured the model that it ends with, unless it went on behind its end.
            let after = match timer.validated {
                Some(after) => Some(after),
                None => Comparison::measure(&tuned, &*valid, on_event)?,
            };
            timer.comparison = after.map(|after| Comparison { before, after });
        }
        Ok(tuned)
    }

    /// Fails where no block could leave memory.
    fn check_offload<M: Blockwise>(&self, model: &M) -> Result<(), TrainError> {
        let missing = if self.run_dir.is_none() {
            "a run directory to read blocks from"
        } else if is_loaded(model) {
            "a model whose blocks are in files"
        } else if self.devices.len() > 1 {
            "a single device"
        } else {
            return Ok(());
        };
        let message = format!("offload of E2E-QP needs {missing}");
        Err(TrainError::Setting(message))
    }

    /// Fails for settings that a packed model does not support.
    fn check_packed<M: Blockwise>(&self, model: &M) -> Result<(), TrainError> {
        let config = &self.config;
        let layers = layer_sizes_by_block(model)?.into_iter();
        let weights: Vec<(String, Scheme)> =
            layers.map(|layer| (layer.path, layer.scheme)).collect();
        let refuse = |found: &str, asked: String| {
            let message =
                format!("the model is packed already{found}: expected full precision for {asked}");
            Err(TrainError::Setting(message))
        };
        if config.method != Method::EfficientQat {
            return refuse("", format!("method {}", config.method));
        }
        if let Some((_, first)) = weights.first()
            && !weights.iter().any(|(_, scheme)| *scheme == config.scheme)
        {
            return refuse(&format!(" in {first}"), config.scheme.to_string());
        }
        for one in &config.overrides {
            let mut weights = weights.iter().filter(|(path, _)| one.matches(path));
            if !weights.all(|(_, scheme)| *scheme == one.scheme()) {
                return refuse("", format!("override {one}"));
            }
        }
        Ok(())
    }
}

/// E2E-AP of a packed model, beside its original, with the validation losses before and after it. In files where the model's blocks are.
fn train_all<M>(
    phase: &E2eAp,
    [packed, original]: [M; 2],
    (train, valid): (
        Loader<<M as Blockwise>::Batch>,
        Loader<<M as Blockwise>::Batch>,
    ),
    timer: &mut Timer,
    on_event: &mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
) -> Result<M, TrainError>
where
    M: LearnerModel
        + Blockwise
        + TrainStep<Input = <M as Blockwise>::Batch>
        + InferenceStep<Input = <M as Blockwise>::Batch>,
    <M as TrainStep>::Output: StepLoss,
    <M as InferenceStep>::Output: StepLoss,
{
    let before = Comparison::measure(&packed, &*valid, on_event)?;
    timer.start = Instant::now();
    let mut heard = |event: TrainEvent| {
        timer.hear(&event);
        on_event(&event)
    };
    let tuned = if is_loaded(&packed) {
        let near = packed.fake_quantize_near(&original)?;
        phase.run(near, train, valid.clone(), &mut heard)?
    } else {
        phase.run_in_files(packed, &original, train, valid.clone(), &mut heard)?
    };
    // Where the phase was over before, it has not validated again.
    let after = match (timer.validated, &before) {
        (None, Some(_)) => Comparison::measure(&tuned, &*valid, on_event)?,
        (validated, _) => validated,
    };
    timer.comparison = before
        .zip(after)
        .map(|(before, after)| Comparison { before, after });
    Ok(tuned)
}

/// The time of a part of the recipe, its learning rates, and what it did to the validation loss.
struct Timer {
    start: Instant,
    /// What it took before.
    spent: Duration,
    rates: Option<LearningRates>,
    /// The validation loss of the model that E2E-QP ends with: the last, or the best where it stops early.
    validated: Option<f64>,
    stops_early: bool,
    comparison: Option<Comparison>,
}

impl Timer {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            spent: Duration::ZERO,
            rates: None,
            validated: None,
            stops_early: false,
            comparison: None,
        }
    }

    /// Keeps an event's learning rates and validation loss.
    fn hear(&mut self, event: &TrainEvent) {
        if let TrainEvent::PhaseStart { rates, .. } | TrainEvent::Rates { rates, .. } = event {
            self.rates = Some(*rates);
        }
        if let TrainEvent::Resumed {
            best: Some(best), ..
        } = event
        {
            self.validated = Some(*best);
        }
        if let TrainEvent::SplitEnd {
            split: DataSplit::Valid,
            loss,
            ..
        } = event
        {
            let best = self
                .validated
                .filter(|best| self.stops_early && best < loss);
            self.validated = Some(best.unwrap_or(*loss));
        }
    }
}

/// Ends a part of the recipe.
fn reach<M, O>(
    name: StageName,
    model: &M,
    size_report: SizeReport,
    timer: Timer,
    observer: &mut O,
) -> Result<(), TrainError>
where
    M: Module,
    O: Observer<M> + ?Sized,
{
    observer.stage(&Stage {
        name,
        model,
        seconds: (timer.spent + timer.start.elapsed()).as_secs_f64(),
        size_report,
        rates: timer.rates,
        comparison: timer.comparison,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Epoch, Phase};

    #[test]
    fn the_best_epoch_of_before_a_stop_counts() {
        let mut timer = Timer::start();
        timer.stops_early = true;
        let epoch = Epoch {
            phase: Phase::E2eQp,
            block: None,
            number: 2,
            epochs: 3,
        };
        let resumed = TrainEvent::Resumed {
            phase: Phase::E2eQp,
            done: 4,
            best: Some(2.0),
        };
        let valid = |loss| TrainEvent::SplitEnd {
            epoch,
            split: DataSplit::Valid,
            loss,
        };
        let seen = |timer: &mut Timer, event| {
            timer.hear(&event);
            timer.validated
        };
        assert_eq!(seen(&mut timer, resumed), Some(2.0));
        assert_eq!(seen(&mut timer, valid(2.2)), Some(2.0));
        assert_eq!(seen(&mut timer, valid(1.9)), Some(1.9));
        // Without early stopping the phase ends with the last.
        timer.stops_early = false;
        assert_eq!(seen(&mut timer, valid(2.3)), Some(2.3));
    }
}
