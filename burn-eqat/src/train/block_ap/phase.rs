use super::blocks::Blocks;
use super::copies::Copies;
use super::finished::Finished;
use super::loss;
use super::massive::suited_loss;
use super::probe::{Probed, probe};
use super::train::BlockRun;
use super::{BlockApConfig, BlockTrainer, ReconstructionLoss};
use crate::module::{check_overrides, select, selected_under};
use crate::train::cache::{Shards, Storage};
use crate::train::error::catch_ops;
use crate::train::event::OnEvent;
use crate::train::{Blockwise, DeviceList, LearningRates, Pass, Phase, TrainError, TrainEvent};
use crate::{RunDir, StartValues};
use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use std::sync::Arc;

/// Block-AP: trains each quantized block of a model in turn to match the block in full precision (the paper's section
/// 3.2).
///
/// Data goes through the model once. The input of a block is the output of the quantized blocks before it. Its target
/// is the output of the original block for the original inputs, or with [`lookahead`](BlockApConfig::lookahead) that of a block further
/// on. After training, the block is packed, and the next block
/// gets its output. Made by [`BlockApConfig::init`].
///
/// There are two equivalent ways to run it: [`launch`](Self::launch) under Burn's `SupervisedTraining` (metrics,
/// dashboard, interruption), and [`run`](Self::run) with only data and a callback.
#[derive(Clone, Debug)]
pub struct BlockAp {
    pub(super) config: BlockApConfig,
    pub(super) run_dir: Option<RunDir>,
    pub(super) devices: DeviceList,
}

impl BlockAp {
    /// The configuration.
    pub fn config(&self) -> &BlockApConfig {
        &self.config
    }

    /// Keeps each finished block in a run directory, and does not train those again that it has.
    ///
    /// The blocks are run again on the data as far as they are finished, since the next block needs what they make. For a
    /// resumed run to end as one that was never stopped, the model and the loaders have to be made in the same way.
    pub fn with_run_dir(mut self, run: RunDir) -> Self {
        self.run_dir = Some(run);
        self
    }

