use crate::module::{attach_fake_quant, check_overrides, is_under, pack_trained, selected_under};
use crate::train::{Blockwise, Pass, TrainError, TrainEvent, is_loaded, nothing_selected};
use crate::{Quantize, RunDir, Schemes, Weights};
use serde_json::Value;

/// Round to nearest. Blocks in files are loaded one at a time, and the dense form of a block stays in memory only while
/// it is rounded. With a run directory its packed form does not stay either, where the model can read it again.
pub(super) fn round_to_nearest<M: Blockwise>(
    mut model: M,
    weights: &Weights,
    schemes: &Schemes,
    run_dir: Option<&RunDir>,
    on_event: &mut dyn FnMut(&TrainEvent) -> Result<(), TrainError>,
) -> Result<M, TrainError> {
    let blocks = model.blocks();
    if is_loaded(&model) {
        return Ok(model.quantize_rtn(weights, schemes)?);
    }
    // What is in memory.
    let mut selected = selected_under(&model, weights, schemes, None)?;
    if !selected.is_empty() {
        let fake = attach_fake_quant(model.clone(), &selected);
        model = pack_trained(model, &fake, &|_| true, true)?;
    }
    // Until the model says that it keeps its blocks.
    let mut keeps = run_dir;
    for (index, path) in blocks.iter().enumerate() {
        if model.is_loaded(index) {
            continue;
        }
        model.load_block(index).map_err(TrainError::Model)?;
        let found = selected_under(&model, weights, schemes, Some(path))?;
        if !found.is_empty() {
            let fake = attach_fake_quant(model.clone(), &found);
            model = pack_trained(model, &fake, &|param| is_under(param, path), true)?;
        }
        selected.extend(found);
        if let Some(run) = keeps {
            let role = role(index);
            run.store_block(&role, &model, path, Value::Null)?;
            let leaves = match run.stored_block(&role, path)? {
                Some(stored) => model.store_block(index, stored),
                None => false,
            };
            if !leaves {
                run.discard(&role)?;
                keeps = None;
            }
        }
        on_event(&TrainEvent::Pass {
            pass: Pass::RoundToNearest,
            block: None,
            done: index + 1,
            total: blocks.len(),
        })?;
    }
    // For models without an outline, of which not all was known before.
    if selected.is_empty() {
        return Err(nothing_selected(&model, weights, schemes));
    }
    check_overrides(&selected, schemes)?;
    Ok(model)
}

/// Removes what [`round_to_nearest`] has kept of that many blocks.
pub(super) fn forget(run: &RunDir, blocks: usize) -> Result<(), TrainError> {
    for index in 0..blocks {
        run.discard(&role(index))?;
    }
    Ok(())
}

/// What a run directory calls a rounded block.
fn role(index: usize) -> String {
    format!("rtn-{index:04}")
}
