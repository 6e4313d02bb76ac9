//! Everything that takes an imported model to few bits.

use crate::data::{Batch, Loader};
use crate::imported::{Generated, Imported, Inputs};
use burn_eqat::train::Blockwise;
use burn_eqat::{EfficientQatConfig, Observer, Quantize, Scheme, Weights};
use std::error::Error;
use std::path::Path;

/// Takes a model to few bits by training, and saves it. The observer gets the model after each stage.
pub fn quantize<M: Generated>(
    model: Imported<M>,
    scheme: Scheme,
    (train, valid): (Loader<Inputs<M>>, Loader<Inputs<M>>),
    observer: &mut dyn Observer<Imported<M>>,
    file: &Path,
) -> Result<Imported<M>, Box<dyn Error>>
where
    Imported<M>: Blockwise<Batch = Batch<Inputs<M>>>,
{
    // Only layers: some matrices of generated code are constants, such as a table of positions.
    let recipe = EfficientQatConfig::new(scheme, Weights::linears()).init();
    let packed = recipe.run(model, (train, valid), observer)?;
    packed.save(file)?;
    Ok(packed)
}
