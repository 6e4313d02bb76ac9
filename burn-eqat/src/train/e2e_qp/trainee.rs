//! What E2E-QP trains: a model with its optimizer and schedule.

use super::fit::Schedule;
use super::state::{Best, Kept, Position, State, scales_of};
use crate::RunDir;
use crate::module::list_params;
use crate::train::TrainError;
use crate::train::best::BestSoFar;
use crate::train::kept_tensors::by_paths;
use crate::train::optimizer::adamw;
use burn::lr_scheduler::LrScheduler;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use burn::train::{Learner, LearnerModel, TrainStep};
use std::collections::HashMap;

/// Where a run was left: its position, and the best epoch so far.
pub(in crate::train) type Resumed<M> = (Position, Option<Best<M>>);

/// A model that takes optimizer steps.
pub(in crate::train) trait Trainee<M: LearnerModel> {
    /// What has the parameters that train.
    type Params: Module;

    /// The model as it is now, where gradients are recorded.
    fn model(&self) -> M;

    /// The model to validate.
    fn validated(&mut self) -> Result<M, TrainError> {
        Ok(self.model())
    }

    /// The norm of all gradients of a step, of which those that are handed to [`step`](Self::step) have this norm.
    fn norm(&self, handed: f64) -> f64 {
        handed
    }

    /// Where it is, with gradients recorded.
    fn device(&self) -> Result<Device, TrainError> {
        let device = self.model().devices().into_iter().next();
        Ok(device.ok_or(TrainError::NoPackedWeights)?.autodiff())
    }

    /// The parameters that train; their numbers need not be there.
    fn params(&self) -> Self::Params;

    /// The learning rates of the last step.
    fn rates(&self) -> ModuleLearningRate;

    /// Takes a step.
    fn step(&mut self, grads: GradientsParams) -> Result<(), TrainError>;

    /// Leaves a step out: only the schedule goes on.
    fn skip(&mut self);

    /// Goes back to where a run was left, if it was.
    fn resume(&mut self) -> Result<Option<Resumed<M>>, TrainError> {
        Ok(None)
    }

    /// Keeps where the run is.
    fn keep(
        &mut self,
        _position: &Position,
        _best: Option<&BestSoFar<M>>,
    ) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Burn's learner, whose checkpoints are Burn's.
impl<M: LearnerModel> Trainee<M> for Learner<M> {
    type Params = M;

    fn model(&self) -> M {
        Learner::model(self)
    }

    fn params(&self) -> M {
        Learner::model(self)
    }

    fn rates(&self) -> ModuleLearningRate {
        self.lr_current()
    }

    fn step(&mut self, grads: GradientsParams) -> Result<(), TrainError> {
        self.lr_step();
        self.optimizer_step(grads);
        Ok(())
    }

    fn skip(&mut self) {
        self.lr_step();
    }
}

/// A learner of our own: it can be kept in a run directory.
pub(in crate::train) struct Resumable<M> {
    /// Absent only while the optimizer has it.
    model: Option<M>,
    optim: ModuleOptimizer,
    schedule: Schedule,
    rates: ModuleLearningRate,
    run_dir: Option<RunDir>,
}

impl<M: LearnerModel> Resumable<M> {
    pub fn new(model: M, schedule: Schedule, run_dir: Option<RunDir>) -> Self {
        Self {
            model: Some(model),
            optim: adamw(),
            schedule,
            rates: 0.0.into(),
            run_dir,
        }
    }
}

impl<M: LearnerModel> Trainee<M> for Resumable<M> {
    type Params = M;

    fn model(&self) -> M {
        self.model.clone().expect("it comes back from each step")
    }

    fn params(&self) -> M {
        self.model()
    }

    fn rates(&self) -> ModuleLearningRate {
        self.rates.clone()
    }

    fn step(&mut self, grads: GradientsParams) -> Result<(), TrainError> {
        self.rates = self.schedule.step().into();
        // The optimizer updates in place what nobody else holds.
        let model = self.model.take().expect("it comes back from each step");
        let rates = self.rates.clone();
        self.model = Some(TrainStep::optimize(model, &mut self.optim, rates, grads));
        Ok(())
    }

    fn skip(&mut self) {
        self.rates = self.schedule.step().into();
    }

    fn resume(&mut self) -> Result<Option<Resumed<M>>, TrainError> {
        let Some(run) = &self.run_dir else {
            return Ok(None);
        };
        let Some(state) = State::load(run)? else {
            return Ok(None);
        };
        let model = self.model();
        let best = state.best(&model)?;
        let ids = list_params(&model).into_iter();
        let ids: HashMap<String, ParamId> = ids.map(|param| (param.path, param.id)).collect();
        state.check_moments(&|path| ids.contains_key(path))?;
        self.optim = state.optimizer(&ids, adamw())?;
        self.model = Some(state.model(model)?);
        self.schedule.go_on_from(state.position.step);
        Ok(Some((state.position, best)))
    }

    fn keep(&mut self, position: &Position, best: Option<&BestSoFar<M>>) -> Result<(), TrainError> {
        match &self.run_dir {
            Some(run) => {
                let kept = Kept {
                    scales: scales_of(&self.model()),
                    best: best
                        .and_then(BestSoFar::best)
                        .map(|(_, best)| scales_of(best)),
                    moments: by_paths(&self.optim, &|_, path| Some(path.to_string()))?,
                };
                State::keep(run, position, best, kept)
            }
            None => Ok(()),
        }
    }
}
