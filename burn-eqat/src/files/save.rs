use super::entry::own_entry;
use super::error::FileError;
use super::json::write_json;
use super::layout::{Role, Slot, slots};
use super::parameters::{each_parameter_of, view};
use super::schemes::PackedSchemes;
use super::shards::ShardWriter;
use super::staged::StagedDir;
use super::view::{Floats, TensorView};
use crate::Scheme;
use crate::train::{Blockwise, TrainError, for_each_piece};
use burn::module::Module;
use burn::tensor::DType;
use safetensors::tensor::View;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes a module's tensors and `config.json` into a staged directory.
///
/// Packed weights are written as 32-bit words of codes and zero points, and as step sizes. Step sizes are in 16
/// bits if that loses nothing ([round](crate::Quantize::round_scales) them for the smallest files), else in 32.
/// Other floats are in `dtype` if that loses nothing, else in 32 bits. If weights are packed, `config` gets a
/// `quantization_config` entry with their schemes.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{DType, Device};
/// use burn_eqat::files::{Checkpoint, StagedDir, save_model};
/// use burn_eqat::{Quantize, Scheme, Weights};
/// use serde_json::json;
///
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("model");
/// let scheme: Scheme = "w4g32".parse()?;
/// let new = || -> Linear { LinearConfig::new(64, 32).init(&Device::flex()) };
/// let packed = new().quantize_rtn(&Weights::linears(), scheme)?;
///
/// let staged = StagedDir::begin(&dir, false)?;
/// save_model(&packed, &json!({"model_type": "linear"}), DType::F32, &staged)?;
/// staged.commit()?;
///
/// let loaded = Checkpoint::open(&dir)?.load(new(), |_| false)?;
/// assert_eq!(loaded.weight.val().into_data(), packed.weight.val().into_data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When a weight is fake-quantized, a tensor cannot be read from its device or a file cannot be written.
pub fn save_model<M: Module>(
    module: &M,
    config: &Value,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), FileError> {
    let mut writer = ModelWriter::new(staged, dtype);
    writer.add(module, &|_| true)?;
    writer.finish(config)
}

/// [`save_model`] for a model whose blocks are in files: each is loaded, written and dropped in turn.
///
/// ```
/// use burn::tensor::DType;
/// use burn_eqat::files::{Checkpoint, StagedDir, save_model_by_block};
/// use serde_json::json;
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// # use burn_eqat::train::{Blockwise, ModelError};
///
/// # let parent = tempfile::tempdir()?;
/// # let dir = parent.path().join("model");
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
/// // `model` implements `Blockwise`.
/// let staged = StagedDir::begin(&dir, false)?;
/// save_model_by_block(&model, &json!({"model_type": "mlp"}), DType::F32, &staged)?;
/// staged.commit()?;
/// assert!(Checkpoint::open(&dir)?.has_tensor("layers.1.weight"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`save_model`], and when a block cannot be loaded.
pub fn save_model_by_block<M: Blockwise>(
    model: &M,
    config: &Value,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), TrainError> {
    let mut writer = ModelWriter::new(staged, dtype);
    for_each_piece(model, &mut |piece, inside| {
        writer.add(piece, inside).map_err(TrainError::from)
    })?;
    Ok(writer.finish(config)?)
}

/// Data that is gathered for a file; a model that has more is written to several, so that memory does not have to hold it.
const SHARD: u64 = 1_000_000_000;

/// Writes a model, a piece at a time.
struct ModelWriter<'a> {
    dir: &'a Path,
    dtype: DType,
    file: ShardWriter<'a, TensorView>,
    schemes: BTreeMap<String, Scheme>,
}

impl<'a> ModelWriter<'a> {
    fn new(staged: &'a StagedDir, dtype: DType) -> Self {
        Self {
            dir: staged.path(),
            dtype,
            file: ShardWriter::new(staged.path(), SHARD),
            schemes: BTreeMap::new(),
        }
    }

