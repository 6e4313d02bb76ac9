use super::FlowTensors;
use super::cache::{FlowError, FlowParts};
use crate::compute_type::widen;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

/// Values that go through the blocks: tensors, and pairs, triples, lists and options of them.
///
/// A type of your own does with each of its fields what it is asked to do itself, in the same order, and has its tensors
/// mapped field by field ([`FlowTensors`]). Values go to the thread of their device where there are several.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::train::{Flow, FlowError, FlowParts};
/// # use burn_eqat::train::{FlowMapper, FlowTensors};
///
/// #[derive(Clone)]
/// struct Streams {
///     text: Tensor<3>,
///     image: Tensor<3>,
/// }
///
/// impl Flow for Streams {
///     fn train(self) -> Self {
///         Self { text: self.text.train(), image: self.image.train() }
///     }
///     fn num_bytes(&self) -> u64 {
///         self.text.num_bytes() + self.image.num_bytes()
///     }
///     fn take_apart(self, parts: &mut FlowParts) -> Result<(), FlowError> {
///         self.text.take_apart(parts)?;
///         self.image.take_apart(parts)
///     }
///     fn put_together(parts: &mut FlowParts, device: &Device) -> Result<Self, FlowError> {
///         let text = Tensor::put_together(parts, device)?;
///         Ok(Self { text, image: Tensor::put_together(parts, device)? })
///     }
/// }
/// # impl FlowTensors for Streams {
/// #     fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
/// #         let text = self.text.map_tensors(mapper);
/// #         Self { text, image: self.image.map_tensors(mapper) }
/// #     }
/// # }
///
/// # let device = Device::flex();
/// # let streams = Streams { text: Tensor::ones([1, 2, 3], &device), image: Tensor::zeros([1, 4, 3], &device) };
/// # let mut parts = FlowParts::default();
/// # assert_eq!(streams.num_bytes(), 4 * 18);
/// # streams.clone().take_apart(&mut parts)?;
/// # assert_eq!(Streams::put_together(&mut parts, &device)?.image.into_data(), streams.image.into_data());
/// # parts.finish()?;
/// # Ok::<(), FlowError>(())
/// ```
pub trait Flow: Clone + Send + FlowTensors {
    /// The same values, with gradients recorded.
    fn train(self) -> Self;

    /// Bytes of all tensors in memory.
    fn num_bytes(&self) -> u64;

    /// Brings the values to the host and adds them to `parts`.
    ///
    /// # Errors
    ///
    /// When the device has failed.
    fn take_apart(self, parts: &mut FlowParts) -> Result<(), FlowError>;

    /// Takes from the front of `parts` what [`take_apart`](Self::take_apart) added, and brings it to a device.
    ///
    /// # Errors
    ///
    /// When the parts are those of another value.
    fn put_together(parts: &mut FlowParts, device: &Device) -> Result<Self, FlowError>;
}

/// A hidden state, on which the reconstruction error is measured.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::train::Hidden;
/// # use burn_eqat::train::{Flow, FlowError, FlowMapper, FlowParts, FlowTensors};
///
/// // A type that implements `Flow`.
/// #[derive(Clone)]
/// struct Streams {
///     text: Tensor<3>,
///     image: Tensor<3>,
/// }
/// # impl FlowTensors for Streams {
/// #     fn map_tensors<F: FlowMapper>(self, mapper: &mut F) -> Self {
/// #         let text = self.text.map_tensors(mapper);
/// #         Self { text, image: self.image.map_tensors(mapper) }
/// #     }
/// # }
/// # impl Flow for Streams {
/// #     fn train(self) -> Self {
/// #         Self { text: self.text.train(), image: self.image.train() }
/// #     }
/// #     fn num_bytes(&self) -> u64 {
/// #         self.text.num_bytes() + self.image.num_bytes()
/// #     }
/// #     fn take_apart(self, parts: &mut FlowParts) -> Result<(), FlowError> {
/// #         self.text.take_apart(parts)?;
/// #         self.image.take_apart(parts)
/// #     }
/// #     fn put_together(parts: &mut FlowParts, device: &Device) -> Result<Self, FlowError> {
/// #         let text = Tensor::put_together(parts, device)?;
/// #         Ok(Self { text, image: Tensor::put_together(parts, device)? })
/// #     }
/// # }
///
/// impl Hidden for Streams {
///     fn mse(self, target: Self) -> Tensor<1> {
///         self.text.mse(target.text) + self.image.mse(target.image)
///     }
/// }
///
/// # let device = Device::flex();
/// # let streams = Streams { text: Tensor::ones([1, 2, 3], &device), image: Tensor::zeros([1, 4, 3], &device) };
/// # assert_eq!(streams.clone().mse(streams).into_scalar::<f32>(), 0.0);
/// ```
pub trait Hidden: Flow {
    /// Mean squared error to a target, `[1]`, in f32 if the tensors are in half precision. For several tensors, the sum of their errors.
    fn mse(self, target: Self) -> Tensor<1>;
}

