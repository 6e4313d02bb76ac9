//! Gradients of what flows between blocks, whatever it is made of: a list of its float tensors, each as one row.

use crate::train::{Flow, FlowMapper};
use burn::tensor::{Bool, Gradients, Int, Tensor};

/// The values, where no gradients are recorded.
pub(in crate::train) fn without_gradients<F: Flow>(flow: F) -> F {
    struct Inner;
    impl FlowMapper for Inner {
        fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            tensor.inner()
        }
        fn map_int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
            tensor.inner()
        }
        fn map_bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
            tensor.inner()
        }
    }
    flow.map_tensors(&mut Inner)
}

/// Whether a gradient of any part goes anywhere.
pub(super) fn is_tracked<F: Flow>(flow: &F) -> bool {
    struct Tracked(bool);
    impl FlowMapper for Tracked {
        fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
            self.0 |= tensor.is_tracked();
            tensor
        }
    }
    let mut tracked = Tracked(false);
    flow.clone().map_tensors(&mut tracked);
    tracked.0
}

/// The float tensors of a flow as they stand at the beginning of a graph.
#[derive(Default)]
pub(super) struct Leaves(Vec<Tensor<1>>);

impl Leaves {
    /// The same values at the beginning of a graph, and the leaves to ask for their gradients.
    pub fn of<F: Flow>(flow: F) -> (F, Self) {
        let mut leaves = Leaves::default();
        // Integers and truth values come along to where gradients are recorded.
        let flow = flow.train().map_tensors(&mut leaves);
        (flow, leaves)
    }

    /// The gradients that a backward pass has left.
    pub fn gradients(self, grads: &mut Gradients) -> FlowGrads {
        let leaves = self.0.into_iter();
        FlowGrads(leaves.map(|leaf| leaf.grad_remove(grads)).collect())
    }
}

impl FlowMapper for Leaves {
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let shape = tensor.dims();
        let row: Tensor<1> = tensor.inner().reshape([-1]);
        let leaf = row.autodiff().require_grad();
        self.0.push(leaf.clone());
        leaf.reshape(shape)
    }
}

/// A gradient of each float tensor of a flow; `None` for those that got none.
#[derive(Default)]
pub(super) struct FlowGrads(Vec<Option<Tensor<1>>>);

impl FlowGrads {
    /// Whether no part got a gradient.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The sum of both, which are of the same flow.
    pub fn add(&mut self, other: Self) {
        if self.0.is_empty() {
            *self = other;
            return;
        }
        for (sum, grad) in self.0.iter_mut().zip(other.0) {
            *sum = match (sum.take(), grad) {
                (Some(sum), Some(grad)) => Some(sum + grad),
                (one, other) => one.or(other),
            };
        }
    }

    /// The product with a flow, `[1]`, whose gradients by the flow are these. `None` where no gradient goes anywhere; an
    /// error where they are of a flow of other shapes.
    pub fn slope<F: Flow>(&self, flow: F) -> Result<Option<Tensor<1>>, OtherShapes> {
        struct Slope<'a> {
            grads: std::slice::Iter<'a, Option<Tensor<1>>>,
            sum: Option<Tensor<1>>,
            fits: bool,
        }
        impl FlowMapper for Slope<'_> {
            fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
                match self.grads.next() {
                    Some(Some(grad)) if tensor.shape().num_elements() == grad.dims()[0] => {
                        if tensor.is_tracked() {
                            let row: Tensor<1> = tensor.clone().reshape([-1]);
                            let slope = (row * grad.clone().autodiff()).sum();
                            self.sum = Some(match self.sum.take() {
                                Some(sum) => sum + slope,
                                None => slope,
                            });
                        }
                    }
                    Some(None) => {}
                    Some(Some(_)) | None => self.fits = false,
                }
                tensor
            }
        }
        let mut slope = Slope {
            grads: self.0.iter(),
            sum: None,
            fits: true,
        };
        flow.map_tensors(&mut slope);
        if slope.fits && slope.grads.next().is_none() {
            Ok(slope.sum)
        } else {
            Err(OtherShapes)
        }
    }
}

/// What a model made when it was run again is not of the shapes that it made before.
#[derive(Debug)]
pub(super) struct OtherShapes;

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    type Nested = (Vec<Tensor<2>>, (Option<Tensor<1>>, Tensor<1, Int>));

    fn nested() -> Nested {
        let device = Device::flex();
        let matrix = |value: f32| Tensor::<2>::full([2, 3], value, &device);
        let row = Tensor::<1>::from_data([5.0, 7.0], &device);
        let ids = Tensor::<1, Int>::from_data([4, 2], &device);
        (vec![matrix(2.0), matrix(3.0)], (Some(row), ids))
    }

    fn numbers(grad: &Option<Tensor<1>>) -> Vec<f32> {
        grad.as_ref().unwrap().to_data().iter::<f32>().collect()
    }

    #[test]
    fn gradients_reach_every_part_that_was_used() {
        let (flow, leaves) = Leaves::of(nested());
        assert!(is_tracked(&flow) && !is_tracked(&nested()));
        let (matrices, (row, ids)) = flow.clone();
        assert_eq!(matrices[0].dims(), [2, 3]);
        assert!(ids.is_autodiff());
        // The second matrix is left out.
        let loss = matrices[0].clone().square().sum() + (row.unwrap() * 4.0).sum();
        let mut grads = leaves.gradients(&mut loss.backward());
        assert!(!grads.is_empty());
        assert_eq!(numbers(&grads.0[0]), [4.0; 6]);
        assert!(grads.0[1].is_none());
        assert_eq!(numbers(&grads.0[2]), [4.0; 2]);

        // Sums: a part without a gradient adds nothing.
        let mut sum = FlowGrads::default();
        sum.add(FlowGrads(vec![None, grads.0[0].clone(), None]));
        grads.add(sum);
        assert_eq!(numbers(&grads.0[1]), [4.0; 6]);

        // The slope has them as its gradients, and skips what is not tracked.
        let (again, leaves) = Leaves::of(nested());
        let slope = grads.slope(again).unwrap().unwrap();
        let handed_on = leaves.gradients(&mut slope.backward());
        for (actual, expected) in handed_on.0.iter().zip(&grads.0) {
            assert_eq!(numbers(actual), numbers(expected));
        }
        assert!(grads.slope(nested()).unwrap().is_none());
    }

    #[test]
    fn a_flow_of_other_shapes_is_refused() {
        let (flow, leaves) = Leaves::of(nested());
        let loss = flow.0[0].clone().sum() + flow.0[1].clone().sum();
        let grads = leaves.gradients(&mut loss.backward());
        let (matrices, rest) = nested();
        for other in [
            vec![],
            vec![matrices[0].clone(); 3],
            vec![matrices[0].clone().slice_dim(0, 0..1), matrices[1].clone()],
        ] {
            assert!(grads.slope((other, rest.clone())).is_err());
        }
        assert!(grads.slope((matrices, rest)).is_ok());
    }
}
