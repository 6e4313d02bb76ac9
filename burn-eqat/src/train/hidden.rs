use burn::tensor::{Int, Tensor};

/// What flows between blocks, or beside them: tensors, and pairs and options of them.
pub trait Flow: Clone {
    /// The same values where gradients are recorded.
    fn train(self) -> Self;
}

/// What a block makes from its input, and what its reconstruction is measured on.
pub trait Hidden: Flow {
    /// Mean squared error to a target, `[1]`.
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
