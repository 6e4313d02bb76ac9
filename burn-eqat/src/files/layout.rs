//! Maps the tensors of a file to the parameters of a module.
//!
//! In PyTorch, the weight of a linear layer is `[d_output, d_input]`, and a norm has a `weight`. In Burn
//! they are `[d_input, d_output]` and `gamma`. A packed weight `x.weight` is in a file as `x.qweight`,
//! `x.qzeros` and `x.scales`, as in GPTQ checkpoints.

use crate::module::{ATTACHMENT, LINEAR};
use crate::{FakeQuant, Packed};
use burn::module::{Module, ModuleVisitor, Param, Reparameterization};
use burn::tensor::{Bool, Int, Shape, Tensor};

/// The role of a parameter in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A float as it is.
    Plain,
    /// The matrix of a linear layer, transposed in files.
    Transposed,
    /// Step sizes of a packed weight.
    Scales,
    /// Codes of a packed weight, in words.
    Codes,
    /// Zero points of a packed weight, in words.
    ZeroPoints,
    /// An integer parameter that is not part of a packed weight.
    Integer,
    /// A boolean parameter.
    Bool,
    /// A part of fake quantization, which files do not store.
    FakeQuant,
}

/// A parameter of a module and the tensor of a file.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Path in the module.
    pub path: String,
    /// Name in the file.
    pub name: String,
    /// Shape in the file.
    pub shape: Shape,
    pub role: Role,
}

impl Slot {
    /// The shape `[d_input, d_output]` of a dense float matrix.
    pub fn dense_shape(&self) -> Option<[usize; 2]> {
        match (self.role, self.shape.as_slice()) {
            (Role::Transposed, [n, k]) => Some([*k, *n]),
            (Role::Plain, [k, n]) => Some([*k, *n]),
            _ => None,
        }
    }

    /// Path of the packed weight that it is the codes or the zero points of.
    pub fn packed_weight(&self) -> Option<&str> {
        let (weight, _) = self.path.rsplit_once(&format!(".{}.", Packed::NAME))?;
        Some(weight)
    }
}

/// The tensor in files of every parameter of a module.
pub(super) fn slots<M: Module>(module: &M) -> Vec<Slot> {
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.slots
}

#[derive(Default)]
struct Visitor {
    path: Vec<String>,
    containers: Vec<String>,
    slots: Vec<Slot>,
}

impl Visitor {
    /// The module that declares the parameter being visited.
    fn owner(&self) -> &str {
        let owner = self.containers.iter().rev();
        owner
            .map(String::as_str)
            .find(|c| c.starts_with("Struct:"))
            .unwrap_or_default()
    }

    fn push(&mut self, name: String, shape: Shape, role: Role) {
        self.slots.push(Slot {
            path: self.path.join("."),
            name,
            shape,
            role,
        });
    }

    /// The path with another last part.
    fn sibling(&self, last: &str) -> String {
        let mut path = self.path[..self.path.len() - 1].to_vec();
        path.push(last.to_string());
        path.join(".")
    }

    fn in_fake_quant(&self) -> bool {
        let parts = self.path.iter().zip(&self.containers);
        let mut parts = parts.map(|(name, container)| (name.as_str(), container.as_str()));
        parts.any(|part| part == (FakeQuant::NAME, ATTACHMENT))
    }
}

impl ModuleVisitor for Visitor {
    fn enter_module(&mut self, name: &str, container: &str) {
        if container == ATTACHMENT
            && name == Packed::NAME
            && let Some(base) = self.slots.last_mut()
        {
            // A linear layer was guessed from the base; step sizes lie as they are.
            if base.role == Role::Transposed {
                base.shape = Shape::new([base.shape[1], base.shape[0]]);
            }
            base.role = Role::Scales;
            base.name = packed_name(&base.path, "scales");
        }
        self.path.push(name.into());
        self.containers.push(container.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape();
        if self.in_fake_quant() {
            return self.push(self.path.join("."), shape, Role::FakeQuant);
        }
        let field = self.path.last().cloned().unwrap_or_default();
        let linear = self.owner() == LINEAR;
        match field.as_str() {
            "weight" if linear && D == 2 => {
                let transposed = Shape::new([shape[1], shape[0]]);
                self.push(self.path.join("."), transposed, Role::Transposed);
            }
            "gamma" => self.push(self.sibling("weight"), shape, Role::Plain),
            "beta" => self.push(self.sibling("bias"), shape, Role::Plain),
            _ => self.push(self.path.join("."), shape, Role::Plain),
        }
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let shape = param.lazy_shape();
        let path = self.path.join(".");
        if self.in_fake_quant() {
            return self.push(path, shape, Role::FakeQuant);
        }
        match path.rsplit_once(&format!(".{}.", Packed::NAME)) {
            Some((weight, "codes")) => {
                self.push(packed_name(weight, "qweight"), shape, Role::Codes);
            }
            Some((weight, "zero_points")) => {
                self.push(packed_name(weight, "qzeros"), shape, Role::ZeroPoints);
            }
            // The scheme is said beside the tensors.
            Some(_) => {}
            None => self.push(path, shape, Role::Integer),
        }
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let shape = param.lazy_shape();
        self.push(self.path.join("."), shape, Role::Bool);
    }
}

/// Name of a part of a packed weight: `layer.qweight` for `layer.weight`, `layer.w1.qweight` for any
/// other field.
pub(super) fn packed_name(weight: &str, part: &str) -> String {
    match weight.strip_suffix("weight") {
        Some(layer) if layer.is_empty() || layer.ends_with('.') => format!("{layer}{part}"),
        _ => format!("{weight}.{part}"),
    }
}

/// Path of the module that a weight belongs to, as PyTorch has it: `layer` for `layer.weight`, and the whole
/// path for any other field.
pub(super) fn module_of(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}
