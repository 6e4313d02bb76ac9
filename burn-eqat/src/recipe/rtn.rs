use crate::module::{attach_fake_quant, check_overrides, is_under, pack_trained, selected_under};
use crate::train::{Blockwise, TrainError};
use crate::{Quantize, QuantizeError, Schemes, Weights};

/// Round to nearest. Blocks in files are loaded one at a time, and the dense form of a block stays in memory only while
/// it is rounded.
pub(super) fn round_to_nearest<M: Blockwise>(
    mut model: M,
    weights: &Weights,
    schemes: &Schemes,
) -> Result<M, TrainError> {
    let blocks = model.blocks();
    let missing = (0..blocks.len()).find(|index| !model.is_loaded(*index));
    let Some(missing) = missing else {
        return Ok(model.quantize_rtn(weights, schemes)?);
    };
    // What is in memory.
    let mut selected = selected_under(&model, weights, schemes, None)?;
    if !selected.is_empty() {
        let fake = attach_fake_quant(model.clone(), &selected);
        model = pack_trained(model, &fake, &|_| true, true)?;
    }
    for (index, path) in blocks.iter().enumerate().skip(missing) {
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
    }
    // For models without an outline, of which not all was known before.
    if selected.is_empty() {
        return Err(nothing_selected(&model, weights, schemes));
    }
    check_overrides(&selected, schemes)?;
    Ok(model)
}

/// The error of an empty selection, with the matrices of the model.
fn nothing_selected<M: Blockwise>(model: &M, weights: &Weights, schemes: &Schemes) -> TrainError {
    match crate::module::select(model, weights, schemes) {
        Err(error) => error.into(),
        Ok(_) => QuantizeError::NothingSelected {
            weights: weights.to_string(),
            matrices: String::new(),
        }
        .into(),
    }
}
