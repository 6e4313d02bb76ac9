use super::dynamic::{Rule, scheme_by_rules};
use super::layout::module_of;
use super::stored::{Format, Stored};
use crate::Scheme;
use std::collections::BTreeMap;

/// A checkpoint's information about its packed weights.
#[derive(Clone, Debug)]
pub(super) struct Quantization {
    pub format: Format,
    /// The scheme of the weights without an override.
    pub scheme: Scheme,
    pub overrides: Overrides,
}

/// Schemes of single weights.
#[derive(Clone, Debug)]
pub(super) enum Overrides {
    /// By the path of the weight.
    Paths(BTreeMap<String, Scheme>),
    /// By the path of the module that the weight belongs to.
    Rules(Vec<Rule>),
}

impl Quantization {
    /// One scheme for all weights.
    pub fn uniform(Stored { scheme, format }: Stored) -> Self {
        Quantization {
            format,
            scheme,
            overrides: Overrides::Paths(BTreeMap::new()),
        }
    }

    /// How the weight at a path is stored.
    pub fn of(&self, path: &str) -> Result<Stored, String> {
        let scheme = match &self.overrides {
            Overrides::Paths(schemes) => schemes.get(path).copied().unwrap_or(self.scheme),
            Overrides::Rules(rules) => scheme_by_rules(rules, module_of(path), self.scheme)?,
        };
        let format = self.format;
        Ok(Stored { scheme, format })
    }
}