    /// Trains on several devices at the same time. All of them should be of one backend; a device that is there twice counts
    /// as two. The first is the main one: the model is there, and the optimizer steps and validation too. With that device
    /// alone, or none, the phase runs as without this call.
    ///
    /// The training batches are dealt to the devices in turn, and what the blocks make of them stays there. Each device gets a copy
    /// of the model, and a step takes one batch of each: the mean of their gradients, added up in the order of the batches. So
    /// `n` devices do nearly what one does with batches `n` times as large: to rounding, where the
    /// [`reconstruction_error`](Blockwise::reconstruction_error) is a mean over equal parts, and but for a last, smaller batch,
    /// which weighs as much as the others of its step. A step is one [`TrainEvent::Batch`], with the mean of their losses.
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        self.devices = DeviceList::new(devices);
        self
    }

    /// Epochs that the whole of a model takes: those of each of its blocks.
    pub fn num_epochs<M: Blockwise>(&self, model: &M) -> usize {
        model.blocks().len() * self.config.epochs
    }

    /// Quantizes a full-precision model: returns it with every selected weight packed. Both loaders are read once. What the
    /// blocks make of their batches is kept in memory, or on disk beyond the budget of
    /// [`BlockApConfig::cache`](BlockApConfig).
    ///
    /// The callback `on_event` gets each batch and epoch, and may stop the phase with an error.
    ///
    /// [`E2eQp::run`](crate::train::E2eQp::run) runs the other phase in the same way, and [`launch`](Self::launch) runs
    /// under Burn's `SupervisedTraining`.
    ///
    /// ```
    /// # use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
    /// # use burn::data::dataset::InMemDataset;
    /// # use burn::module::Module;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_eqat::train::{BlockApConfig, Blockwise, ModelError, TrainEvent};
    /// # use burn_eqat::{Quantize, Weights};
    /// # #[derive(Module, Debug)]
    /// # struct Model { first: Linear }
    /// # impl Blockwise for Model {
    /// #     type Batch = Tensor<2>;
    /// #     type Hidden = Tensor<2>;
    /// #     type Context = ();
    /// #     fn blocks(&self) -> Vec<String> { vec!["first".into()] }
    /// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
    /// #     fn run_block(&self, _: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> {
    /// #         Ok(self.first.forward(x))
    /// #     }
    /// # }
    /// # struct Rows;
    /// # impl Batcher<[f32; 8], Tensor<2>> for Rows {
    /// #     fn batch(&self, rows: Vec<[f32; 8]>, device: &Device) -> Tensor<2> {
    /// #         let rows: Vec<Tensor<2>> = rows.iter().map(|row| Tensor::from_data([*row], device)).collect();
    /// #         Tensor::cat(rows, 0)
    /// #     }
    /// # }
    /// # let model = Model { first: LinearConfig::new(8, 4).init(&Device::flex()) };
    /// # let loader = |rows: Vec<[f32; 8]>| DataLoaderBuilder::new(Rows).batch_size(2).build(InMemDataset::new(rows));
    /// # let train = loader((0..4).map(|row| std::array::from_fn(|i| (row * i) as f32)).collect());
    /// # let valid = loader(Vec::new());
    /// let block_ap = BlockApConfig::new("w4g8".parse()?, Weights::linears()).init();
    /// let packed = block_ap.run(model, train, valid, &mut |event| {
    ///     if let TrainEvent::SplitEnd { epoch, split, loss } = event {
    ///         println!("epoch {} of {}: {split:?} {loss:.2e}", epoch.number, epoch.epochs);
    ///     }
    ///     Ok(())
    /// })?;
    /// assert!(packed.size_report().packed_weights > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the model is not on the first of the devices, nothing is selected or does not fit the scheme, blocks are missing or
    /// overlap, there is no training batch, the model's own code fails, activations cannot be kept on disk, or a loss is not finite
    /// (the error names the block, the step and the learning rates).
    pub fn run<M: Blockwise>(
        &self,
        model: M,
        train: Arc<dyn DataLoader<M::Batch>>,
        valid: Arc<dyn DataLoader<M::Batch>>,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError> {
        catch_ops(|| self.fit(model, &*train, &*valid, on_event))
    }

    /// Fails if [`run`](Self::run) would fail on the blocks or the selection of a model, as far as that is known before all
    /// blocks are in memory.
    pub(crate) fn check<M: Blockwise>(&self, model: &M) -> Result<(), TrainError> {
        Blocks::new(model)?.check_selection(model, &self.config)
    }

    pub(super) fn fit<M: Blockwise>(
        &self,
        model: M,
        train: &dyn DataLoader<M::Batch>,
        valid: &dyn DataLoader<M::Batch>,
        on_event: OnEvent<'_>,
    ) -> Result<M, TrainError> {
        let config = &self.config;
        let mut model = model.valid();
        let blocks = Blocks::new(&model)?;
        blocks.check_selection(&model, config)?;
        model.load_block(0).map_err(TrainError::Model)?;
        let devices = self.devices.of_model(&model)?;
        let device = devices.first().cloned().ok_or(TrainError::NoBlocks)?;
        let mut rates = config.rates(blocks.count_params(&model));
        let finished = Finished::new(self.run_dir.as_ref(), &blocks, &model, self)?;
        let done = finished.count()?;
        // Of a run that goes on.
        let before = finished.probed()?;
        rates = rates.of_block_ap_times(before.unwrap_or(1.0));
        let (train, valid) = (train.to_device(&device), valid.to_device(&device));
        if done == blocks.len() {
            // A loader that is shared with the next phase shuffles as if it had been read here.
            drop((train.iter(), valid.iter()));
            on_event(self.start(&blocks, rates))?;
            return load_all(model, &blocks, &finished, on_event);
        }
        let mut storage = Storage::new(&config.cache);
        let mut embedded = 0;
        let mut fill = |split: &str, loader: &dyn DataLoader<M::Batch>, devices: &[Device]| {
            let mut digest = finished.data_digest();
            let mut seen = |hidden: &M::Hidden| {
                embedded += 1;
                on_event(TrainEvent::Pass {
                    pass: Pass::Embed,
                    block: None,
                    done: embedded,
                    total: 0,
                })?;
                digest.add(hidden)
            };
            let shards = Shards::fill(&model, loader, devices, &mut storage, &mut seen)?;
            finished.check_data(split, digest)?;
            Ok::<_, TrainError>(shards)
        };
        let mut train = fill("train", &*train, &devices)?;
        // Validation is on the main device.
        let mut valid = fill("valid", &*valid, &devices[..1])?;
        if train.is_empty() {
            return Err(TrainError::NoData);
        }
        if config.early_stopping.is_some() && valid.is_empty() {
            let message = "early_stopping of Block-AP needs validation data, and there is none";
            return Err(TrainError::Setting(message.to_string()));
        }
        if config.probe_rates && valid.is_empty() {
            let message = "probe_rates of Block-AP needs validation data, and there is none";
            return Err(TrainError::Setting(message.to_string()));
        }
        on_event(self.start(&blocks, rates))?;
        let mut probed = before.is_some() || !config.probe_rates;
        if done > 0 {
            let phase = Phase::BlockAp;
            on_event(TrainEvent::Resumed {
                phase,
                done,
                best: None,
            })?;
        }
        let (schemes, mut quantized) = (config.schemes(), Vec::new());
        // The block that targets go through next.
        let mut ahead = 0;
        for index in 0..blocks.len() {
            let path = blocks.path(index);
            let last = loss::last(config, index, blocks.len());
            for next in ahead..=last {
                model.load_block(next).map_err(TrainError::Model)?;
                blocks.check_loaded(&model, next)?;
                let mut copies = Copies::of(&model, &devices);
                let mut targets = Counter::new(Pass::Targets, next, train.steps() + valid.len());
                for split in [&mut train, &mut valid] {
                    split.advance_targets(next, copies.models(), |hidden, context| {
                        let target = run(&model, next, hidden, context)?;
                        targets.next(on_event)?;
                        Ok(target)
                    })?;
                }
            }
            ahead = last + 1;
            let selected = selected_under(&model, &config.weights, &schemes, Some(path))?;
            let original = finished.original(&model, index)?;
            if let Some(loaded) = finished.load(&model, index, &original)? {
                model = loaded;
            } else {
                // A block may have nothing to quantize; it stays as it is then.
                if !selected.is_empty() {
                    let mut config = config.clone();
                    if config.loss == ReconstructionLoss::Auto {
                        config.loss = suited_loss(train.steps_on(&device)?)?;
                    }
                    let config = &config;
                    let trainer = match config.start {
                        StartValues::MinMax => BlockTrainer::new(model.clone(), index, config)?,
                        StartValues::Searched => {
                            let steps = train.steps_on(&device)?;
                            BlockTrainer::with_steps(model.clone(), index, config, steps)?
                        }
                    };
                    // The trainer has its numbers; a second copy would stay beside those that are trained.
                    model.outline_block(index);
                    let mut block = BlockRun {
                        config,
                        rates,
                        index,
                        blocks: blocks.len(),
                        devices: &devices,
                        train: &train,
                        valid: &valid,
                    };
                    if !probed {
                        let Probed { factor, tried } = probe(&block, &trainer, on_event)?;
                        finished.keep_probed(factor)?;
                        rates = rates.of_block_ap_times(factor);
                        (block.rates, probed) = (rates, true);
                        on_event(TrainEvent::Rates { rates, tried })?;
                    }
                    let trained = block.run(trainer, on_event)?;
                    model = BlockTrainer::pack(model, &trained, path, config)?;
                }
                finished.store(&model, index, original)?;
            }
            quantized.extend(selected);
            // What comes out of the last block goes into no other.
            if index + 1 < blocks.len() {
                let mut copies = Copies::of(&model, &devices);
                let mut inputs = Counter::new(Pass::Inputs, index, train.steps() + valid.len());
                for split in [&mut train, &mut valid] {
                    split.advance_inputs(index, copies.models(), |hidden, context| {
                        let input = run(&model, index, hidden, context)?;
                        inputs.next(on_event)?;
                        Ok(input)
                    })?;
                }
            }
            finished.unload(&mut model, index)?;
            on_event(TrainEvent::BlockEnd { block: index })?;
        }
        // For models without an outline, of which not all was known before.
        if quantized.is_empty() {
            // Says what was there to select from.
            select(&model, &config.weights, &schemes)?;
        }
        check_overrides(&quantized, &schemes)?;
        Ok(model)
    }

    fn start(&self, blocks: &Blocks, rates: LearningRates) -> TrainEvent {
        TrainEvent::PhaseStart {
            phase: Phase::BlockAp,
            blocks: blocks.len(),
            epochs: blocks.len() * self.config.epochs,
            rates,
        }
    }
}

