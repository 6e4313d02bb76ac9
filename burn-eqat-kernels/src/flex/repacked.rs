//! A repacked copy of a packed weight, and the tensors it was made from.

use super::level::Level;
use super::linear::with_bias;
use super::lookup::LookupWeight;
use super::packed::{PackedTensors, ZeroPoints};
use super::select::{Strategy, strategies};
use super::tensors::{Floats, finish, values_mut};
use crate::problem::Problem;
use crate::{Activations, PackedWeight};
use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;

/// The tensors of a packed weight, and a copy of them in the order in which lookups read it.
///
/// The tensors are kept to recognize them later. While they are kept, nobody writes to them, so a tensor at the same
/// address is the same tensor.
#[derive(Debug)]
pub(crate) struct Repacked {
    tensors: [FlexTensor; 3],
    weight: LookupWeight,
}

impl Repacked {
    /// The copy, or `None` if lookups cannot use one. Expects a weight whose shapes were checked.
    pub fn new(weight: &PackedWeight) -> Option<Self> {
        if weight.scales.dtype() != DType::F32 || !Level::current().dots() {
            return None;
        }
        let tensors = primitives(weight)?;
        let [codes, scales, zero_points] = tensors.clone();
        let zero_points = ZeroPoints::Packed(zero_points);
        let shape = [1, weight.d_input];
        let packed = PackedTensors::new("repack", codes, scales, zero_points, weight.bits, shape);
        let weight = packed.with(LookupWeight::new)?;
        Some(Repacked { tensors, weight })
    }

    /// Whether the copy was made from these same tensors. Takes constant time.
    pub fn is_of(&self, weight: &PackedWeight) -> bool {
        let address = |tensor: &FlexTensor| {
            let layout = tensor.layout();
            (tensor.bytes().as_ptr(), layout.clone(), tensor.dtype())
        };
        let problem = &self.weight.problem;
        let same_sizes = (problem.bits, problem.k) == (weight.bits, weight.d_input);
        same_sizes
            && primitives(weight).is_some_and(|others| {
                let mut pairs = self.tensors.iter().zip(&others);
                pairs.all(|(own, other)| address(own) == address(other))
            })
    }

    /// `x W + bias`, or `None` if another strategy is faster, or if the input is on another backend, is
    /// differentiated, or has numbers that tables cannot hold.
    pub fn linear(&self, x: &Tensor<2>, bias: Option<&Tensor<1>>) -> Option<Tensor<2>> {
        let ([rows, _], dtype) = (x.dims(), x.dtype());
        let (level, activations) = (Level::current(), Activations::current());
        let problem = Problem {
            m: rows,
            ..self.weight.problem
        };
        let first = strategies(level, &problem, true, activations).next();
        if first != Some(Strategy::Lookup) || dtype == DType::F64 {
            return None;
        }
        let bias = match bias {
            Some(bias) => Some(bias.clone().try_into_primitive::<Flex>().ok()?),
            None => None,
        };
        let x = Floats::new(x.clone().try_into_primitive::<Flex>().ok()?);
        let mut y = with_bias("linear", [rows, problem.n], bias);
        if !(self.weight).forward(level, activations, x.values(), values_mut(&mut y)) {
            return None;
        }
        Some(Tensor::from_primitive::<Flex>(finish(y, dtype)))
    }
}

/// `None` if a tensor is on another backend, or is differentiated.
fn primitives(weight: &PackedWeight) -> Option<[FlexTensor; 3]> {
    let codes = weight.codes.clone().try_into_primitive::<Flex>().ok()?;
    let scales = weight.scales.clone().try_into_primitive::<Flex>().ok()?;
    let zero_points = weight
        .zero_points
        .clone()
        .try_into_primitive::<Flex>()
        .ok()?;
    Some([codes, scales, zero_points])
}
