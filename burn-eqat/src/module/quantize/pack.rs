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
        let (scale, packed) = match attached {
            Attached::Fake {
                weight,
                scale,
                zero_point,
                scheme,
            } => {
                if ![&weight, &scale, &zero_point].into_iter().all(is_finite) {
                    return Err(QuantizeError::NotFinite { path });
                }
                let packed = pack_weight(weight, &scale, zero_point, scheme);
                (clamp_scale(scale), packed)
            }
            Attached::Packed(weight) => {
                let scale = weight.scale.clone();
                (scale, keep_packed(weight))
            }
        };
        table.insert(path, (scale, packed));
    }
    // A parameter keeps the first attachment it got, so the old ones have to go first.
    Ok(module
        .materialize()
        .apply_reparameterization(AttachPacked { table }))
}

fn clamp_scale(scale: Tensor<2>) -> Tensor<2> {
    scale.detach().clamp(SCALE_MIN, SCALE_MAX)
}

fn is_finite(tensor: &Tensor<2>) -> bool {
    tensor.clone().is_finite().all().into_scalar::<bool>()
}

/// Codes of a weight that are there at a time while it is packed.
const CODES: usize = 1 << 20;

/// Packs a weight, some groups at a time: the integers that codes are before they are packed take as much
/// room as the weight.
fn pack_weight(
    weight: Tensor<2>,
    scale: &Tensor<2>,
    zero_point: Tensor<2>,
    scheme: Scheme,
) -> Packed {
    const CLAMPED: &str = "codes are clamped to their bits";
    let max_code = f64::from(scheme.bits.max_code());
    let zeros = zero_point.detach().round().clamp(0.0, max_code);
    let ([d_input, n], [groups, _]) = (weight.dims(), scale.dims());
    let rows = d_input / groups;
    // Groups that fill whole words, 32 rows of any bits.
    let unit = (1..=32).find(|groups| (groups * rows).is_multiple_of(32));
    let unit = unit.expect("32 groups do");
    let step = (CODES / (rows * n).max(1)).next_multiple_of(unit).max(unit);
    let words = (0..groups).step_by(step).map(|first| {
        let part = first..(first + step).min(groups);
        let weight = weight
            .clone()
            .slice_dim(0, part.start * rows..part.end * rows);
        let scale = scale.clone().slice_dim(0, part.clone());
        let zeros = zeros.clone().slice_dim(0, part);
        burn_eqat_kernels::pack(
            quantize_codes(weight, scale, zeros, scheme.bits),
            scheme.bits,
        )
        .expect(CLAMPED)
    });
    let words = Tensor::cat(words.collect(), 0);
    let zeros = pack_zero_points(zeros.int(), scheme.bits).expect(CLAMPED);
    Packed::from_words(words, zeros, d_input, scheme)
}

fn keep_packed(weight: PackedWeight) -> Packed {
    Packed::from_words(
        weight.codes,
        weight.zero_points,
        weight.d_input,
        weight.scheme,
    )
}

struct AttachPacked {
    table: HashMap<String, (Tensor<2>, Packed)>,
}

impl Reparameterizer for AttachPacked {
    type Reparam = Packed;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Packed>) {
        let Some((scale, packed)) = self.table.remove(path) else {
            return (param, None);
        };
        let shape = Shape::new(scale.dims());
        let scale = scale.detach().reshape::<D, _>(shape);
        let base = Param::initialized(param.id, scale).set_require_grad(true);
        (base, Some(packed))
    }
}