/// Tells of the batches of a pass.
struct Counter {
    pass: Pass,
    block: usize,
    done: usize,
    total: usize,
}

impl Counter {
    fn new(pass: Pass, block: usize, total: usize) -> Self {
        Self {
            pass,
            block,
            done: 0,
            total,
        }
    }

    /// One more batch is done.
    fn next(&mut self, on_event: OnEvent<'_>) -> Result<(), TrainError> {
        let (pass, block) = (self.pass, Some(self.block));
        self.done += 1;
        let (done, total) = (self.done, self.total);
        on_event(TrainEvent::Pass {
            pass,
            block,
            done,
            total,
        })
    }
}

/// The model once all blocks are finished.
fn load_all<M: Blockwise>(
    mut model: M,
    blocks: &Blocks,
    finished: &Finished<'_>,
    on_event: OnEvent<'_>,
) -> Result<M, TrainError> {
    let (phase, done) = (Phase::BlockAp, blocks.len());
    on_event(TrainEvent::Resumed {
        phase,
        done,
        best: None,
    })?;
    for index in 0..done {
        model.load_block(index).map_err(TrainError::Model)?;
        blocks.check_loaded(&model, index)?;
        let original = finished.original(&model, index)?;
        model = match finished.load(&model, index, &original)? {
            Some(loaded) => loaded,
            None => return Err(finished.gone(index)),
        };
        finished.unload(&mut model, index)?;
        on_event(TrainEvent::BlockEnd { block: index })?;
    }
    Ok(model)
}

fn run<M: Blockwise>(
    model: &M,
    index: usize,
    hidden: M::Hidden,
    context: &M::Context,
) -> Result<M::Hidden, TrainError> {
    model
        .run_block(index, hidden, context)
        .map_err(TrainError::Model)
}
