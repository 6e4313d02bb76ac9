pub(crate) use crate::kernels::transformer::cast as in_type;
use crate::kernels::{is_gpu, multiplies};
use burn::tensor::{DType, Device, Tensor};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// The float type of a model's activations and products.
///
/// Activations carry it: a model casts what goes into its first block, and every layer behind follows the type of its
/// input. Weights, step sizes and moments stay in f32 (the *masters*), and so do their gradients: a
/// [`QuantLinear`](crate::QuantLinear) casts its weight for the product, and a packed one computes from its step sizes in f32.
/// Norms and softmax compute in f32 ([`kernels::transformer`](crate::kernels::transformer)), as losses do.
///
/// ```
/// use burn::tensor::{DType, Device, Distribution, Tensor};
/// use burn_eqat::{ComputeType, QuantLinearConfig};
///
/// let device = Device::flex();
/// let layer = QuantLinearConfig::new(64, 32).init(&device);
/// let embedded = Tensor::<2>::random([3, 64], Distribution::Default, &device);
///
/// let compute = ComputeType::Bf16;
/// compute.check(&device)?;
/// let y = layer.forward(compute.cast(embedded));
/// assert_eq!(y.dtype(), DType::BF16);
/// assert_eq!(layer.weight.val().dtype(), DType::F32);
/// # Ok::<(), burn_eqat::ComputeTypeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 8 of them exponent: the range of f32.
    Bf16,
    /// 16 bits, 5 of them exponent: more exact, but activations above 65504 overflow, and gradients below 1e-7 vanish. There is no
    /// loss scaling, so it is for running models rather than for training: a gradient of Block-AP's mean error is the smaller, the
    /// larger a batch is, and may vanish as a whole.
    F16,
}

impl ComputeType {
    /// All types.
    pub const ALL: [ComputeType; 3] = [ComputeType::F32, ComputeType::Bf16, ComputeType::F16];

    /// The type to compute in on a device: bf16 on GPUs that have it, else f32. (CPUs convert half precision to f32 and back, but for those that
    /// [multiply in bf16](crate::kernels::transformer::multiplies_bf16), where it is faster than f32.)
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use burn_eqat::ComputeType;
    ///
    /// assert_eq!(ComputeType::of_device(&Device::flex()), ComputeType::F32);
    /// ```
    pub fn of_device(device: &Device) -> Self {
        let bf16 = ComputeType::Bf16;
        if is_gpu(device) && bf16.check(device).is_ok() {
            bf16
        } else {
            ComputeType::F32
        }
    }

    /// Fails unless a device computes in this type.
    ///
    /// # Errors
    ///
    /// When it does not; the error names both.
    pub fn check(self, device: &Device) -> Result<(), ComputeTypeError> {
        if multiplies(device, self.dtype()) {
            return Ok(());
        }
        let supported = ComputeType::ALL.into_iter();
        Err(ComputeTypeError::Unsupported {
            dtype: self,
            device: format!("{device:?}"),
            supported: supported
                .filter(|other| multiplies(device, other.dtype()))
                .collect(),
        })
    }

    /// The name as it is written: `f32`, `bf16` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            ComputeType::F32 => "f32",
            ComputeType::Bf16 => "bf16",
            ComputeType::F16 => "f16",
        }
    }

    /// Burn's name of the type.
    pub fn dtype(self) -> DType {
        match self {
            ComputeType::F32 => DType::F32,
            ComputeType::Bf16 => DType::BF16,
            ComputeType::F16 => DType::F16,
        }
    }

    /// Whether it has 16 bits.
    pub fn is_half(self) -> bool {
        self != ComputeType::F32
    }

    /// A tensor in this type. A gradient goes back in the tensor's own.
    pub fn cast<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        in_type(tensor, self.dtype())
    }
}

/// The tensor in f32 if it is in half precision, for what adds many numbers up.
pub(crate) fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => in_type(tensor, DType::F32),
        _ => tensor,
    }
}

impl fmt::Display for ComputeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A type that cannot be computed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeTypeError {
    /// A text that names no type.
    #[error("unknown compute type {0:?}: expected f32, bf16 or f16")]
    Unknown(String),
    /// The device does not have it.
    #[error("{device} does not compute in {dtype}, expected {}", one_of(.supported))]
    Unsupported {
        /// The type.
        dtype: ComputeType,
        /// The device.
        device: String,
        /// The types that it has.
        supported: Vec<ComputeType>,
    },
}

/// Names as a choice.
fn one_of(types: &[ComputeType]) -> String {
    let names: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
    match names.as_slice() {
        [] => "another device".to_string(),
        names => names.join(" or "),
    }
}

impl FromStr for ComputeType {
    type Err = ComputeTypeError;

    fn from_str(text: &str) -> Result<Self, ComputeTypeError> {
        let dtype = (ComputeType::ALL.into_iter()).find(|dtype| dtype.name() == text);
        dtype.ok_or_else(|| ComputeTypeError::Unknown(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_as_they_are_written() {
        for dtype in ComputeType::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            let json = serde_json::to_string(&dtype).unwrap();
            assert_eq!(json, format!("\"{dtype}\""));
        }
        let error = "fp16".parse::<ComputeType>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown compute type \"fp16\": expected f32, bf16 or f16"
        );
    }

    #[test]
    fn a_type_that_a_device_lacks_is_named_with_it() {
        let error = ComputeTypeError::Unsupported {
            dtype: ComputeType::Bf16,
            device: "Wgpu".to_string(),
            supported: vec![ComputeType::F32, ComputeType::F16],
        };
        assert_eq!(
            error.to_string(),
            "Wgpu does not compute in bf16, expected f32 or f16"
        );
    }

    #[cfg(feature = "flex")]
    #[test]
    fn a_cpu_computes_in_f32_unless_told_otherwise() {
        let device = Device::flex();
        assert_eq!(ComputeType::of_device(&device), ComputeType::F32);
        for dtype in ComputeType::ALL {
            assert_eq!(dtype.check(&device), Ok(()));
            let x = dtype.cast(Tensor::<1>::ones([3], &device));
            assert_eq!(x.dtype(), dtype.dtype());
            assert_eq!(widen(x).dtype(), DType::F32);
        }
    }
}
