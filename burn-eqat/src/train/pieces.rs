//! Models whose blocks are in files, a piece at a time.

use super::{Blockwise, TrainError};
use crate::files::PackedSchemes;
use crate::module::{has_selected, is_under, packed_weights};
use crate::{LayerSize, SizeReport, Weights};

/// What gets each piece: the model that has it, and which paths are those of the piece.
type Take<'a, M, E> = &'a mut dyn FnMut(&M, &dyn Fn(&str) -> bool) -> Result<(), E>;

/// Calls `take` with each piece of a model: first what is in memory, then each block that is in a file, which is loaded for
/// that time. With a piece comes the model that has it, and which of its paths are those of the piece.
///
/// ```
/// use burn_eqat::Quantize;
/// use burn_eqat::train::{TrainError, for_each_piece};
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// # #[derive(Module, Debug)]
/// # struct Mlp { layers: Vec<Linear> }
/// # impl Blockwise for Mlp {
/// #     type Batch = Tensor<2>;
/// #     type Hidden = Tensor<2>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
/// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
/// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
/// # }
/// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
///
/// // `model` implements `Blockwise`.
/// let mut pieces = Vec::new();
/// for_each_piece(&model, &mut |piece, inside| {
///     assert!(inside("layers.0.weight"));
///     pieces.push(piece.size_report().dense_params);
///     Ok::<(), TrainError>(())
/// })?;
/// // All blocks are in memory, so there is a single piece.
/// assert_eq!(pieces, [2 * (8 * 8 + 8)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a block cannot be loaded, or `take` fails.
pub fn for_each_piece<M, E>(model: &M, take: Take<'_, M, E>) -> Result<(), E>
where
    M: Blockwise,
    E: From<TrainError>,
{
    take(model, &|_| true)?;
    for (index, path) in model.blocks().iter().enumerate() {
        if !model.is_loaded(index) {
            let loaded = with_block(model, index)?;
            take(&loaded, &|param| is_under(param, path))?;
        }
    }
    Ok(())
}

/// The size of a model, with its blocks in files. Each of them is read for it.
///
/// ```
/// use burn_eqat::train::size_by_block;
/// use burn_eqat::{Quantize, Scheme, Weights};
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// # #[derive(Module, Debug)]
/// # struct Mlp { layers: Vec<Linear> }
/// # impl Blockwise for Mlp {
/// #     type Batch = Tensor<2>;
/// #     type Hidden = Tensor<2>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
/// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
/// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
/// # }
/// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
///
/// // `model` implements `Blockwise`.
/// let scheme: Scheme = "w4g8".parse()?;
/// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
/// // The same as `size_report` where all blocks are in memory.
/// assert_eq!(size_by_block(&packed)?, packed.size_report());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a block cannot be loaded.
pub fn size_by_block<M: Blockwise>(model: &M) -> Result<SizeReport, TrainError> {
    let mut report = SizeReport::default();
    for_each_piece(model, &mut |piece, inside| {
        report = report.and(SizeReport::of_part(piece, inside));
        Ok::<_, TrainError>(())
    })?;
    Ok(report)
}

/// The size of each packed weight of a model, with those of its blocks in files. Each of them is read for it.
///
/// ```
/// use burn_eqat::train::layer_sizes_by_block;
/// use burn_eqat::{Quantize, Scheme, Weights};
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// # #[derive(Module, Debug)]
/// # struct Mlp { layers: Vec<Linear> }
/// # impl Blockwise for Mlp {
/// #     type Batch = Tensor<2>;
/// #     type Hidden = Tensor<2>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
/// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
/// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
/// # }
/// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
///
/// // `model` implements `Blockwise`.
/// let scheme: Scheme = "w4g8".parse()?;
/// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
/// let layers = layer_sizes_by_block(&packed)?;
/// assert_eq!(layers[1].path, "layers.1.weight");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a block cannot be loaded.
pub fn layer_sizes_by_block<M: Blockwise>(model: &M) -> Result<Vec<LayerSize>, TrainError> {
    let mut layers = Vec::new();
    for_each_piece(model, &mut |piece, inside| {
        layers.extend(LayerSize::of_part(piece, inside));
        Ok::<_, TrainError>(())
    })?;
    Ok(layers)
}

/// The schemes of the packed weights of a model, with those of its blocks in files; `None` if nothing is packed. Each of them is
/// read for it.
///
/// ```
/// use burn_eqat::train::schemes_by_block;
/// use burn_eqat::{Quantize, Scheme, Weights};
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// # #[derive(Module, Debug)]
/// # struct Mlp { layers: Vec<Linear> }
/// # impl Blockwise for Mlp {
/// #     type Batch = Tensor<2>;
/// #     type Hidden = Tensor<2>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
/// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
/// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
/// # }
/// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
///
/// // `model` implements `Blockwise`.
/// let scheme: Scheme = "w4g8".parse()?;
/// let packed = model.quantize_rtn(&Weights::linears(), scheme)?;
/// assert_eq!(schemes_by_block(&packed)?.unwrap().to_string(), "w4g8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a block cannot be loaded.
pub fn schemes_by_block<M: Blockwise>(model: &M) -> Result<Option<PackedSchemes>, TrainError> {
    let layers = layer_sizes_by_block(model)?.into_iter();
    let schemes = layers.map(|layer| (layer.path, layer.scheme));
    Ok(PackedSchemes::of_weights(schemes.collect()))
}

/// Whether the selected weights of a model are packed already. Blocks in files are read until one has a selected weight.
pub(crate) fn is_packed<M: Blockwise>(model: &M, weights: &Weights) -> Result<bool, TrainError> {
    if !packed_weights(model).is_empty() {
        return Ok(true);
    }
    for (index, path) in model.blocks().iter().enumerate() {
        if model.is_loaded(index) {
            continue;
        }
        let loaded = with_block(model, index)?;
        if !packed_weights(&loaded).is_empty() {
            return Ok(true);
        }
        if has_selected(&loaded, weights, path) {
            break;
        }
    }
    Ok(false)
}

/// Whether all blocks of a model are in memory.
pub(crate) fn is_loaded<M: Blockwise>(model: &M) -> bool {
    (0..model.blocks().len()).all(|index| model.is_loaded(index))
}

/// The error of a model that keeps its blocks, where they are to be in files.
pub(crate) fn no_store<M>() -> TrainError {
    TrainError::Setting(format!(
        "{} keeps its blocks in memory: implement Blockwise::store_block, which E2E-QP with blocks in files needs",
        core::any::type_name::<M>()
    ))
}

/// A model with all of its blocks in memory.
///
/// ```
/// use burn_eqat::train::load_blocks;
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use burn_eqat::train::{Blockwise, ModelError};
/// # #[derive(Module, Debug)]
/// # struct Mlp { layers: Vec<Linear> }
/// # impl Blockwise for Mlp {
/// #     type Batch = Tensor<2>;
/// #     type Hidden = Tensor<2>;
/// #     type Context = ();
/// #     fn blocks(&self) -> Vec<String> { (0..self.layers.len()).map(|i| format!("layers.{i}")).collect() }
/// #     fn embed(&self, batch: Tensor<2>) -> Result<(Tensor<2>, ()), ModelError> { Ok((batch, ())) }
/// #     fn run_block(&self, i: usize, x: Tensor<2>, _: &()) -> Result<Tensor<2>, ModelError> { Ok(self.layers[i].forward(x)) }
/// # }
/// # let model = Mlp { layers: (0..2).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect() };
///
/// // `model` implements `Blockwise`.
/// let model = load_blocks(model)?;
/// assert!((0..2).all(|index| model.is_loaded(index)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a block cannot be loaded: the run directory that it is in is gone, say.
pub fn load_blocks<M: Blockwise>(mut model: M) -> Result<M, TrainError> {
    for index in 0..model.blocks().len() {
        model.load_block(index).map_err(TrainError::Model)?;
    }
    Ok(model)
}

/// A model with one more block in memory.
pub(crate) fn with_block<M: Blockwise>(model: &M, index: usize) -> Result<M, TrainError> {
    let mut model = model.clone();
    model.load_block(index).map_err(TrainError::Model)?;
    Ok(model)
}
