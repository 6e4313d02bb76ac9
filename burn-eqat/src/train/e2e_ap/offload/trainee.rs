//! E2E-AP in files, as the loop of the end-to-end phases sees it.

use super::block_file::BlockFile;
use super::blocks::{InFiles, Step};
use super::finish::packed;
use crate::train::best::BestSoFar;
use crate::train::by_blocks::go_back;
use crate::train::e2e_qp::{self, BatchStep, Position, Resumed, Trainee};
use crate::train::{Blockwise, TrainError};
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::{LearnerModel, TrainStep};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;

/// What the run directory calls the state.
pub(super) const STATE: &str = "e2e_ap_state";

/// Where a run is, beside its files.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub position: Position,
    /// The norm of all gradients of the last step, as bits.
    pub norm: Option<u64>,
}

/// A batch is a step: each block takes its own in the backward pass.
pub(in crate::train::e2e_ap) struct Steps<M>(pub Rc<RefCell<InFiles<M>>>);

impl<M> e2e_qp::Steps<M, ()> for Steps<M>
where
    M: LearnerModel + Blockwise<Batch = <M as TrainStep>::Input>,
{
    fn width(&self) -> usize {
        1
    }

    fn take(
        &self,
        model: M,
        batches: Vec<<M as TrainStep>::Input>,
    ) -> Result<Vec<BatchStep<()>>, TrainError> {
        let mut files = self.0.borrow_mut();
        let mut done = Vec::new();
        for batch in batches {
            let mut step = Step::new(&mut files);
            let loss = go_back(&model, batch, &mut step)?;
            step.end();
            done.push(BatchStep {
                loss,
                output: (),
                // They are spent.
                grads: GradientsParams::new(),
            });
        }
        Ok(done)
    }
}

/// The model in its files; its blocks have taken their steps.
pub(in crate::train::e2e_ap) struct Walked<M> {
    pub files: Rc<RefCell<InFiles<M>>>,
    /// What is outside of the blocks, where gradients are recorded and nothing trains.
    pub shell: M,
    /// The model with its blocks in files, packed.
    pub packed: M,
    pub rounds: bool,
    pub device: Device,
    /// Where a run goes on.
    pub from: Option<Position>,
}

impl<M: LearnerModel + Blockwise> Trainee<M> for Walked<M> {
    type Params = M;

    fn model(&self) -> M {
        self.shell.clone()
    }

    fn validated(&mut self) -> Result<M, TrainError> {
        self.packed = packed(&self.files.borrow(), self.packed.clone(), self.rounds)?;
        Ok(self.packed.clone())
    }

    fn device(&self) -> Result<Device, TrainError> {
        Ok(self.device.clone().autodiff())
    }

    fn norm(&self, _of_none: f64) -> f64 {
        self.files.borrow().wrong.unwrap_or(0.0)
    }

    fn params(&self) -> M {
        self.model()
    }

    fn rates(&self) -> ModuleLearningRate {
        self.files.borrow().rates.clone()
    }

    fn step(&mut self, _none: GradientsParams) -> Result<(), TrainError> {
        self.files.borrow_mut().advance();
        Ok(())
    }

    fn skip(&mut self) {
        self.files.borrow_mut().advance();
    }

    fn resume(&mut self) -> Result<Option<Resumed<M>>, TrainError> {
        Ok(self.from.take().map(|position| (position, None)))
    }

    fn keep(
        &mut self,
        position: &Position,
        _best: Option<&BestSoFar<M>>,
    ) -> Result<(), TrainError> {
        self.files.borrow_mut().keep(position)
    }
}

impl<M: Blockwise> InFiles<M> {
    /// Makes the files of now those that the run can go back to.
    pub(super) fn keep(&mut self, position: &Position) -> Result<(), TrainError> {
        let files = self.files.iter().enumerate();
        let files: Vec<(String, String)> = files
            .map(|(index, file)| (BlockFile::role(index), file.name.clone()))
            .collect();
        let state = json!(State {
            position: position.clone(),
            norm: self.norm_before.map(f64::to_bits),
        });
        self.run.adopt(&files, (STATE, state))?;
        self.kept = files.into_iter().map(|(_, name)| name).collect();
        Ok(())
    }
}
