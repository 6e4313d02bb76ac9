//! Attaching quantization to selected weights.

use crate::module::matrices::Selected;
use crate::quantizer::{min_max_start, searched_start};
use crate::{FakeQuant, Packed, Scheme, SchemeError};
use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::{Device, Shape, Tensor};
use std::collections::HashMap;

/// Attaches fake quantization to these weights, with min-max start values.
pub(crate) fn attach_fake_quant<M: Module>(module: M, selected: &[Selected]) -> M {
    let schemes = schemes(selected);
    let start = |_: &str, weight, scheme: &Scheme| min_max_start(weight, scheme);
    module.apply_reparameterization(AttachFakeQuant { schemes, start })
}

/// Attaches fake quantization to these weights, with start values that are searched for; `importance` has that of the rows of each
/// weight, by its path, where it is known.
pub(crate) fn attach_searched<M: Module>(
    module: M,
    selected: &[Selected],
    mut importance: HashMap<String, Tensor<1>>,
) -> M {
    let schemes = schemes(selected);
    let start = |path: &str, weight, scheme: &Scheme| {
        searched_start(weight, importance.remove(path), scheme)
    };
    module.apply_reparameterization(AttachFakeQuant { schemes, start })
}

/// Replaces these weights by packed ones, to be loaded later.
pub(super) fn attach_packed<M: Module>(module: M, selected: &[Selected]) -> M {
    attach_skeletons(module, schemes(selected))
}

/// Replaces the matrices at these paths by packed weights, to be loaded later. The schemes must fit the
/// matrices.
pub(crate) fn attach_skeletons<M: Module>(module: M, schemes: HashMap<String, Scheme>) -> M {
    module.apply_reparameterization(AttachSkeleton { schemes })
}

fn schemes(selected: &[Selected]) -> HashMap<String, Scheme> {
    let weights = selected.iter();
    weights.map(|w| (w.path.clone(), w.scheme)).collect()
}

/// Step sizes and zero points.
type Start = Result<(Tensor<2>, Tensor<2>), SchemeError>;

struct AttachFakeQuant<F> {
    schemes: HashMap<String, Scheme>,
    /// The start values for the weight at a path.
    start: F,
}

impl<F: FnMut(&str, Tensor<2>, &Scheme) -> Start> Reparameterizer for AttachFakeQuant<F> {
    type Reparam = FakeQuant;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<FakeQuant>) {
        let Some(scheme) = self.schemes.remove(path) else {
            return (param, None);
        };
        let dims = param.dims();
        let weight = param.base().detach().reshape([dims[0], dims[1]]);
        let start = (self.start)(path, weight, &scheme);
        let (scales, zero_points) = start.expect("checked before");
        let attached = FakeQuant::of(scales, zero_points, scheme, dims[0]);
        (param, Some(attached))
    }
}

struct AttachSkeleton {
    schemes: HashMap<String, Scheme>,
}

impl Reparameterizer for AttachSkeleton {
    type Reparam = Packed;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Packed>) {
        let Some(scheme) = self.schemes.remove(path) else {
            return (param, None);
        };
        let dims = param.lazy_shape();
        let (k, n) = (dims[0], dims[1]);
        let groups = scheme.groups(k).expect("checked before");
        let device = param.lazy_device();
        let packed = Packed::skeleton([k, n], groups, scheme, &device);
        let shape = Shape::new([groups, n]);
        let base = Param::uninitialized(
            param.id,
            {
                let shape = shape.clone();
                move |device: &Device, track| {
                    Tensor::<D>::zeros(shape, device).set_require_grad(track)
                }
            },
            device,
            true,
            shape,
        );
        (base, Some(packed))
    }
}
