//! The abilities of a device, checked before an op is dispatched. On CubeCL, a failed launch gives zeros, or an error
//! when the result is read, far from its cause.

use crate::OpError;
use burn::tensor::{DType, Device};

/// An operand or result of an op.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    pub name: &'static str,
    pub elements: usize,
    pub dtype: DType,
}

impl Operand {
    pub fn new(name: &'static str, shape: &[usize], dtype: DType) -> Self {
        Operand {
            name,
            elements: shape.iter().product(),
            dtype,
        }
    }
}

/// Whether the ops compute with a float type on `device`. If they do not, they fail with
/// [`OpError::Type`].
///
/// This is stricter than Burn's `Device::supports_dtype`. CubeCL's kernels compute in f32, so f64 is not supported
/// there. On CubeCL's CPU runtime, half precision depends on the CPU and the loaded libraries.
///
/// ```
/// use burn::tensor::{DType, Device};
/// use burn_eqat_kernels::supports;
///
/// assert!(supports(&Device::flex(), DType::F32));
/// // Not a float type.
/// assert!(!supports(&Device::flex(), DType::I32));
/// ```
pub fn supports(device: &Device, dtype: DType) -> bool {
    let known = match Capability::of(device) {
        Some(capability) => capability.computes(dtype),
        None => true,
    };
    dtype.is_float() && known && device.supports_dtype(dtype)
}

/// Whether Burn multiplies matrices of any shape in a float type on a device. On CubeCL's CPU runtime and without the `autotune`
/// feature, Burn 0.22.1 takes the same kernel for all shapes, which in 16 bits needs more memory than the first cache of some CPUs
/// has; its matmul then panics. With `autotune` it finds another. One kind of product can panic there in f32 too, which this does
/// not tell: one that sums over a single number, of a multiple of sixteen rows or columns.
///
/// ```
/// use burn::tensor::{DType, Device};
/// use burn_eqat_kernels::multiplies;
///
/// assert!(multiplies(&Device::flex(), DType::BF16));
/// ```
pub fn multiplies(device: &Device, dtype: DType) -> bool {
    let one_kernel = !cfg!(feature = "autotune")
        && Capability::of(device).is_some_and(|capability| !capability.is_gpu());
    supports(device, dtype) && !(one_kernel && dtype.size() == 2)
}

/// Whether a device is a GPU: one of CubeCL's that is no CPU. (LibTorch is one of CPUs here.)
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat_kernels::is_gpu;
///
/// assert!(!is_gpu(&Device::flex()));
/// ```
pub fn is_gpu(device: &Device) -> bool {
    Capability::of(device).is_some_and(|capability| capability.is_gpu())
}

/// The type that packed words have on a device: 32-bit integers. LibTorch gives integers of any type out as 64 bits, which nothing
/// that was declared to have 32 could be stored or recorded with; there words have 64 bits, of which the lower 32 count.
///
/// ```
/// use burn::tensor::{DType, Device};
/// use burn_eqat_kernels::word_type;
///
/// assert_eq!(word_type(&Device::flex()), DType::I32);
/// ```
pub fn word_type(device: &Device) -> DType {
    #[cfg(feature = "tch")]
    {
        use burn::backend::DispatchDevice;

        let device = device.clone().inner();
        if let DispatchDevice::LibTorch(_) = device.as_dispatch() {
            return DType::I64;
        }
    }
    let _ = device;
    DType::I32
}

/// Fails unless the device computes with the types of the operands and results, and can hold each.
pub(crate) fn expect_capable(
    op: &'static str,
    device: &Device,
    operands: &[Operand],
) -> Result<(), OpError> {
    // For example Burn's own quantized tensors.
    if let Some(other) = operands.iter().find(|operand| !operand.dtype.is_float()) {
        return Err(OpError::Type {
            op,
            operand: other.name,
            dtype: other.dtype,
            device: format!("{device:?}"),
        });
    }
    let Some(capability) = Capability::of(device) else {
        return Ok(());
    };
    for operand in operands {
        if !capability.computes(operand.dtype) {
            return Err(OpError::Type {
                op,
                operand: operand.name,
                dtype: operand.dtype,
                device: capability.name(),
            });
        }
        capability.expect_fits(op, operand)?;
    }
    Ok(())
}

/// Fails unless the device can hold 32-bit codes of this shape.
pub(crate) fn expect_room(
    op: &'static str,
    device: &Device,
    shape: [usize; 2],
) -> Result<(), OpError> {
    match Capability::of(device) {
        Some(capability) => {
            capability.expect_fits(op, &Operand::new("the codes", &shape, DType::I32))
        }
        None => Ok(()),
    }
}

/// The properties that a device reports. Every op asks for them, so only a handle is copied.
#[cfg(feature = "cube")]
struct Capability(std::sync::Arc<burn_cubecl::cubecl::ir::DeviceProperties>);

#[cfg(feature = "cube")]
impl Capability {
    /// `None` for backends other than CubeCL's.
    fn of(device: &Device) -> Option<Self> {
        use burn::backend::DispatchDevice;

        let device = device.clone().inner();
        match device.as_dispatch() {
            DispatchDevice::Cube(device) => Some(Self(device.client().properties_shared())),
            #[allow(unreachable_patterns)] // where CubeCL is the only backend
            _ => None,
        }
    }

    fn name(&self) -> String {
        self.0.identity.name.clone()
    }

    /// CPUs count their cores.
    fn is_gpu(&self) -> bool {
        self.0.hardware.num_cpu_cores.is_none()
    }

    /// Bytes of the largest buffer.
    fn buffer(&self) -> u64 {
        self.0.memory.max_page_size
    }

    /// Whether kernels can read, write and convert a float type.
    fn computes(&self, dtype: DType) -> bool {
        use burn::backend::cubecl::dtype_to_storage_type;
        use burn_cubecl::cubecl::features::TypeUsage;

        let compiled_for_this_cpu = !self.is_gpu();
        // Kernels compute in f32, which is not enough for f64.
        dtype != DType::F64
            && (!compiled_for_this_cpu || crate::cube::half_precision::rounds_to(dtype))
            && self
                .0
                .type_usage(dtype_to_storage_type(dtype))
                .is_superset(TypeUsage::Buffer | TypeUsage::Conversion)
    }
}

/// Without a CubeCL backend, no device reports properties.
#[cfg(not(feature = "cube"))]
enum Capability {}

#[cfg(not(feature = "cube"))]
impl Capability {
    fn of(_device: &Device) -> Option<Self> {
        None
    }

    fn name(&self) -> String {
        match *self {}
    }

    fn is_gpu(&self) -> bool {
        match *self {}
    }

    fn buffer(&self) -> u64 {
        match *self {}
    }

    fn computes(&self, _dtype: DType) -> bool {
        match *self {}
    }
}

impl Capability {
    /// Fails unless `operand` fits in a buffer, and kernels, which count elements in 32 bits, can address it.
    fn expect_fits(&self, op: &'static str, operand: &Operand) -> Result<(), OpError> {
        let size = operand.dtype.size() as u64;
        let bytes = operand.elements as u64 * size;
        let limit = self.buffer().min(u64::from(u32::MAX) * size);
        if bytes <= limit {
            return Ok(());
        }
        Err(OpError::Buffer {
            op,
            operand: operand.name,
            bytes,
            limit,
            device: self.name(),
        })
    }
}