impl Flow for () {
    fn train(self) {}
    fn num_bytes(&self) -> u64 {
        0
    }
    fn take_apart(self, _: &mut FlowParts) -> Result<(), FlowError> {
        Ok(())
    }
    fn put_together(_: &mut FlowParts, _: &Device) -> Result<Self, FlowError> {
        Ok(())
    }
}

/// Tensors of one kind, whose types are those that the pattern fits.
macro_rules! tensor_flow {
    ($tensor:ty, $kind:literal, $is_kind:expr) => {
        impl<const D: usize> Flow for $tensor {
            fn train(self) -> Self {
                Tensor::from_inner(self)
            }
            fn num_bytes(&self) -> u64 {
                let values = self.shape().num_elements() as u64;
                values.saturating_mul(self.dtype().size() as u64)
            }
            fn take_apart(self, parts: &mut FlowParts) -> Result<(), FlowError> {
                parts.push_tensor(self.try_into_data().map_err(FlowError::new)?);
                Ok(())
            }
            fn put_together(parts: &mut FlowParts, device: &Device) -> Result<Self, FlowError> {
                let data = checked(parts.take_tensor()?, D, $kind, $is_kind)?;
                let dtype = data.dtype();
                Ok(Tensor::from_data(data, (device, dtype)))
            }
        }
    };
}
tensor_flow!(Tensor<D>, "floats", |dtype| dtype.is_float());
tensor_flow!(Tensor<D, Bool>, "bools", |dtype| matches!(
    dtype,
    DType::Bool(_)
));
tensor_flow!(Tensor<D, Int>, "integers", |dtype| dtype.is_int()
    || dtype.is_uint());

/// A tensor, once it has the rank and the kind of numbers that are expected.
fn checked(
    data: TensorData,
    rank: usize,
    kind: &str,
    is_kind: impl Fn(DType) -> bool,
) -> Result<TensorData, FlowError> {
    let (found, dtype) = (data.rank(), data.dtype());
    if found != rank {
        let message = format!("holds a tensor of rank {found}, expected rank {rank}");
        return Err(FlowError::new(message));
    }
    if !is_kind(dtype) {
        let message = format!("holds a tensor of {dtype:?}, expected {kind}");
        return Err(FlowError::new(message));
    }
    Ok(data)
}

impl<T: Flow> Flow for Option<T> {
    fn train(self) -> Self {
        self.map(Flow::train)
    }
    fn num_bytes(&self) -> u64 {
        self.as_ref().map_or(0, Flow::num_bytes)
    }
    fn take_apart(self, parts: &mut FlowParts) -> Result<(), FlowError> {
        parts.push_count(usize::from(self.is_some()));
        self.map_or(Ok(()), |value| value.take_apart(parts))
    }
    fn put_together(parts: &mut FlowParts, device: &Device) -> Result<Self, FlowError> {
        match parts.take_count()? {
            0 => Ok(None),
            1 => T::put_together(parts, device).map(Some),
            count => {
                let message = format!("holds {count} values, expected none or one");
                Err(FlowError::new(message))
            }
        }
    }
}

/// Tuples, field by field.
macro_rules! tuple_flow {
    ($($field:ident $index:tt),+) => {
        impl<$($field: Flow),+> Flow for ($($field,)+) {
            fn train(self) -> Self {
                ($(self.$index.train(),)+)
            }
            fn num_bytes(&self) -> u64 {
                [$(self.$index.num_bytes()),+].into_iter().sum()
            }
            fn take_apart(self, parts: &mut FlowParts) -> Result<(), FlowError> {
                $(self.$index.take_apart(parts)?;)+
                Ok(())
            }
            fn put_together(parts: &mut FlowParts, device: &Device) -> Result<Self, FlowError> {
                Ok(($($field::put_together(parts, device)?,)+))
            }
        }
    };
}
tuple_flow!(A 0, B 1);
tuple_flow!(A 0, B 1, C 2);

impl<T: Flow> Flow for Vec<T> {
    fn train(self) -> Self {
        self.into_iter().map(Flow::train).collect()
    }
    fn num_bytes(&self) -> u64 {
        self.iter().map(Flow::num_bytes).sum()
    }
    fn take_apart(self, parts: &mut FlowParts) -> Result<(), FlowError> {
        parts.push_count(self.len());
        let mut values = self.into_iter();
        values.try_for_each(|value| value.take_apart(parts))
    }
    fn put_together(parts: &mut FlowParts, device: &Device) -> Result<Self, FlowError> {
        let count = parts.take_count()?;
        (0..count).map(|_| T::put_together(parts, device)).collect()
    }
}

impl<const D: usize> Hidden for Tensor<D> {
    fn mse(self, target: Self) -> Tensor<1> {
        // In half precision, the difference of what is close is mostly rounding, and its square vanishes.
        (widen(self) - widen(target)).square().mean()
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
