//! What is selected in a model, blocks that are still in files among it.

use super::{Blockwise, TrainError, is_loaded};
use crate::module::{Selected, select, selected_under};
use crate::{QuantizeError, Schemes, Weights};

/// The selected weights of a model with their schemes, as far as they can be known: those of blocks in files where the model
/// has an [`outline`](Blockwise::outline).
///
/// # Errors
///
/// When one does not fit its scheme or is quantized already. Where all are known, also when there is none, or an override
/// matches none.
pub(crate) fn known_selection<M: Blockwise>(
    model: &M,
    weights: &Weights,
    schemes: &Schemes,
) -> Result<Vec<Selected>, QuantizeError> {
    if is_loaded(model) {
        return select(model, weights, schemes);
    }
    match model.outline() {
        Some(whole) => select(&whole, weights, schemes),
        None => selected_under(model, weights, schemes, None),
    }
}

/// The error of an empty selection, with the matrices of the model.
pub(crate) fn nothing_selected<M: Blockwise>(
    model: &M,
    weights: &Weights,
    schemes: &Schemes,
) -> TrainError {
    match select(model, weights, schemes) {
        Err(error) => error.into(),
        Ok(_) => QuantizeError::NothingSelected {
            weights: weights.to_string(),
            matrices: String::new(),
        }
        .into(),
    }
}
