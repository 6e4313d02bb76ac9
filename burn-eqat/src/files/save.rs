use super::checkpoint::transpose;
use super::layout::{Role, Slot, slots};
use super::{FileError, StagedDir};
use crate::Scheme;
use burn::module::Module;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, View};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The name of this project's packed format in `quantization_config.quant_method`.
pub(super) const QUANT_METHOD: &str = "burn-eqat";

/// Files beside the weights that belong to a checkpoint and do not change with its weights.
const SIDE_FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
];

/// Writes a module's tensors and `config.json` into a staged directory.
///
/// Packed weights are written as codes and zero points in 32-bit words and step sizes in 16-bit
/// floats (so [round](crate::Quantize::round_scales) them first to get back what you have); other
/// floats in `dtype` where that loses nothing, else in 32 bits. `config` is written with a
/// `quantization_config` entry where `scheme` is given, without one where it is not.
///
/// # Errors
///
/// When a tensor cannot be read from its device or a file cannot be written.
pub fn save_model<M: Module>(
    module: &M,
    config: &Value,
    scheme: Option<Scheme>,
    dtype: DType,
    staged: &StagedDir,
) -> Result<(), FileError> {
    let path = staged.path().join("model.safetensors");
    let mut views = Vec::new();
    each_view(module, dtype, &path, |name, view| views.push((name, view)))?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), &path)
        .map_err(|error| FileError::invalid(&path, error))?;
    // The writer makes the file private, as temporary files are.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&path, readable).map_err(FileError::io(&path))?;
    }
    write_config(config, scheme, staged.path())
}

/// Bytes of tensor data that [`save_model`] would write.
///
/// # Errors
///
/// When a tensor cannot be read from its device.
pub fn saved_size<M: Module>(module: &M, dtype: DType) -> Result<usize, FileError> {
    let mut bytes = 0;
    each_view(module, dtype, Path::new("model.safetensors"), |_, view| {
        bytes += view.data_len();
    })?;
    Ok(bytes)
}

/// Hands out every tensor of a module in the form that a file has it.
fn each_view<M: Module>(
    module: &M,
    dtype: DType,
    path: &Path,
    mut take: impl FnMut(String, TensorView),
) -> Result<(), FileError> {
    let by_path: HashMap<String, Slot> = slots(module)
        .into_iter()
        .map(|slot| (slot.path.clone(), slot))
        .collect();
    for tensor in module.collect(None, None, false) {
        let Some(slot) = by_path.get(&tensor.name) else {
            continue;
        };
        let data = bridge::into_data(tensor)
            .map_err(|error| FileError::tensor(path, &slot.name, format!("{error:?}")))?;
        let view = TensorView::new(data, slot.role, dtype)
            .map_err(|message| FileError::tensor(path, &slot.name, message))?;
        take(slot.name.clone(), view);
    }
    Ok(())
}

/// Copies the tokenizer and its like from one checkpoint directory to another.
///
/// # Errors
///
/// When a file that is there cannot be copied.
pub fn copy_side_files(from: &Path, to: &Path) -> Result<(), FileError> {
    for name in SIDE_FILES {
        let source = from.join(name);
        if source.exists() {
            // Content only: a read-only original must not make a read-only copy.
            let bytes = fs::read(&source).map_err(FileError::io(&source))?;
            let target = to.join(name);
            fs::write(&target, bytes).map_err(FileError::io(&target))?;
        }
    }
    Ok(())
}

fn write_config(config: &Value, scheme: Option<Scheme>, dir: &Path) -> Result<(), FileError> {
    let path = dir.join("config.json");
    let mut config = config.clone();
    let Value::Object(fields) = &mut config else {
        return Err(FileError::invalid(&path, "expected an object"));
    };
    fields.remove("quantization_config");
    if let Some(scheme) = scheme {
        let entry = json!({
            "quant_method": QUANT_METHOD,
            "scheme": scheme,
            "bits": scheme.bits.get(),
            "sym": scheme.symmetric,
        });
        fields.insert("quantization_config".to_string(), entry);
    }
    let text = serde_json::to_string_pretty(&config).expect("a value is always writable");
    fs::write(&path, text + "\n").map_err(FileError::io(&path))
}

/// A tensor in the form that the file wants.
struct TensorView {
    data: TensorData,
    dtype: Dtype,
}

impl TensorView {
    fn new(data: TensorData, role: Role, dtype: DType) -> Result<Self, String> {
        let data = match role {
            Role::Words | Role::Integer => data,
            Role::Scale => data.convert_dtype(DType::F16),
            Role::Transposed => narrow(transpose(data.convert_dtype(DType::F32)), dtype),
            Role::Plain => narrow(data.convert_dtype(DType::F32), dtype),
        };
        let dtype = match data.dtype() {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I32 => Dtype::I32,
            DType::U32 => Dtype::U32,
            DType::I64 => Dtype::I64,
            DType::I16 => Dtype::I16,
            DType::I8 => Dtype::I8,
            DType::U8 => Dtype::U8,
            DType::U64 => Dtype::U64,
            DType::F32 => Dtype::F32,
            other => return Err(format!("safetensors files have no type for {other:?}")),
        };
        Ok(Self { data, dtype })
    }
}

/// `data` in `dtype` where every value has a place in it, else as it is.
fn narrow(data: TensorData, dtype: DType) -> TensorData {
    if dtype == DType::F32 {
        return data;
    }
    let narrow = data.clone().convert_dtype(dtype);
    let back = narrow.clone().convert_dtype(DType::F32);
    match back.as_bytes() == data.as_bytes() {
        true => narrow,
        false => data,
    }
}

impl View for TensorView {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.data.shape().as_slice()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data.as_bytes())
    }
    fn data_len(&self) -> usize {
        self.data.as_bytes().len()
    }
}
