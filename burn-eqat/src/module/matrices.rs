//! The matrices of a module, the selected ones and their schemes.

use super::Weights;
use super::walk::Walk;
use crate::{QuantizeError, Scheme, Schemes};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

/// A parameter with two axes.
pub(super) struct Matrix {
    pub path: String,
    pub id: ParamId,
    pub shape: [usize; 2],
    /// The struct that declares it, for example `Struct:Linear`.
    pub owner: String,
    /// Whether something is attached to it already.
    pub attached: bool,
}

impl Matrix {
    /// The last part of the path.
    pub fn field(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }
}

/// The matrices of a module in its own order, without reading their data.
fn matrices<M: Module>(module: &M) -> Vec<Matrix> {
    #[derive(Default)]
    struct Visitor {
        walk: Walk,
        found: Vec<Matrix>,
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
            if let Some((path, _)) = self.walk.attachment()
                && let Some(last) = self.found.last_mut()
                && last.path == path
            {
                last.attached = true;
            }
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.walk.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D == 2 && !self.walk.is_attached() {
                let shape = param.lazy_shape();
                self.found.push(Matrix {
                    path: self.walk.path(),
                    id: param.id,
                    shape: [shape[0], shape[1]],
                    owner: self.walk.owner().to_string(),
                    attached: false,
                });
            }
        }
    }
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.found
}

/// A weight that is to be quantized.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub path: String,
    pub scheme: Scheme,
}

/// The selected weights of a whole module with their schemes, in the module's order.
///
/// # Errors
///
/// When no weight is selected, one is quantized already or does not fit its scheme, or an override matches
/// no selected weight.
pub(crate) fn select<M: Module>(
    module: &M,
    weights: &Weights,
    schemes: &Schemes,
) -> Result<Vec<Selected>, QuantizeError> {
    let selected = selected_under(module, weights, schemes, None)?;
    if selected.is_empty() {
        let paths: Vec<String> = (matrices(module).into_iter())
            .map(|matrix| matrix.path)
            .collect();
        return Err(QuantizeError::NothingSelected {
            weights: weights.to_string(),
            matrices: some_paths(&paths),
        });
    }
    check_overrides(&selected, schemes)?;
    Ok(selected)
}

/// The selected weights at or below a path, or of the whole module if there is no path. There may be none, and
/// overrides need not match.
///
/// # Errors
///
/// When one is quantized already or does not fit its scheme.
pub(crate) fn selected_under<M: Module>(
    module: &M,
    weights: &Weights,
    schemes: &Schemes,
    under: Option<&str>,
) -> Result<Vec<Selected>, QuantizeError> {
    let mut found = matrices(module);
    if let Some(under) = under {
        found.retain(|matrix| is_under(&matrix.path, under));
    }
    with_schemes(found, weights, schemes)
}

/// Whether a matrix at or below a path is selected.
pub(crate) fn has_selected<M: Module>(module: &M, weights: &Weights, under: &str) -> bool {
    let found = matrices(module);
    let mut inside = found.iter().filter(|matrix| is_under(&matrix.path, under));
    inside.any(|matrix| weights.select(matrix))
}

/// The selected ones of these matrices.
fn with_schemes(
    found: Vec<Matrix>,
    weights: &Weights,
    schemes: &Schemes,
) -> Result<Vec<Selected>, QuantizeError> {
    let selected = found.into_iter().filter(|matrix| weights.select(matrix));
    selected
        .map(|matrix| {
            let path = matrix.path;
            if matrix.attached {
                return Err(QuantizeError::AlreadyQuantized { path });
            }
            let scheme = schemes.of(&path);
            match scheme.groups(matrix.shape[0]) {
                Ok(_) => Ok(Selected { path, scheme }),
                Err(error) => Err(QuantizeError::Scheme { path, error }),
            }
        })
        .collect()
}

/// Fails for an override that matches none of the selected weights.
pub(crate) fn check_overrides(
    selected: &[Selected],
    schemes: &Schemes,
) -> Result<(), QuantizeError> {
    match schemes.unused(selected.iter().map(|weight| weight.path.as_str())) {
        Some(pattern) => Err(QuantizeError::UnusedOverride {
            pattern: pattern.to_string(),
        }),
        None => Ok(()),
    }
}

/// Whether a path is at or below a module's path.
pub(crate) fn is_under(path: &str, module: &str) -> bool {
    module.is_empty()
        || path
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The first paths of a list and the number of others: `a, b, c and 15 more`.
pub(crate) fn some_paths(paths: &[String]) -> String {
    const SHOWN: usize = 3;
    if paths.is_empty() {
        return "none".to_string();
    }
    let shown = paths[..paths.len().min(SHOWN)].join(", ");
    match paths.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_under_a_module_by_whole_parts() {
        assert!(is_under("layers.1.up.weight", "layers.1"));
        assert!(is_under("layers.1.up.weight", ""));
        assert!(is_under("head", "head"));
        assert!(!is_under("layers.11.up.weight", "layers.1"));
        assert!(!is_under("layers.1", "layers.1.up"));
    }

    #[test]
    fn long_lists_are_cut() {
        let paths = |n: usize| (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>();
        assert_eq!(some_paths(&[]), "none");
        assert_eq!(some_paths(&paths(3)), "p0, p1, p2");
        assert_eq!(some_paths(&paths(18)), "p0, p1, p2 and 15 more");
    }
}
