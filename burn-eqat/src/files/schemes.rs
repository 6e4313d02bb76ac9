use crate::Scheme;
use crate::module::packed_weights;
use burn::module::Module;
use std::collections::{BTreeMap, HashMap};

/// The schemes of a module's packed weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackedSchemes {
    /// The most common one.
    pub scheme: Scheme,
    /// Other schemes, by the paths of the weights.
    pub overrides: BTreeMap<String, Scheme>,
}

impl PackedSchemes {
    /// The schemes attached to the weights; `None` if nothing is packed.
    pub fn of<M: Module>(module: &M) -> Option<Self> {
        Self::of_weights(Self::by_path(module))
    }

    /// The scheme of each weight.
    pub fn by_path<M: Module>(module: &M) -> BTreeMap<String, Scheme> {
        let weights = packed_weights(module).into_iter();
        weights
            .map(|(path, weight)| (path, weight.scheme))
            .collect()
    }

    fn of_weights(mut overrides: BTreeMap<String, Scheme>) -> Option<Self> {
        let mut counts: HashMap<Scheme, usize> = HashMap::new();
        for scheme in overrides.values() {
            *counts.entry(*scheme).or_default() += 1;
        }
        // If two are equally common, the one of the first path.
        let most = counts.values().copied().max()?;
        let mut schemes = overrides.values();
        let scheme = *schemes.find(|scheme| counts[*scheme] == most)?;
        overrides.retain(|_, other| *other != scheme);
        Some(PackedSchemes { scheme, overrides })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_common_scheme_needs_no_path() {
        let of = |weights: &[(&str, &str)]| {
            let parsed = weights
                .iter()
                .map(|(path, scheme)| (path.to_string(), scheme.parse().unwrap()));
            PackedSchemes::of_weights(parsed.collect())
        };
        let found = of(&[("a", "w4g64"), ("b", "w2g64"), ("c", "w2g64")]).unwrap();
        assert_eq!(found.scheme.to_string(), "w2g64");
        assert_eq!(found.overrides.keys().collect::<Vec<_>>(), ["a"]);
        let found = of(&[("a", "w4g64"), ("b", "w2g64")]).unwrap();
        assert_eq!(found.scheme.to_string(), "w4g64");
        assert_eq!(of(&[]), None);
    }
}
