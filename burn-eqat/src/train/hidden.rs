use super::FlowTensors;
use burn::tensor::{Bool, Int, Tensor};

/// What flows between blocks, or beside them: tensors, and pairs, triples, lists and
/// options of them. A type of your own has its tensors mapped ([`FlowTensors`]), field by field.
pub trait Flow: Clone + FlowTensors {
    /// The same values where gradients are recorded.
    fn train(self) -> Self;
}

/// What flows from block to block, and what a reconstruction is measured on.
pub trait Hidden: Flow {
    /// Mean squared error to a target, `[1]`; of several tensors the sum of theirs.
    fn mse(self, target: Self) -> Tensor<1>;
}

impl Flow for () {
    fn train(self) {}
}

impl<const D: usize> Flow for Tensor<D> {
    fn train(self) -> Self {
        Tensor::from_inner(self)
    }
}

impl<const D: usize> Flow for Tensor<D, Bool> {
    fn train(self) -> Self {
        Tensor::from_inner(self)
    }
}

impl<const D: usize> Flow for Tensor<D, Int> {
    fn train(self) -> Self {
        Tensor::from_inner(self)
    }
}

impl<T: Flow> Flow for Option<T> {
    fn train(self) -> Self {
        self.map(Flow::train)
    }
}

impl<A: Flow, B: Flow> Flow for (A, B) {
    fn train(self) -> Self {
        (self.0.train(), self.1.train())
    }
}

impl<A: Flow, B: Flow, C: Flow> Flow for (A, B, C) {
    fn train(self) -> Self {
        (self.0.train(), self.1.train(), self.2.train())
    }
}

impl<T: Flow> Flow for Vec<T> {
    fn train(self) -> Self {
        self.into_iter().map(Flow::train).collect()
    }
}

impl<const D: usize> Hidden for Tensor<D> {
    fn mse(self, target: Self) -> Tensor<1> {
        (self - target).square().mean()
    }
}

impl<A: Hidden, B: Hidden> Hidden for (A, B) {
    fn mse(self, target: Self) -> Tensor<1> {
        self.0.mse(target.0) + self.1.mse(target.1)
    }
}

impl<A: Hidden, B: Hidden, C: Hidden> Hidden for (A, B, C) {
    fn mse(self, target: Self) -> Tensor<1> {
        self.0.mse(target.0) + self.1.mse(target.1) + self.2.mse(target.2)
    }
}
