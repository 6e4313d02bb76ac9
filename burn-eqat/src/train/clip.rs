use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Scales gradients so that their norm is at most `max_norm`; returns them and the norm that they had before.
///
/// The norm is that of all gradients together, as in PyTorch's `clip_grad_norm_`. Burn's own clipping clips each
/// parameter separately.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::train::clip_grad_norm;
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(3, 1).init(&device);
/// let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum();
/// let grads = GradientsParams::from_grads(loss.backward(), &layer);
/// // Three weights and a bias, each with a gradient of 1.
/// let (clipped, norm) = clip_grad_norm(&layer, grads, 0.5);
/// assert!((norm - 2.0).abs() < 1e-6);
/// let (_, norm) = clip_grad_norm(&layer, clipped, 0.5);
/// assert!((norm - 0.5).abs() < 1e-5);
/// ```
pub fn clip_grad_norm<M: Module>(
    module: &M,
    grads: GradientsParams,
    max_norm: f64,
) -> (GradientsParams, f64) {
    let norm = grad_norm(module, &grads);
    if norm > max_norm {
        let factor = max_norm / (norm + 1e-6);
        (scale_grads(module, grads, factor), norm)
    } else {
        (grads, norm)
    }
}

/// The norm of all gradients together.
pub(crate) fn grad_norm<M: Module>(module: &M, grads: &GradientsParams) -> f64 {
    sum_over(module, grads, Terms::Squares).sqrt()
}

/// Whether all gradients are finite; it reads them once, and makes nothing of their size.
pub(crate) fn are_finite<M: Module>(module: &M, grads: &GradientsParams) -> bool {
    // What is not finite stays so in a sum.
    sum_over(module, grads, Terms::Values).is_finite()
}

/// What is summed of the gradients.
#[derive(Clone, Copy)]
enum Terms {
    Values,
    Squares,
}

/// The sum over all elements of all gradients; 0 where there are none.
fn sum_over<M: Module>(module: &M, grads: &GradientsParams, terms: Terms) -> f64 {
    struct Sum<'a> {
        grads: &'a GradientsParams,
        terms: Terms,
        sum: Option<Tensor<1>>,
    }
    impl ModuleVisitor for Sum<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(grad) = self.grads.get::<D>(param.id) else {
                return;
            };
            let sum = match self.terms {
                Terms::Values => grad.sum(),
                Terms::Squares => grad.square().sum(),
            };
            self.sum = Some(match self.sum.take() {
                Some(all) => all + sum.to_device(&param.lazy_device().inner()),
                None => sum,
            });
        }
    }
    let mut visitor = Sum {
        grads,
        terms,
        sum: None,
    };
    module.visit(&mut visitor);
    visitor.sum.map_or(0.0, |sum| sum.into_scalar::<f64>())
}

/// Multiplies every gradient by a number.
pub(crate) fn scale_grads<M: Module>(
    module: &M,
    grads: GradientsParams,
    factor: f64,
) -> GradientsParams {
    struct Scale {
        from: GradientsParams,
        to: GradientsParams,
        factor: f64,
    }
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.from.remove::<D>(param.id) {
                self.to.register(param.id, grad.mul_scalar(self.factor));
            }
        }
    }
    let mut scale = Scale {
        from: grads,
        to: GradientsParams::new(),
        factor,
    };
    module.visit(&mut scale);
    scale.to
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    #[test]
    fn the_norm_is_common_to_all_parameters() {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(2, 1).init(&device);
        let x = Tensor::<2>::from_data([[3.0, 0.0]], &device);
        let grads = (linear.forward(x) * 4.0).sum().backward();
        let grads = GradientsParams::from_grads(grads, &linear);
        // d weight = (12, 0), d bias = 4.
        let expected = f64::sqrt(144.0 + 16.0);
        let (grads, norm) = clip_grad_norm(&linear, grads, 100.0);
        assert!((norm - expected).abs() < 1e-5);
        let (mut grads, norm) = clip_grad_norm(&linear, grads, 0.5);
        assert!((norm - expected).abs() < 1e-5);
        let bias = linear.bias.as_ref().unwrap().id;
        let clipped: f64 = grads.remove::<1>(bias).unwrap().into_scalar();
        assert!((clipped - 4.0 * 0.5 / expected).abs() < 1e-6);
    }
}
