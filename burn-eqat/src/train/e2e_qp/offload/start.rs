use super::piece::Piece;
use crate::module::is_under;
use crate::train::e2e_qp::E2eQpConfig;
use crate::train::e2e_qp::fit::Schedule;
use crate::train::{Blockwise, TrainError, layer_sizes_by_block, size_by_block, with_block};
use crate::{Quantize, RunDir};
use burn::train::LearnerModel;
use serde_json::Value;

/// A model that E2E-QP can go through block by block, each from its file.
pub(in crate::train::e2e_qp) struct Start<M> {
    /// Without its blocks, where gradients are recorded.
    pub(super) model: M,
    pub(super) pieces: Vec<Piece>,
    pub(super) schedule: Schedule,
    /// A digest of each piece, as it was.
    pub digests: Vec<Value>,
}

impl<M: LearnerModel + Blockwise> Start<M> {
    /// Puts every block of a packed model into the run directory that is not there yet.
    pub fn new(config: &E2eQpConfig, model: M, run: &RunDir) -> Result<Self, TrainError> {
        let mut model = model.valid();
        let params = size_by_block(&model)?;
        let params = params.packed_weights + params.dense_params;
        let schedule = Schedule::new(config, params, &layer_sizes_by_block(&model)?)?;
        let mut blocks = Vec::new();
        let mut digests = Vec::new();
        for (index, path) in model.blocks().iter().enumerate() {
            let loaded = with_block(&model, index)?;
            let inside = |param: &str| is_under(param, path);
            digests.push(run.digest(&loaded, &inside)?.into());
            let piece = Piece::of(&loaded, Some(index), path);
            let stored = match model.stored_block(index) {
                Some(stored) if !model.is_loaded(index) => stored,
                _ => {
                    let role = format!("packed-{index:04}");
                    run.store_block(&role, &loaded, path, Value::Null)?;
                    let stored = run.stored_block(&role, path)?;
                    stored.ok_or_else(|| {
                        let message = format!("{role} is gone since it was written");
                        TrainError::Training(message)
                    })?
                }
            };
            drop(loaded);
            if !model.store_block(index, stored.with_scales(piece.scales.clone())) {
                let name = core::any::type_name::<M>();
                let message = format!(
                    "{name} keeps its blocks in memory: implement Blockwise::store_block, which E2E-QP with blocks in files needs"
                );
                return Err(TrainError::Setting(message));
            }
            blocks.push(piece);
        }
        // What is left in memory.
        digests.push(run.digest(&model, &|_| true)?.into());
        let outside = Piece::of(&model, None, "");
        blocks.push(outside);
        Ok(Self {
            model: model.train_scales_only().train(),
            pieces: blocks,
            schedule,
            digests,
        })
    }

    /// The schedule.
    pub fn schedule(&self) -> Schedule {
        self.schedule.clone()
    }
}
