use crate::Scheme;
use crate::module::packed_weights;
use burn::module::Module;
use core::fmt;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};

/// The schemes of a module's packed weights.
///
/// They are written with how many weights have another than the most common one: `w2g64 + 7 at w4g64`. That is also what they
/// are in reports.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_eqat::files::PackedSchemes;
/// use burn_eqat::{Quantize, Schemes, Weights};
///
/// let layers: Vec<Linear> = (0..3).map(|_| LinearConfig::new(64, 32).init(&Device::flex())).collect();
/// assert!(PackedSchemes::of(&layers).is_none());
/// let schemes = Schemes::new("w2g64".parse()?).with_path("1.weight", "w4g64".parse()?);
/// let packed = layers.quantize_rtn(&Weights::linears(), schemes)?;
/// let schemes = PackedSchemes::of(&packed).expect("it is packed");
/// assert_eq!(schemes.to_string(), "w2g64 + 1 at w4g64");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PackedSchemes {
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
    pub(super) fn by_path<M: Module>(module: &M) -> BTreeMap<String, Scheme> {
        let weights = packed_weights(module).into_iter();
        weights
            .map(|(path, weight)| (path, weight.scheme))
            .collect()
    }

    /// Of weights by their paths; `None` where there is none.
    pub(crate) fn of_weights(mut overrides: BTreeMap<String, Scheme>) -> Option<Self> {
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

impl fmt::Display for PackedSchemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for scheme in self.overrides.values() {
            *counts.entry(scheme.to_string()).or_default() += 1;
        }
        write!(f, "{}", self.scheme)?;
        for (scheme, count) in counts {
            write!(f, " + {count} at {scheme}")?;
        }
        Ok(())
    }
}

impl Serialize for PackedSchemes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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

    #[test]
    fn other_schemes_are_counted() {
        let schemes = |others: &[(&str, &str)]| {
            let others = others.iter();
            let schemes = PackedSchemes {
                scheme: "w2g64".parse().unwrap(),
                overrides: others
                    .map(|(path, scheme)| (path.to_string(), scheme.parse().unwrap()))
                    .collect(),
            };
            schemes.to_string()
        };
        assert_eq!(schemes(&[]), "w2g64");
        let others = [("a", "w4g64"), ("b", "w3g-1"), ("c", "w4g64")];
        assert_eq!(schemes(&others), "w2g64 + 1 at w3g-1 + 2 at w4g64");
    }
}
