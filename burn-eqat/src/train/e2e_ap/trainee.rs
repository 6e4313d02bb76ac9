use crate::train::e2e_qp::{Schedule, Trainee};
use crate::train::optimizer::adamw;
use crate::train::param_rates::ParamRates;
use crate::train::{LearningRates, TrainError};
use burn::lr_scheduler::LrScheduler;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::train::LearnerModel;

/// The rates of a step, of which they have this part of the highest ones, from 0 to 1.
pub(super) fn rates_of(
    params: &ParamRates,
    part: f64,
    highest: LearningRates,
) -> ModuleLearningRate {
    let weights = highest.e2e_ap_weights.times(part);
    params.at(highest.e2e_ap_quantizer.times(part), weights)
}

/// A model all of whose parameters take steps, those of the quantizer at a rate of their own.
pub(super) struct AllParameters<M> {
    /// Absent only while the optimizer has it.
    model: Option<M>,
    optim: ModuleOptimizer,
    schedule: Schedule,
    highest: LearningRates,
    params: ParamRates,
    rates: ModuleLearningRate,
}

impl<M> AllParameters<M> {
    pub fn new(model: M, schedule: Schedule, highest: LearningRates, params: ParamRates) -> Self {
        Self {
            model: Some(model),
            optim: adamw(),
            schedule,
            highest,
            params,
            rates: 0.0.into(),
        }
    }

    /// The rates of the next step.
    fn next(&mut self) -> ModuleLearningRate {
        rates_of(&self.params, self.schedule.step(), self.highest)
    }
}

impl<M: LearnerModel> Trainee<M> for AllParameters<M> {
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
        self.rates = self.next();
        // The optimizer updates in place what nobody else holds.
        let model = self.model.take().expect("it comes back from each step");
        self.model = Some(self.optim.step(self.rates.clone(), model, grads));
        Ok(())
    }

    fn skip(&mut self) {
        self.rates = self.next();
    }
}
