//! Packed weights back to fake-quantized ones, which may train on.

use crate::FakeQuant;
use crate::module::QuantizeError;
use crate::module::attached::packed_weights;
use crate::module::dense::dense_matrices;
use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::Tensor;
use burn_eqat_kernels::{OpError, PackedWeight};
use std::collections::HashMap;

/// How far from the middle of what its code stands for a weight may be, in step sizes: less than a half, where it would be another code. The
/// nearer to a half, the more weights the first steps of E2E-AP flip for no reason. Of 0.25, 0.4 and 0.499 this was the best at 2 bits.
const REACH: f64 = 0.4;

pub(super) fn fake_quantize_near<M: Module>(packed: M, original: &M) -> Result<M, QuantizeError> {
    let mut originals = dense_matrices(original);
    let mut table = HashMap::new();
    for (path, found) in packed_weights(&packed) {
        let Some(weight) = originals.remove(&path) else {
            return Err(QuantizeError::NoOriginal { path });
        };
        let shape = [found.weight.d_input, found.weight.d_output()];
        if weight.dims() != shape {
            return Err(QuantizeError::OriginalShape {
                path,
                found: weight.dims(),
                expected: shape,
            });
        }
        let (weight, zero_points) =
            near(&found.weight, weight).unwrap_or_else(|error| error.raise());
        let attached = FakeQuant::of(found.weight.scales, zero_points, found.scheme, shape[0]);
        table.insert(path, (weight, attached));
    }
    // A parameter keeps its first attachment, so the old ones have to go first.
    Ok(packed
        .materialize()
        .apply_reparameterization(AttachNear { table }))
}

/// The weight `[d_input, d_output]` that is nearest to the original's within what the codes stand for, and the zero points as numbers.
fn near(packed: &PackedWeight, original: Tensor<2>) -> Result<(Tensor<2>, Tensor<2>), OpError> {
    let [d_input, d_output] = original.dims();
    let [groups, _] = packed.scales.dims();
    let dtype = packed.scales.dtype();
    let zero_points = packed.unpacked_zero_points()?.float().cast(dtype);
    // Row by row of a group.
    let rows = |of: Tensor<2>| {
        let of = of.reshape([groups, 1, d_output]);
        of.expand([groups, d_input / groups, d_output])
            .reshape([d_input, d_output])
    };
    let (scales, zeros) = (rows(packed.scales.clone()), rows(zero_points.clone()));
    let codes = packed.unpacked_codes()?.float().cast(dtype);
    let middle = (codes.clone() - zeros) * scales.clone();
    let reach = scales * REACH;
    // The first and the last code stand for all that is beyond them, too.
    let last = f64::from(packed.bits.max_code());
    let beyond = 1e30;
    let below = middle.clone() - reach.clone();
    let below = below.mask_fill(codes.clone().equal_elem(0.0), -beyond);
    let above = middle + reach;
    let above = above.mask_fill(codes.equal_elem(last), beyond);
    Ok((original.max_pair(below).min_pair(above), zero_points))
}

struct AttachNear {
    table: HashMap<String, (Tensor<2>, FakeQuant)>,
}

impl Reparameterizer for AttachNear {
    type Reparam = FakeQuant;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<FakeQuant>) {
        let Some((weight, attached)) = self.table.remove(path) else {
            return (param, None);
        };
        let shape = weight.shape();
        let weight = weight.reshape::<D, _>(shape);
        let base = Param::initialized(param.id, weight).set_require_grad(true);
        (base, Some(attached))
    }
}
