//! What a device can do, asked before an op is dispatched: on CubeCL, a launch that fails shows as
//! zeros, or when a result is read, far from its cause.

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

/// Fails unless the device computes with the types of the operands and results, and can hold each.
pub(crate) fn expect_capable(
    op: &'static str,
    device: &Device,
    operands: &[Operand],
) -> Result<(), OpError> {
    // A quantized tensor of Burn's own, say.
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
        if !(capability.computes)(operand.dtype) {
            return Err(OpError::Type {
                op,
                operand: operand.name,
                dtype: operand.dtype,
                device: capability.name,
            });
        }
        let bytes = operand.elements as u64 * operand.dtype.size() as u64;
        let limit = capability.buffer.min(addressable(operand.dtype));
        if bytes > limit {
            return Err(OpError::Buffer {
                op,
                operand: operand.name,
                bytes,
                limit,
                device: capability.name,
            });
        }
    }
    Ok(())
}

/// Fails unless the device can hold as many 32-bit codes.
pub(crate) fn expect_room(
    op: &'static str,
    device: &Device,
    [rows, columns]: [usize; 2],
) -> Result<(), OpError> {
    let bytes = rows as u64 * columns as u64 * 4;
    match Capability::of(device) {
        Some(capability) if bytes > capability.buffer.min(addressable(DType::I32)) => {
            Err(OpError::Buffer {
                op,
                operand: "the codes",
                bytes,
                limit: capability.buffer.min(addressable(DType::I32)),
                device: capability.name,
            })
        }
        _ => Ok(()),
    }
}

/// Bytes that kernels, which count elements in 32 bits, can address.
fn addressable(dtype: DType) -> u64 {
    u64::from(u32::MAX) * dtype.size() as u64
}

/// What a device states about itself.
struct Capability {
    name: String,
    /// Bytes of the largest buffer.
    buffer: u64,
    /// Whether kernels can read, write and convert a float type.
    computes: Box<dyn Fn(DType) -> bool>,
}

impl Capability {
    /// None for a backend other than CubeCL's.
    #[cfg(feature = "cube")]
    fn of(device: &Device) -> Option<Self> {
        use burn::backend::DispatchDevice;
        use burn::backend::cubecl::dtype_to_storage_type;
        use burn_cubecl::CubeDevice;
        use burn_cubecl::cubecl::features::TypeUsage;

        let device = device.clone().inner();
        #[allow(unreachable_patterns)] // where CubeCL is the only backend
        let device: &CubeDevice = match device.as_dispatch() {
            DispatchDevice::Cube(device) => device,
            _ => return None,
        };
        let client = device.client();
        let properties = client.properties_shared();
        Some(Capability {
            name: properties.identity.name.clone(),
            buffer: properties.memory.max_page_size,
            computes: Box::new(move |dtype| {
                // Kernels compute in f32, which would not do for f64.
                dtype != DType::F64
                    && properties
                        .type_usage(dtype_to_storage_type(dtype))
                        .is_superset(TypeUsage::Buffer | TypeUsage::Conversion)
            }),
        })
    }

    #[cfg(not(feature = "cube"))]
    fn of(_device: &Device) -> Option<Self> {
        None
    }
}
