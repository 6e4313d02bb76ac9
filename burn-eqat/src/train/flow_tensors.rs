use burn::tensor::{Bool, Int, Tensor};

/// Does something with each tensor of what flows through a model, as Burn's `ModuleMapper` does with those of a module.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::train::{FlowMapper, FlowTensors};
///
/// struct Doubled;
/// impl FlowMapper for Doubled {
///     fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
///         tensor * 2.0
///     }
/// }
///
/// let ones = Tensor::<1>::ones([1], &Device::flex());
/// let (first, second) = (ones.clone(), Some(ones)).map_tensors(&mut Doubled);
/// assert_eq!((first + second.unwrap()).into_scalar::<f32>(), 4.0);
/// ```
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
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::train::{FlowMapper, FlowTensors};
///
/// #[derive(Clone)]
/// struct Streams {
///     text: Tensor<3>,
///     image: Tensor<3>,
/// }
///
/// impl FlowTensors for Streams {
///     fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
///         let text = self.text.map_tensors(mapper);
///         Self { text, image: self.image.map_tensors(mapper) }
///     }
/// }
///
/// # struct Count(usize);
/// # impl FlowMapper for Count {
/// #     fn map_float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
/// #         self.0 += 1;
/// #         tensor
/// #     }
/// # }
/// # let device = Device::flex();
/// # let streams = Streams { text: Tensor::ones([1, 2, 3], &device), image: Tensor::ones([1, 4, 3], &device) };
/// # let mut count = Count(0);
/// # streams.map_tensors(&mut count);
/// # assert_eq!(count.0, 2);
/// ```
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
