//! Arguments of the ops: tensors of Flex, plain or with gradients.

use burn::backend::autodiff::{Autodiff, checkpoint::strategy::NoCheckpointing};
use burn::backend::tensor::FloatTensor;
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;

/// Flex with gradients, without checkpointing (a device's default).
pub(super) type Differentiated = Autodiff<Flex, NoCheckpointing>;

/// Whether a tensor is one of Flex, with gradients or without.
pub(crate) fn is_flex<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device().inner();
    matches!(device.as_dispatch(), DispatchDevice::Flex(_))
}

/// An argument of an op.
pub(crate) enum Argument {
    Plain(FlexTensor),
    Differentiated(FloatTensor<Differentiated>),
}

impl Argument {
    /// `None` if the tensor has another backend or type.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        Self::any(tensor)
    }

    /// A tensor without gradients, of any type.
    #[cfg(target_arch = "x86_64")]
    pub fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let plain = tensor.clone().try_into_primitive::<Flex>();
        plain.ok().map(Argument::Plain)
    }

    /// `None` if the tensor has another backend.
    pub fn any<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if let Ok(plain) = tensor.clone().try_into_primitive::<Flex>() {
            return Some(Argument::Plain(plain));
        }
        let tracked = tensor.clone().try_into_primitive::<Differentiated>();
        tracked.ok().map(Argument::Differentiated)
    }

    /// Its numbers.
    pub fn values(self) -> FlexTensor {
        match self {
            Argument::Plain(tensor) => tensor,
            Argument::Differentiated(tensor) => tensor.into_primitive(),
        }
    }
}

/// The differentiable arguments of an op: all plain, or all with gradients.
pub(crate) enum Arguments<const N: usize> {
    Plain([FlexTensor; N]),
    Differentiated([FloatTensor<Differentiated>; N]),
}

impl<const N: usize> Arguments<N> {
    /// `None` if one is missing, or if they differ.
    pub fn all(arguments: [Option<Argument>; N]) -> Option<Self> {
        let (mut plain, mut tracked) = (Vec::new(), Vec::new());
        for argument in arguments {
            match argument? {
                Argument::Plain(tensor) => plain.push(tensor),
                Argument::Differentiated(tensor) => tracked.push(tensor),
            }
        }
        match plain.try_into() {
            Ok(plain) => Some(Arguments::Plain(plain)),
            Err(_) => tracked.try_into().ok().map(Arguments::Differentiated),
        }
    }
}
