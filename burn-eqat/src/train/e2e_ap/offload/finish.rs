//! From files of blocks in training to packed ones.

use super::block_file::{BlockFile, remove_others};
use super::blocks::InFiles;
use super::trainee::STATE;
use crate::RunDir;
use crate::module::{is_under, pack_trained};
use crate::train::{Blockwise, TrainError, no_store, with_block};
use burn::train::LearnerModel;
use serde_json::{Value, json};

/// What the run directory calls a packed block that the phase ends with.
fn role(index: usize) -> String {
    format!("e2e-ap-packed-{index:04}")
}

/// Where the run directory says that the phase is over.
const DONE: &str = "e2e_ap_done";

/// The model with each block packed, in a file of the run directory.
pub(super) fn packed<M: LearnerModel + Blockwise>(
    files: &InFiles<M>,
    mut model: M,
    rounds: bool,
) -> Result<M, TrainError> {
    for (index, file) in files.files.iter().enumerate() {
        let trained = files.block(index)?;
        let mut whole = with_block(&model, index)?;
        whole.outline_block(index);
        let inside = |param: &str| is_under(param, &file.path);
        let whole = pack_trained(whole, &trained, &inside, rounds)?;
        drop(trained);
        files
            .run
            .store_block(&role(index), &whole, &file.path, Value::Null)?;
        drop(whole);
        store(&files.run, &mut model, index, &file.path)?;
    }
    Ok(model)
}

/// Has the model read block `index` from the file of the packed one; whether there is one.
fn store<M: Blockwise>(
    run: &RunDir,
    model: &mut M,
    index: usize,
    path: &str,
) -> Result<bool, TrainError> {
    let Some(stored) = run.stored_block(&role(index), path)? else {
        return Ok(false);
    };
    match model.store_block(index, stored) {
        true => Ok(true),
        false => Err(no_store::<M>()),
    }
}

/// The model of a phase that is over; what only training needed is removed.
pub(in crate::train::e2e_ap) fn finish(run: &RunDir, blocks: usize) -> Result<(), TrainError> {
    run.set_note(DONE, json!(true))?;
    for index in 0..blocks {
        run.discard(&BlockFile::role(index))?;
    }
    run.set_note(STATE, Value::Null)?;
    Ok(remove_others(run, &[])?)
}

/// Whether a run has been through the phase.
pub(in crate::train::e2e_ap) fn is_over(run: &RunDir) -> bool {
    run.note(DONE) == Some(json!(true))
}

/// The model as the phase left it, in a run that goes on behind it.
pub(in crate::train::e2e_ap) fn finished<M: Blockwise>(
    run: &RunDir,
    model: &M,
) -> Result<Option<M>, TrainError> {
    if !is_over(run) {
        return Ok(None);
    }
    let mut model = model.clone();
    for (index, path) in model.blocks().iter().enumerate() {
        if !store(run, &mut model, index, path)? {
            return Ok(None);
        }
    }
    Ok(Some(model))
}
