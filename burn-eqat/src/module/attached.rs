//! Finds the attachments in a module of any type.
//!
//! A Burn visitor sees a parameter without its attachment, and then the attached parameters at nested
//! paths. This module joins them again.

use super::tag::read_tag;
use super::walk::{ATTACHMENT, Walk};
use super::{FakeQuant, Packed};
use crate::Scheme;
use burn::module::{Module, ModuleVisitor, Param, Reparameterization};
use burn::tensor::{Int, Tensor};
use burn_eqat_kernels::PackedWeight;

/// A fake-quantized weight, or a packed one.
pub(crate) enum Attached {
    Fake {
        weight: Tensor<2>,
        scales: Tensor<2>,
        zero_points: Tensor<2>,
        scheme: Scheme,
    },
    Packed {
        weight: PackedWeight,
        scheme: Scheme,
    },
}

/// The base of the last visited parameter, and the parts of its attachment visited so far.
#[derive(Default)]
struct Pending {
    path: String,
    base: Option<Tensor<2>>,
    floats: Vec<(String, Tensor<2>)>,
    ints: Vec<(String, Tensor<2, Int>)>,
    tag: Option<(Scheme, usize)>,
}

impl Pending {
    fn take_float(&mut self, name: &str) -> Option<Tensor<2>> {
        let at = self.floats.iter().position(|(n, _)| n == name)?;
        Some(self.floats.swap_remove(at).1)
    }

    fn take_int(&mut self, name: &str) -> Option<Tensor<2, Int>> {
        let at = self.ints.iter().position(|(n, _)| n == name)?;
        Some(self.ints.swap_remove(at).1)
    }

    /// The attachment, once all of it has been seen.
    fn finish(&mut self, name: &str) -> Option<Attached> {
        let (scheme, d_input) = self.tag?;
        let base = self.base.take()?;
        match name {
            FakeQuant::NAME => Some(Attached::Fake {
                weight: base,
                scales: self.take_float("scales")?,
                zero_points: self.take_float("zero_points")?,
                scheme,
            }),
            Packed::NAME => {
                let (codes, zeros) = (self.take_int("codes")?, self.take_int("zero_points")?);
                let weight = PackedWeight::from_parts(codes, base, zeros, scheme.bits, d_input)
                    .unwrap_or_else(|error| error.raise());
                Some(Attached::Packed { weight, scheme })
            }
            _ => None,
        }
    }
}

/// Every attachment of this crate in a module, with the path of its weight.
pub(crate) fn attached<M: Module>(module: &M) -> Vec<(String, Attached)> {
    #[derive(Default)]
    struct Visitor {
        walk: Walk,
        pending: Pending,
        found: Vec<(String, Attached)>,
    }
    fn matrix<const D: usize, K: burn::tensor::kind::Basic>(t: Tensor<D, K>) -> Tensor<2, K> {
        let dims = t.dims();
        t.reshape([dims[0], dims[1]])
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, name: &str, container: &str) {
            self.walk.exit();
            if container == ATTACHMENT
                && let Some(attached) = self.pending.finish(name)
            {
                self.found.push((self.pending.path.clone(), attached));
            }
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D != 2 {
                return;
            }
            if self.walk.is_attached() {
                let field = self.walk.field().to_string();
                self.pending.floats.push((field, matrix(param.val())));
            } else {
                self.pending = Pending {
                    path: self.walk.path(),
                    base: Some(matrix(param.val())),
                    ..Default::default()
                }
            }
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            if !self.walk.is_attached() {
                return;
            }
            match D {
                2 => {
                    let field = self.walk.field().to_string();
                    self.pending.ints.push((field, matrix(param.val())));
                }
                1 => {
                    let [len] = param.dims()[..] else { return };
                    self.pending.tag = read_tag(param.val().reshape([len]));
                }
                _ => {}
            }
        }
    }
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.found
}

/// A packed weight of a module, with its scheme.
pub(crate) struct QuantizedWeight {
    pub weight: PackedWeight,
    pub scheme: Scheme,
}

/// The packed weights of a module, with their paths.
pub(crate) fn packed_weights<M: Module>(module: &M) -> Vec<(String, QuantizedWeight)> {
    attached(module)
        .into_iter()
        .filter_map(|(path, attached)| match attached {
            Attached::Packed { weight, scheme } => Some((path, QuantizedWeight { weight, scheme })),
            Attached::Fake { .. } => None,
        })
        .collect()
}

/// A fake-quantized weight of a module.
pub(crate) struct FakeQuantized {
    pub path: String,
    pub scheme: Scheme,
    /// How many numbers it has.
    pub weights: usize,
}

/// The fake-quantized weights of a module.
pub(crate) fn fake_quantized<M: Module>(module: &M) -> Vec<FakeQuantized> {
    let found = attached(module).into_iter();
    found
        .filter_map(|(path, attached)| match attached {
            Attached::Fake { weight, scheme, .. } => Some(FakeQuantized {
                path,
                scheme,
                weights: weight.shape().num_elements(),
            }),
            Attached::Packed { .. } => None,
        })
        .collect()
}
