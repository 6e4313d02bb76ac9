use super::Start;
use super::piece::Piece;
use crate::module::place_scales;
use crate::run_dir::HostScales;
use crate::train::best::BestSoFar;
use crate::train::e2e_qp::fit::Schedule;
use crate::train::e2e_qp::state::{BEST, Best, Kept, Position, Scales, State};
use crate::train::e2e_qp::trainee::{Resumed, Trainee};
use crate::train::kept_tensors::Moments;
use crate::train::{Blockwise, TrainError};
use crate::{Quantize, RunDir};
use burn::lr_scheduler::LrScheduler;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn::train::LearnerModel;
use std::collections::HashSet;
use std::sync::Arc;

/// A model whose blocks are in files, each with the step sizes that it has by now.
pub(in crate::train::e2e_qp) struct Offloaded<M> {
    model: M,
    pieces: Vec<Piece>,
    schedule: Schedule,
    rates: ModuleLearningRate,
    run: RunDir,
    device: Device,
}

impl<M: LearnerModel + Blockwise> Offloaded<M> {
    pub fn new(start: Start<M>, run: RunDir) -> Self {
        Self {
            device: start.device.autodiff(),
            model: start.model,
            pieces: start.pieces,
            schedule: start.schedule,
            rates: 0.0.into(),
            run,
        }
    }

    /// The model as it leaves the phase: `model` is this one, or as it was before.
    pub fn finish(mut self, model: M, rounds: bool) -> Result<M, TrainError> {
        let mut model = model.valid();
        for piece in &mut self.pieces {
            piece.scales = scales_of(&model, piece);
            piece.finish(rounds)?;
            model = with_scales(model, piece, &piece.scales);
        }
        Ok(model)
    }

    /// Puts the step sizes of now into the model.
    fn place(&mut self) {
        for piece in &self.pieces {
            if let Some(index) = piece.index {
                store_scales(&mut self.model, index, &piece.scales);
            } else if !piece.scales.is_empty() {
                let model = with_scales(self.model.valid(), piece, &piece.scales);
                self.model = model.train_scales_only().train();
            }
        }
    }

    fn scales(&self, model: &M) -> Scales {
        let of_piece = |piece: &Piece| -> Scales {
            let scales = scales_of(model, piece);
            let scales = scales.iter();
            scales
                .map(|(path, scale)| (piece.full_path(path), scale.data.clone()))
                .collect()
        };
        self.pieces.iter().flat_map(of_piece).collect()
    }
}

/// The step sizes that a model has of a piece.
fn scales_of<M: Blockwise>(model: &M, piece: &Piece) -> Arc<HostScales> {
    match piece.index {
        Some(index) => {
            let stored = model.stored_block(index);
            let scales = stored.and_then(|stored| stored.scales().cloned());
            scales.unwrap_or_else(|| piece.scales.clone())
        }
        None => Piece::of(&model.valid(), None, "").scales,
    }
}

/// Has a block in a file come with other step sizes.
fn store_scales<M: Blockwise>(model: &mut M, index: usize, scales: &Arc<HostScales>) {
    if let Some(stored) = model.stored_block(index) {
        model.store_block(index, stored.with_scales(scales.clone()));
    }
}

/// A model, where no gradients are recorded, with other step sizes of a piece.
fn with_scales<M: Blockwise>(mut model: M, piece: &Piece, scales: &Arc<HostScales>) -> M {
    match piece.index {
        Some(index) => {
            store_scales(&mut model, index, scales);
            model
        }
        None if scales.is_empty() => model,
        None => place_scales(model, scales),
    }
}

impl<M: LearnerModel + Blockwise> Trainee<M> for Offloaded<M> {
    type Params = Vec<Param<Tensor<2>>>;

    fn model(&self) -> M {
        self.model.clone()
    }

    fn device(&self) -> Result<Device, TrainError> {
        Ok(self.device.clone())
    }

    fn params(&self) -> Self::Params {
        let pieces = self.pieces.iter();
        pieces
            .flat_map(|piece| piece.skeletons(&self.device))
            .collect()
    }

    fn rates(&self) -> ModuleLearningRate {
        self.rates.clone()
    }

    fn step(&mut self, mut grads: GradientsParams) -> Result<(), TrainError> {
        self.rates = self.schedule.step().into();
        for piece in &mut self.pieces {
            piece.step(&mut grads, &self.rates, &self.device)?;
        }
        self.place();
        Ok(())
    }

    fn skip(&mut self) {
        self.rates = self.schedule.step().into();
    }

    fn resume(&mut self) -> Result<Option<Resumed<M>>, TrainError> {
        let Some(state) = State::load(&self.run)? else {
            return Ok(None);
        };
        let weights = self.scales(&self.model).into_iter();
        let weights: HashSet<String> = weights.map(|(path, _)| path).collect();
        state.check_moments(&|path| weights.contains(path))?;
        let best = match state.position.best {
            Some(loss) => {
                let mut model = self.model.valid();
                for piece in &self.pieces {
                    let scales = Arc::new(piece.scales_in(&state, BEST)?);
                    model = with_scales(model, piece, &scales);
                }
                Some(Best {
                    loss: f64::from_bits(loss),
                    model: model.train_scales_only().train(),
                    worse: state.position.worse,
                })
            }
            None => None,
        };
        for piece in &mut self.pieces {
            piece.go_back(&state)?;
        }
        self.place();
        self.schedule.go_on_from(state.position.step);
        Ok(Some((state.position, best)))
    }

    fn keep(&mut self, position: &Position, best: Option<&BestSoFar<M>>) -> Result<(), TrainError> {
        let mut moments = Moments::default();
        for piece in &self.pieces {
            moments.extend(piece.kept_moments()?);
        }
        let kept = Kept {
            scales: self.scales(&self.model),
            best: best
                .and_then(BestSoFar::best)
                .map(|(_, best)| self.scales(best)),
            moments,
        };
        State::keep(&self.run, position, best, kept)
    }
}
