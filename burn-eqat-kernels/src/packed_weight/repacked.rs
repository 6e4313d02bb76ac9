//! The place where a packed weight keeps its private copy.

use super::PackedWeight;
use burn::tensor::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

/// A place for the private copy of a packed weight, see [`PackedWeight::keep_copy_in`].
///
/// It starts empty. A clone is a new, empty place, because it belongs to another weight, which may be trained.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_eqat_kernels::{Bits, PackedWeight, RepackedCopy};
///
/// let device = Device::flex();
/// let weight = Tensor::<2>::random([64, 16], Distribution::Default, &device);
/// let scales = Tensor::<2>::full([2, 16], 0.3, &device);
/// let zero_points = Tensor::<2>::zeros([2, 16], &device);
/// let packed = PackedWeight::quantize(weight, scales, zero_points, Bits::Two)?;
/// let place = RepackedCopy::default();
/// let x = Tensor::<2>::ones([1, 64], &device);
/// // The second weight finds the copy that the first has made.
/// let first = packed.clone().keep_copy_in(&place).linear(x.clone(), None)?;
/// let second = packed.keep_copy_in(&place).linear(x, None)?;
/// assert_eq!(first.into_data(), second.into_data());
/// # Ok::<(), burn_eqat_kernels::OpError>(())
/// ```
#[derive(Debug, Default)]
pub struct RepackedCopy(Place);

impl Clone for RepackedCopy {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl RepackedCopy {
    pub(super) fn place(&self) -> Place {
        self.0.clone()
    }
}

/// A place that all clones share.
#[derive(Clone, Debug, Default)]
pub(super) struct Place(Arc<Mutex<Option<Arc<Repacked>>>>);

impl Place {
    /// `x W + bias` from the copy, or `None` if there is no copy or another strategy suits the input better.
    pub fn linear(
        &self,
        weight: &PackedWeight,
        x: &Tensor<2>,
        bias: Option<&Tensor<1>>,
    ) -> Option<Tensor<2>> {
        self.copy_of(weight)?.linear(x, bias)
    }

    /// The copy of these tensors. It is made now if there is none, or if it is of other tensors: training makes new
    /// step sizes.
    fn copy_of(&self, weight: &PackedWeight) -> Option<Arc<Repacked>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*kept
            && kept.is_of(weight)
        {
            return Some(kept.clone());
        }
        *kept = Repacked::new(weight).map(Arc::new);
        kept.clone()
    }
}

#[cfg(all(feature = "flex", target_arch = "x86_64"))]
use crate::flex::Repacked;

/// No backend makes copies.
#[cfg(not(all(feature = "flex", target_arch = "x86_64")))]
#[derive(Debug)]
enum Repacked {}

#[cfg(not(all(feature = "flex", target_arch = "x86_64")))]
impl Repacked {
    fn new(_: &PackedWeight) -> Option<Self> {
        None
    }

    fn is_of(&self, _: &PackedWeight) -> bool {
        match *self {}
    }

    fn linear(&self, _: &Tensor<2>, _: Option<&Tensor<1>>) -> Option<Tensor<2>> {
        match *self {}
    }
}
