//! Packing fake-quantized weights.

use crate::Packed;
use crate::module::QuantizeError;
use crate::module::attached::{Attached, attached};
use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::{Shape, Tensor};
use burn_eqat_kernels::{Bits, PackedWeight};
use std::collections::HashMap;

/// Packs every fake-quantized weight of a module.
pub(super) fn pack<M: Module>(module: M) -> Result<M, QuantizeError> {
    let mut table = HashMap::new();
    for (path, attached) in attached(&module) {
        let (weight, scheme) = match attached {
            Attached::Fake {
                weight,
                scales,
                zero_points,
                scheme,
            } => {
                let weight = pack_weight(&path, weight, scales, zero_points, scheme.bits)?;
                (weight, scheme)
            }
            Attached::Packed { weight, scheme } => (weight, scheme),
        };
        let scales = weight.scales.clone();
        table.insert(path, (scales, Packed::from_weight(weight, scheme)));
    }
    // A parameter keeps its first attachment, so the old ones have to go first.
    Ok(module
        .materialize()
        .apply_reparameterization(AttachPacked { table }))
}

/// Packs the weight at a path.
pub(in crate::module) fn pack_weight(
    path: &str,
    weight: Tensor<2>,
    scales: Tensor<2>,
    zero_points: Tensor<2>,
    bits: Bits,
) -> Result<PackedWeight, QuantizeError> {
    if ![&weight, &scales, &zero_points].into_iter().all(is_finite) {
        return Err(QuantizeError::NotFinite { path: path.into() });
    }
    // Codes of finite numbers fit in their bits, and the shapes fit together.
    Ok(PackedWeight::quantize(weight, scales, zero_points, bits)
        .unwrap_or_else(|error| error.raise()))
}

fn is_finite(tensor: &Tensor<2>) -> bool {
    tensor.clone().is_finite().all().into_scalar::<bool>()
}

/// Attaches packed weights by their paths.
pub(in crate::module) struct AttachPacked {
    /// Step sizes and the packed codes of each path.
    pub table: HashMap<String, (Tensor<2>, Packed)>,
}

impl Reparameterizer for AttachPacked {
    type Reparam = Packed;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Packed>) {
        let Some((scales, packed)) = self.table.remove(path) else {
            return (param, None);
        };
        let shape = Shape::new(scales.dims());
        let scales = scales.detach().reshape::<D, _>(shape);
        let base = Param::initialized(param.id, scales).set_require_grad(true);
        (base, Some(packed))
    }
}
