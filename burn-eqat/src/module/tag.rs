use crate::{GroupSize, Scheme};
use burn::module::{Param, ParamId};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_eqat_kernels::{Bits, word_type};

/// The scheme and `d_input` as an integer parameter: `[bits, group, symmetric, d_input]`, with
/// the group size as [`GroupSize::number`] gives it.
pub(super) fn tag(scheme: Scheme, d_input: usize, device: &Device) -> Param<Tensor<1, Int>> {
    let values = [
        scheme.bits.get() as i32,
        scheme.group.number() as i32,
        i32::from(scheme.symmetric),
        d_input as i32,
    ];
    let tensor = Tensor::from_data(TensorData::from(values), (device, word_type(device)));
    Param::initialized(ParamId::new(), tensor)
}

/// Reads a parameter of [`tag`]; `None` for any other.
pub(super) fn read_tag(tensor: Tensor<1, Int>) -> Option<(Scheme, usize)> {
    let values: Vec<i64> = tensor.into_data().iter::<i64>().collect();
    let [bits, group, symmetric, d_input] = values.as_slice() else {
        return None;
    };
    let bits = Bits::try_from(usize::try_from(*bits).ok()?).ok()?;
    let group = GroupSize::from_number(usize::try_from(*group).ok()?);
    let scheme = Scheme::new(bits, group);
    Some((
        scheme.with_symmetric(*symmetric == 1),
        usize::try_from(*d_input).ok()?,
    ))
}
