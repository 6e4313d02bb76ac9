use burn::tensor::{Bool, Int, Tensor, TensorData};

/// Values that go through the blocks: tensors, and pairs, triples, lists and options of them.
pub trait Flow: Clone {
    /// The same values, with gradients recorded.
    fn train(self) -> Self;

    /// Calls `each` with the values of every tensor in turn.
    fn each_tensor(&self, each: &mut dyn FnMut(TensorData));
}

/// A hidden state, on which the reconstruction error is measured.
pub trait Hidden: Flow {
    /// Mean squared error to a target, `[1]`. For several tensors, the sum of their errors.
    fn mse(self, target: Self) -> Tensor<1>;
}

impl Flow for () {
    fn train(self) {}

    fn each_tensor(&self, _each: &mut dyn FnMut(TensorData)) {}
}

impl<const D: usize> Flow for Tensor<D> {
    fn train(self) -> Self {
        Tensor::from_inner(self)
    }

    fn each_tensor(&self, each: &mut dyn FnMut(TensorData)) {
        each(self.to_data());
    }
}

impl<const D: usize> Flow for Tensor<D, Bool> {
    fn train(self) -> Self {
        Tensor::from_inner(self)
    }

    fn each_tensor(&self, each: &mut dyn FnMut(TensorData)) {
        each(self.to_data());
    }
}

impl<const D: usize> Flow for Tensor<D, Int> {
    fn train(self) -> Self {
        Tensor::from_inner(self)
    }

    fn each_tensor(&self, each: &mut dyn FnMut(TensorData)) {
        each(self.to_data());
    }
}

impl<T: Flow> Flow for Option<T> {
    fn train(self) -> Self {
        self.map(Flow::train)
    }

    fn each_tensor(&self, each: &mut dyn FnMut(TensorData)) {
        self.iter().for_each(|value| value.each_tensor(each));
    }
}

impl<A: Flow, B: Flow> Flow for (A, B) {
    fn train(self) -> Self {
        (self.0.train(), self.1.train())
    }

    fn each_tensor(&self, each: &mut dyn FnMut(TensorData)) {
        self.0.each_tensor(each);
        self.1.each_tensor(each);
    }
}

impl<A: Flow, B: Flow, C: Flow> Flow for (A, B, C) {
    fn train(self) -> Self {
        (self.0.train(), self.1.train(), self.2.train())
    }

    fn each_tensor(&self, each: &mut dyn FnMut(TensorData)) {
        self.0.each_tensor(each);
        self.1.each_tensor(each);
        self.2.each_tensor(each);
    }
}

impl<T: Flow> Flow for Vec<T> {
    fn train(self) -> Self {
        self.into_iter().map(Flow::train).collect()
    }

    fn each_tensor(&self, each: &mut dyn FnMut(TensorData)) {
        self.iter().for_each(|value| value.each_tensor(each));
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
