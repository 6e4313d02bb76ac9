use burn::tensor::{Bool, Int, Tensor};

/// Does something with each tensor of what flows through a model, as Burn's `ModuleMapper` does with those of a module.
pub trait FlowMapper {
    /// Takes a float tensor, and gives what stands in its place.
    fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D>;

    /// As [`map_float`](Self::map_float), for integers; by default they stay what they are.
    fn map_int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        tensor
    }

    /// As [`map_float`](Self::map_float), for truth values; by default they stay what they are.
    fn map_bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        tensor
    }
}

/// What is made of tensors, whatever is around them.
pub trait FlowTensors: Sized {
    /// Maps each tensor, always in the same order.
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self;
}

impl FlowTensors for () {
    fn map_tensors<F: FlowMapper>(self, _mapper: &mut F) {}
}

impl<const D: usize> FlowTensors for Tensor<D> {
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
        mapper.map_float(self)
    }
}

impl<const D: usize> FlowTensors for Tensor<D, Int> {
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
        mapper.map_int(self)
    }
}

impl<const D: usize> FlowTensors for Tensor<D, Bool> {
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
        mapper.map_bool(self)
    }
}

impl<T: FlowTensors> FlowTensors for Option<T> {
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
        self.map(|part| part.map_tensors(mapper))
    }
}

impl<T: FlowTensors> FlowTensors for Vec<T> {
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
        let parts = self.into_iter();
        parts.map(|part| part.map_tensors(mapper)).collect()
    }
}

impl<A: FlowTensors, B: FlowTensors> FlowTensors for (A, B) {
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
        (self.0.map_tensors(mapper), self.1.map_tensors(mapper))
    }
}

impl<A: FlowTensors, B: FlowTensors, C: FlowTensors> FlowTensors for (A, B, C) {
    fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
        (
            self.0.map_tensors(mapper),
            self.1.map_tensors(mapper),
            self.2.map_tensors(mapper),
        )
    }
}