    /// Writes the parameters of a module whose paths are `inside`.
    fn add<M: Module>(
        &mut self,
        module: &M,
        inside: &dyn Fn(&str) -> bool,
    ) -> Result<(), FileError> {
        let floats = Floats::Lossless(self.dtype);
        each_parameter_of(module, inside, self.dir, |slot, data| {
            let view = view(self.dir, &slot, data, floats)?;
            self.file.push(slot.name, view)
        })?;
        let mut schemes = PackedSchemes::by_path(module);
        schemes.retain(|path, _| inside(path));
        self.schemes.extend(schemes);
        Ok(())
    }

    fn finish(self, config: &Value) -> Result<(), FileError> {
        self.file.finish()?;
        let schemes = PackedSchemes::of_weights(self.schemes);
        write_config(config, schemes.as_ref().map(own_entry), self.dir)
    }
}

/// Bytes of tensor data that [`save_model`] would write.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{DType, Device};
/// use burn_eqat::files::saved_size;
///
/// let model = LinearConfig::new(64, 32).with_bias(false).init(&Device::flex());
/// assert_eq!(saved_size(&model, DType::F32)?, 4 * 64 * 32);
/// # Ok::<(), burn_eqat::files::FileError>(())
/// ```
///
/// # Errors
///
/// When a tensor cannot be read from its device.
pub fn saved_size<M: Module>(module: &M, dtype: DType) -> Result<usize, FileError> {
    saved_size_of(module, &|_| true, dtype)
}

/// [`saved_size`] of a model whose blocks are in files. Each of them is read for it.
///
/// ```
/// use burn::tensor::DType;
/// use burn_eqat::files::{saved_size, saved_size_by_block};
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// # use burn_eqat::train::{Blockwise, ModelError};
///
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
/// // `model` implements `Blockwise`, and all of its blocks are in memory.
/// assert_eq!(saved_size_by_block(&model, DType::F32)?, saved_size(&model, DType::F32)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`saved_size`], and when a block cannot be loaded.
pub fn saved_size_by_block<M: Blockwise>(model: &M, dtype: DType) -> Result<usize, TrainError> {
    let mut bytes = 0;
    for_each_piece(model, &mut |piece, inside| {
        bytes += saved_size_of(piece, inside, dtype)?;
        Ok::<_, TrainError>(())
    })?;
    Ok(bytes)
}

fn saved_size_of<M: Module>(
    module: &M,
    inside: &dyn Fn(&str) -> bool,
    dtype: DType,
) -> Result<usize, FileError> {
    let mut bytes = 0;
    let path = Path::new("model.safetensors");
    each_parameter_of(module, inside, path, |slot, data| {
        bytes += view(path, &slot, data, Floats::Lossless(dtype))?.data_len();
        Ok(())
    })?;
    Ok(bytes)
}

/// The approximate bytes of tensor data that [`save_model`] would write. Does not read the data, so parameters
/// need not have any yet.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{DType, Device};
/// use burn_eqat::files::{check_room, expected_size};
///
/// # let parent = tempfile::tempdir()?;
/// # let target = parent.path().join("model");
/// let model = LinearConfig::new(64, 32).with_bias(false).init(&Device::flex());
/// let bytes = expected_size(&model, DType::F16);
/// assert_eq!(bytes, 2 * 64 * 32);
/// check_room(&target, bytes)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn expected_size<M: Module>(module: &M, dtype: DType) -> u64 {
    let bytes = |slot: &Slot| {
        let element = match slot.role {
            Role::Codes | Role::ZeroPoints => 4,
            Role::Scales => 2,
            Role::Integer => 8,
            Role::Bool => 1,
            // Norms and biases are small, and are in 32 bits after training.
            Role::Plain if slot.shape.num_dims() < 2 => 4,
            Role::Plain | Role::Transposed | Role::FakeQuant => dtype.size(),
        };
        (slot.shape.num_elements() * element) as u64
    };
    slots(module).iter().map(bytes).sum()
}

/// Writes `config.json` with a `quantization_config`, or without one.
pub(super) fn write_config(
    config: &Value,
    quantization: Option<Value>,
    dir: &Path,
) -> Result<(), FileError> {
    let path = dir.join("config.json");
    let mut config = config.clone();
    let Value::Object(fields) = &mut config else {
        return Err(FileError::invalid(&path, "expected an object"));
    };
    fields.remove("quantization_config");
    if let Some(entry) = quantization {
        fields.insert("quantization_config".to_string(), entry);
    }
    write_json(&path, &config)
}
