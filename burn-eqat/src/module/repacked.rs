use crate::Scheme;
use burn::tensor::{Int, Tensor};
use burn_eqat_kernels::Repacked;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a packed weight keeps its private copy, once it has one.
///
/// A clone begins without: it may be trained, and a copy is of one weight.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Option<Arc<Repacked>>>);

impl Clone for Shelf {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Shelf {
    /// The copy of these tensors, made now if it is not there or of others.
    pub fn get(
        &self,
        codes: &Tensor<2, Int>,
        scale: &Tensor<2>,
        zeros: &Tensor<2, Int>,
        scheme: Scheme,
        d_input: usize,
    ) -> Option<Arc<Repacked>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*kept
            && kept.is_of(codes, scale, zeros)
        {
            return Some(kept.clone());
        }
        let (codes, scale, zeros) = (codes.clone(), scale.clone(), zeros.clone());
        *kept = Repacked::new(codes, scale, zeros, scheme.bits, d_input)
            .expect("the words are made for this weight")
            .map(Arc::new);
        kept.clone()
    }
}
