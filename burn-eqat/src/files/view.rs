//! Tensors in the form of a file.

use super::layout::Role;
use super::transpose::transpose;
use burn::tensor::{BoolStore, DType, TensorData, bf16, f16};
use safetensors::tensor::{Dtype, View};
use std::borrow::Cow;

/// How floats are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Floats {
    /// In the given type if that loses nothing, else in f32.
    Lossless(DType),
    /// In a type, rounded.
    Rounded(DType),
    /// In their own type.
    AsIs,
}

impl Floats {
    /// `data` in the type.
    pub fn convert(self, data: TensorData) -> TensorData {
        match self {
            Floats::Lossless(dtype) if data.dtype() == dtype => data,
            Floats::Lossless(dtype) => narrow(data.convert_dtype(DType::F32), dtype),
            Floats::Rounded(dtype) => data.convert_dtype(dtype),
            Floats::AsIs => data,
        }
    }

    /// The type of step sizes, given that of other floats: 16 bits, if that loses nothing or everything is
    /// rounded.
    fn of_scales(self) -> Self {
        match self {
            Floats::Rounded(_) => Floats::Rounded(DType::F16),
            Floats::Lossless(_) | Floats::AsIs => Floats::Lossless(DType::F16),
        }
    }
}

/// Step sizes as files have them: in 16 bits where that loses nothing, else in 32.
pub(crate) fn stored_scales(scales: TensorData) -> TensorData {
    Floats::AsIs.of_scales().convert(scales)
}

/// A tensor in the form of the file.
pub(super) struct TensorView {
    data: TensorData,
    dtype: Dtype,
}

impl TensorView {
    /// A parameter of a module, in the file's form.
    pub fn of_parameter(data: TensorData, role: Role, floats: Floats) -> Result<Self, String> {
        Self::new(match role {
            // In 64 bits on LibTorch.
            Role::Codes | Role::ZeroPoints if data.dtype() == DType::I64 => {
                data.convert_dtype(DType::I32)
            }
            Role::Codes | Role::ZeroPoints | Role::Integer | Role::Bool => data,
            Role::Scales => floats.of_scales().convert(data),
            Role::Transposed => transpose(floats.convert(data)),
            Role::Plain => floats.convert(data),
            Role::FakeQuant => {
                let message =
                    "its weight is fake-quantized, which files cannot store: pack it first";
                return Err(message.to_string());
            }
        })
    }

    /// Data as it is.
    pub fn new(data: TensorData) -> Result<Self, String> {
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
            DType::F64 => Dtype::F64,
            DType::U16 => Dtype::U16,
            DType::Bool(BoolStore::Native) => Dtype::BOOL,
            other => return Err(format!("safetensors files have no type for {other:?}")),
        };
        Ok(Self { data, dtype })
    }
}

/// `data`, which is in f32, in a 16-bit `dtype` if that type can hold every value, else unchanged.
fn narrow(data: TensorData, dtype: DType) -> TensorData {
    // Value by value: a copy of an embedding is large.
    let keeps = |keep: fn(f32) -> f32| {
        let kept = |value: &f32| keep(*value).to_bits() == value.to_bits();
        data.as_slice::<f32>()
            .is_ok_and(|values| values.iter().all(kept))
    };
    let fits = match dtype {
        DType::F16 => keeps(|value| f16::from_f32(value).to_f32()),
        DType::BF16 => keeps(|value| bf16::from_f32(value).to_f32()),
        _ => false,
    };
    match fits {
        true => data.convert_dtype(dtype),
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
