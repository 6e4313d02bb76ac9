use super::piece::Piece;
use crate::module::is_under;
use crate::train::e2e_qp::E2eQpConfig;
use crate::train::e2e_qp::fit::Schedule;
use crate::train::mean_step::MeanStep;
use crate::train::{Blockwise, TrainError, no_store, with_block};
use crate::{LayerSize, Quantize, RunDir, SizeReport, StoredBlock};
use burn::module::Module;
use burn::tensor::Device;
use burn::train::LearnerModel;
use serde_json::Value;

/// A model that E2E-QP can go through block by block, each from its file.
pub(in crate::train::e2e_qp) struct Start<M> {
    /// Without its blocks, where gradients are recorded.
    pub(super) model: M,
    pub(super) pieces: Vec<Piece>,
    pub(super) schedule: Schedule,
    /// Where the model is.
    pub device: Device,
    /// A digest of each piece, as it was.
    pub digests: Vec<Value>,
}

impl<M: LearnerModel + Blockwise> Start<M> {
    /// Puts every block of a packed model into the run directory that is not there yet.
    pub fn new(config: &E2eQpConfig, model: M, run: &RunDir) -> Result<Self, TrainError> {
        let mut model = model.valid();
        let mut device = model.devices().into_iter().next();
        let (mut pieces, mut digests) = (Vec::new(), Vec::new());
        let (mut size, mut layers) = (SizeReport::default(), Vec::new());
        let mut mean = MeanStep::default();
        for (index, path) in model.blocks().iter().enumerate() {
            let loaded = with_block(&model, index)?;
            device = device.or_else(|| loaded.devices().into_iter().next());
            let inside = |param: &str| is_under(param, path);
            let digest = run.digest(&loaded, &inside)?;
            size = size.and(SizeReport::of_part(&loaded, &inside));
            layers.extend(LayerSize::of_part(&loaded, &inside));
            mean.add(&loaded, &inside);
            let piece = Piece::of(&loaded, Some(index), path);
            let stored = match model.stored_block(index) {
                Some(stored) if !model.is_loaded(index) => stored,
                _ => keep(run, &loaded, index, path, &digest)?,
            };
            drop(loaded);
            if !model.store_block(index, stored.with_scales(piece.scales.clone())) {
                return Err(no_store::<M>());
            }
            pieces.push(piece);
            digests.push(digest.into());
        }
        // What is left in memory.
        digests.push(run.digest(&model, &|_| true)?.into());
        size = size.and(SizeReport::of_part(&model, &|_| true));
        layers.extend(LayerSize::of_part(&model, &|_| true));
        mean.add(&model, &|_| true);
        pieces.push(Piece::of(&model, None, ""));
        let params = size.packed_weights + size.dense_params;
        Ok(Self {
            model: model.train_scales_only().train(),
            pieces,
            schedule: Schedule::new(config, params, &layers, &mean)?,
            device: device.ok_or(TrainError::NoPackedWeights)?.inner(),
            digests,
        })
    }

    /// The schedule.
    pub fn schedule(&self) -> Schedule {
        self.schedule.clone()
    }
}

/// Keeps a packed block, where a run that goes on has not kept it before.
fn keep<M: Module>(
    run: &RunDir,
    model: &M,
    index: usize,
    path: &str,
    digest: &str,
) -> Result<StoredBlock, TrainError> {
    let role = format!("packed-{index:04}");
    let before = run.stored(&role)?;
    if before.is_none_or(|before| before.facts != *digest) {
        run.store_block(&role, model, path, digest.into())?;
    }
    let stored = run.stored_block(&role, path)?;
    stored.ok_or_else(|| TrainError::Training(format!("{role} is gone since it was written")))
}
