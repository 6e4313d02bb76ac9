//! Packing fake-quantized weights.

use crate::module::QuantizeError;
use crate::module::attached::{Attached, PackedWeight, attached};
use crate::module::packed::pack_zero_points;
use crate::quantizer::quantize_codes;
use crate::{Packed, Scheme};
use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::{Shape, Tensor};
use burn_eqat_kernels::{SCALE_MAX, SCALE_MIN};
use std::collections::HashMap;

/// Packs every fake-quantized weight of a module.
pub(super) fn pack<M: Module>(module: M) -> Result<M, QuantizeError> {
    let mut table = HashMap::new();
    for (path, attached) in attached(&module) {
        let (scales, packed) = match attached {
            Attached::Fake {
                weight,
                scales,
                zero_points,
                scheme,
            } => {
                if ![&weight, &scales, &zero_points].into_iter().all(is_finite) {
                    return Err(QuantizeError::NotFinite { path });
                }
                let packed = pack_weight(weight, &scales, zero_points, scheme);
                (clamp_scales(scales), packed)
            }
            Attached::Packed(weight) => {
                let scales = weight.scales.clone();
                (scales, keep_packed(weight))
            }
        };
        table.insert(path, (scales, packed));
    }
    // A parameter keeps its first attachment, so the old ones have to go first.
    Ok(module
        .materialize()
        .apply_reparameterization(AttachPacked { table }))
}

pub(in crate::module) fn clamp_scales(scales: Tensor<2>) -> Tensor<2> {
    scales.detach().clamp(SCALE_MIN, SCALE_MAX)
}

pub(in crate::module) fn is_finite(tensor: &Tensor<2>) -> bool {
    tensor.clone().is_finite().all().into_scalar::<bool>()
}

/// Codes that are computed at a time.
const CODES: usize = 1 << 20;

/// Packs a weight, some groups at a time: before they are packed, the codes take as much memory as the
/// weight.
pub(in crate::module) fn pack_weight(
    weight: Tensor<2>,
    scales: &Tensor<2>,
    zero_points: Tensor<2>,
    scheme: Scheme,
) -> Packed {
    const CLAMPED: &str = "codes are clamped to their bits";
    let max_code = f64::from(scheme.bits.max_code());
    let zero_points = zero_points.detach().round().clamp(0.0, max_code);
    let ([d_input, n], [groups, _]) = (weight.dims(), scales.dims());
    let rows = d_input / groups;
    // Groups that fill whole words: 32 codes of any width do.
    let unit = (1..=32).find(|groups| (groups * rows).is_multiple_of(32));
    let unit = unit.expect("32 groups fill whole words");
    let step = (CODES / (rows * n).max(1)).next_multiple_of(unit).max(unit);
    let codes = (0..groups).step_by(step).map(|first| {
        let part = first..(first + step).min(groups);
        let weight = weight
            .clone()
            .slice_dim(0, part.start * rows..part.end * rows);
        let scales = scales.clone().slice_dim(0, part.clone());
        let zero_points = zero_points.clone().slice_dim(0, part);
        burn_eqat_kernels::pack(
            quantize_codes(weight, scales, zero_points, scheme.bits),
            scheme.bits,
        )
        .expect(CLAMPED)
    });
    let codes = Tensor::cat(codes.collect(), 0);
    let zero_points = pack_zero_points(zero_points.int(), scheme.bits).expect(CLAMPED);
    Packed::from_words(codes, zero_points, d_input, scheme)
}

fn keep_packed(weight: PackedWeight) -> Packed {
    Packed::from_words(
        weight.codes,
        weight.zero_points,
        weight.d_input,
        weight.scheme,
    )
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
