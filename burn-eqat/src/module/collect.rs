//! Finding what is attached where, in a module whose fields are not known.
//!
//! A Burn visitor is handed a parameter without its attachment, and then the attached parameters at
//! nested paths. These collectors put the two together again by path.

use super::{FakeQuant, Packed};
use crate::{GroupSize, Scheme};
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId, Reparameterization};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_eqat_kernels::Bits;

/// The scheme and `d_input` as an integer parameter: `[bits, group or 0, symmetric, d_input]`.
pub(super) fn tag(scheme: Scheme, d_input: usize, device: &Device) -> Param<Tensor<1, Int>> {
    let group = match scheme.group {
        GroupSize::Rows(rows) => rows.get(),
        GroupSize::Column => 0,
    };
    let values = [
        scheme.bits.get() as i32,
        group as i32,
        i32::from(scheme.symmetric),
        d_input as i32,
    ];
    let tensor = Tensor::from_data(TensorData::from(values), (device, DType::I32));
    Param::initialized(ParamId::new(), tensor)
}

/// What [`tag`] wrote; `None` for what it did not.
fn read_tag(tensor: Tensor<1, Int>) -> Option<(Scheme, usize)> {
    let values: Vec<i64> = tensor.into_data().iter::<i64>().collect();
    let [bits, group, symmetric, d_input] = values.as_slice() else {
        return None;
    };
    let bits = Bits::try_from(usize::try_from(*bits).ok()?).ok()?;
    let scheme = Scheme::new(bits, usize::try_from(*group).ok()?);
    Some((
        scheme.with_symmetric(*symmetric == 1),
        usize::try_from(*d_input).ok()?,
    ))
}

/// A weight that can be quantized: a matrix that a group selects and that has nothing attached.
pub(super) struct Candidate {
    pub path: String,
    pub id: ParamId,
    pub shape: [usize; 2],
    /// Whether another attachment of ours is there already.
    pub attached: bool,
}

/// The matrices that `group` selects, in the module's order; `at` is where the module is in a larger one.
pub(super) fn candidates<M: Module>(
    module: &M,
    group: &ParamGroup,
    at: Option<&str>,
) -> Vec<Candidate> {
    struct Visitor<'a> {
        group: &'a ParamGroup,
        path: Vec<String>,
        /// How many of the levels we are in belong to an attachment.
        inside: usize,
        found: Vec<Candidate>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            if container == CONTAINER {
                self.inside += 1;
                let path = self.path.join(".");
                if let Some(last) = self.found.last_mut()
                    && last.path == path
                {
                    last.attached = true;
                }
            }
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.pop();
            if container == CONTAINER {
                self.inside -= 1;
            }
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.path.join(".");
            if D == 2 && self.inside == 0 && self.group.matches(&param.id, Some(&path)) {
                let shape = param.lazy_shape();
                self.found.push(Candidate {
                    path,
                    id: param.id,
                    shape: [shape[0], shape[1]],
                    attached: false,
                });
            }
        }
    }
    let mut visitor = Visitor {
        group,
        path: at.map(str::to_string).into_iter().collect(),
        inside: 0,
        found: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// The container type under which Burn visits what is attached to a parameter.
const CONTAINER: &str = "Reparameterization";

/// A fake-quantized weight, or a packed one.
pub(crate) enum Attached {
    Fake {
        weight: Tensor<2>,
        scale: Tensor<2>,
        zero_point: Tensor<2>,
        scheme: Scheme,
    },
    Packed(PackedWeight),
}

/// A packed weight: everything that its attachment and base hold.
pub(crate) struct PackedWeight {
    pub scale: Tensor<2>,
    pub codes: Tensor<2, Int>,
    pub zero_points: Tensor<2, Int>,
    pub scheme: Scheme,
    pub d_input: usize,
}

impl PackedWeight {
    /// The dense weight, `[d_input, d_output]`.
    pub fn dequantize(&self) -> Tensor<2> {
        let (codes, zeros) = (self.codes.clone(), self.zero_points.clone());
        Packed::from_words(codes, zeros, self.d_input, self.scheme).apply(self.scale.clone())
    }
}

/// The base of the parameter last visited, and what of its attachment came by so far.
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
                scale: self.take_float("scale")?,
                zero_point: self.take_float("zero_point")?,
                scheme,
            }),
            Packed::NAME => Some(Attached::Packed(PackedWeight {
                scale: base,
                codes: self.take_int("codes")?,
                zero_points: self.take_int("zero_points")?,
                scheme,
                d_input,
            })),
            _ => None,
        }
    }
}

/// Every attachment of ours in a module, with the path of its weight.
pub(crate) fn attached<M: Module>(module: &M) -> Vec<(String, Attached)> {
    #[derive(Default)]
    struct Visitor {
        path: Vec<String>,
        inside: bool,
        pending: Pending,
        found: Vec<(String, Attached)>,
    }
    fn matrix<const D: usize, K: burn::tensor::kind::Basic>(t: Tensor<D, K>) -> Tensor<2, K> {
        let dims = t.dims();
        t.reshape([dims[0], dims[1]])
    }
    impl Visitor {
        fn field(&self) -> String {
            self.path.last().cloned().unwrap_or_default()
        }
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.push(name.into());
            self.inside |= container == CONTAINER;
        }
        fn exit_module(&mut self, name: &str, container: &str) {
            self.path.pop();
            if container == CONTAINER {
                self.inside = false;
                if let Some(attached) = self.pending.finish(name) {
                    self.found.push((self.pending.path.clone(), attached));
                }
            }
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            match (self.inside, D) {
                (true, 2) => {
                    let field = self.field();
                    self.pending.floats.push((field, matrix(param.val())));
                }
                (false, 2) => {
                    self.pending = Pending {
                        path: self.path.join("."),
                        base: Some(matrix(param.val())),
                        ..Default::default()
                    }
                }
                _ => {}
            }
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            match (self.inside, D) {
                (true, 2) => {
                    let field = self.field();
                    self.pending.ints.push((field, matrix(param.val())));
                }
                (true, 1) => {
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

/// The packed weights of a module, with their paths.
pub(crate) fn packed_weights<M: Module>(module: &M) -> Vec<(String, PackedWeight)> {
    attached(module)
        .into_iter()
        .filter_map(|(path, attached)| match attached {
            Attached::Packed(weight) => Some((path, weight)),
            Attached::Fake { .. } => None,
        })
        .collect()
}
