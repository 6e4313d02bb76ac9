//! Tensors of Flex, plain or with gradients.

use burn::backend::Flex;
use burn::backend::autodiff::{Autodiff, checkpoint::strategy::NoCheckpointing};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;

/// Flex with gradients, as a device has them unless it is told to work things out twice.
pub(super) type Differentiated = Autodiff<Flex, NoCheckpointing>;

/// An operand of an op.
pub(crate) enum Operand {
    Plain(FlexTensor),
    Differentiated(FloatTensor<Differentiated>),
}

impl Operand {
    /// None where the tensor is of another backend, or type.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        if let Ok(plain) = tensor.clone().try_into_primitive::<Flex>() {
            return Some(Operand::Plain(plain));
        }
        let tracked = tensor.clone().try_into_primitive::<Differentiated>();
        tracked.ok().map(Operand::Differentiated)
    }

    /// Its numbers.
    pub fn values(self) -> FlexTensor {
        match self {
            Operand::Plain(tensor) => tensor,
            Operand::Differentiated(tensor) => tensor.into_primitive(),
        }
    }
}

/// Operands that an op has gradients by: all plain, or all with gradients.
pub(crate) enum Operands<const N: usize> {
    Plain([FlexTensor; N]),
    Differentiated([FloatTensor<Differentiated>; N]),
}

impl<const N: usize> Operands<N> {
    /// None where one is missing, or they differ.
    pub fn all(operands: [Option<Operand>; N]) -> Option<Self> {
        let (mut plain, mut tracked) = (Vec::new(), Vec::new());
        for operand in operands {
            match operand? {
                Operand::Plain(tensor) => plain.push(tensor),
                Operand::Differentiated(tensor) => tracked.push(tensor),
            }
        }
        match plain.try_into() {
            Ok(plain) => Some(Operands::Plain(plain)),
            Err(_) => tracked.try_into().ok().map(Operands::Differentiated),
        }
    }
}
