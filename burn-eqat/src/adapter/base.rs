use super::difference::{BaseDifference, Difference};
use super::error::AdapterError;
use crate::Scheme;
use crate::module::{Attached, attached};
use burn::module::Module;
use burn::tensor::{DType, Int, Tensor};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What tells one packed model from another: of each packed weight its path, scheme, shape, and checksums of its codes and zero
/// points. Step sizes are not in it, and neither is what is not packed.
///
/// To make one, all codes are read once from where the model is.
///
/// ```
/// use burn::tensor::Device;
/// use burn_eqat::adapter::PackedBase;
/// use burn_eqat::{QuantLinearConfig, Quantize, Scheme, Weights};
///
/// let scheme: Scheme = "w4g32".parse()?;
/// let new = || QuantLinearConfig::new(64, 16).init(&Device::flex());
/// let packed = || new().quantize_rtn(&Weights::linears(), scheme);
/// let (base, other) = (PackedBase::of(&packed()?)?, PackedBase::of(&packed()?)?);
/// assert!(base.difference(&base).is_none());
/// // Other codes.
/// assert_eq!(base.difference(&other).unwrap().path, "weight");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackedBase {
    /// By the paths of the weights.
    weights: BTreeMap<String, BaseWeight>,
}

/// A packed weight, as [`PackedBase`] knows it. It is written `w2g64 192x576 1a2b3c4d 5e6f7a8b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct BaseWeight {
    pub scheme: Scheme,
    /// `[d_input, d_output]`.
    pub shape: [usize; 2],
    /// Checksums of the words.
    pub codes: u32,
    pub zero_points: u32,
}

impl PackedBase {
    /// That of a model.
    ///
    /// # Errors
    ///
    /// When nothing in the model is packed, or a weight is fake-quantized.
    pub fn of<M: Module>(model: &M) -> Result<Self, AdapterError> {
        let mut weights = BTreeMap::new();
        for (path, attached) in attached(model) {
            let Attached::Packed { weight, scheme } = attached else {
                return Err(AdapterError::FakeQuantized { path });
            };
            let found = BaseWeight {
                scheme,
                shape: [weight.d_input, weight.d_output()],
                codes: checksum(weight.codes),
                zero_points: checksum(weight.zero_points),
            };
            weights.insert(path, found);
        }
        if weights.is_empty() {
            return Err(AdapterError::NotPacked);
        }
        Ok(Self { weights })
    }

    /// In what a model's base differs from this one; `None` where it does not.
    pub fn difference(&self, model: &PackedBase) -> Option<BaseDifference> {
        let (own, other) = (&self.weights, &model.weights);
        let missing = own.iter().map(|(path, own)| match other.get(path) {
            None => (path, Some(Difference::Missing)),
            Some(other) => (path, own.difference(other)),
        });
        let more = other.keys().filter(|path| !own.contains_key(*path));
        let more = more.map(|path| (path, Some(Difference::Unexpected)));
        let found = missing.chain(more);
        let mut found = found.filter_map(|(path, difference)| Some((path, difference?)));
        let (path, difference) = found.next()?;
        Some(BaseDifference {
            path: path.clone(),
            difference,
            others: found.count(),
        })
    }

    /// The weights, by their paths.
    pub(super) fn weights(&self) -> &BTreeMap<String, BaseWeight> {
        &self.weights
    }
}

impl BaseWeight {
    /// The shape of the step sizes, `[groups, d_output]`; `None` for a scheme that does not fit.
    pub fn scales(&self) -> Option<[usize; 2]> {
        let [d_input, d_output] = self.shape;
        Some([self.scheme.groups(d_input).ok()?, d_output])
    }

    /// The first thing in which a weight of a model is another.
    fn difference(&self, model: &Self) -> Option<Difference> {
        let ([adapter, model], [a, b]) = ([self, model], [self.shape, model.shape]);
        if a != b {
            Some(Difference::Shape {
                adapter: a,
                model: b,
            })
        } else if adapter.scheme != model.scheme {
            Some(Difference::Scheme {
                adapter: adapter.scheme,
                model: model.scheme,
            })
        } else if adapter.codes != model.codes {
            Some(Difference::Codes {
                adapter: adapter.codes,
                model: model.codes,
            })
        } else if adapter.zero_points != model.zero_points {
            Some(Difference::ZeroPoints {
                adapter: adapter.zero_points,
                model: model.zero_points,
            })
        } else {
            None
        }
    }
}

/// A checksum of words, whatever integers hold them. It is against a mix-up of models, not against an enemy.
fn checksum(words: Tensor<2, Int>) -> u32 {
    let mut data = words.into_data();
    if !matches!(data.dtype(), DType::I32 | DType::U32) {
        data = data.convert_dtype(DType::I32);
    }
    crc32fast::hash(data.as_bytes())
}

impl fmt::Display for BaseWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme,
            shape: [d_input, d_output],
            codes,
            zero_points,
        } = self;
        write!(
            f,
            "{scheme} {d_input}x{d_output} {codes:08x} {zero_points:08x}"
        )
    }
}

impl FromStr for BaseWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let [scheme, shape, codes, zero_points] =
                <[&str; 4]>::try_from(text.split(' ').collect::<Vec<_>>()).ok()?;
            let (d_input, d_output) = shape.split_once('x')?;
            Some(Self {
                scheme: scheme.parse().ok()?,
                shape: [d_input.parse().ok()?, d_output.parse().ok()?],
                codes: u32::from_str_radix(codes, 16).ok()?,
                zero_points: u32::from_str_radix(zero_points, 16).ok()?,
            })
        };
        parse().ok_or_else(|| {
            format!("{text:?} is no packed weight: expected one like \"w2g64 192x576 1a2b3c4d 5e6f7a8b\"")
        })
    }
}

impl From<BaseWeight> for String {
    fn from(weight: BaseWeight) -> Self {
        weight.to_string()
    }
}

impl TryFrom<String> for BaseWeight {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(weights: &[(&str, &str)]) -> PackedBase {
        let weights = weights
            .iter()
            .map(|(path, weight)| (path.to_string(), weight.parse().unwrap()));
        PackedBase {
            weights: weights.collect(),
        }
    }

    #[test]
    fn weights_read_as_they_are_written() {
        for text in [
            "w2g64 192x576 1a2b3c4d 5e6f7a8b",
            "w4g-1-sym 7x3 00000000 ffffffff",
        ] {
            assert_eq!(text.parse::<BaseWeight>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "w2g64",
            "w2g64 192 1a 2b",
            "w2g64 1x2 x 2b",
            "w9g64 1x2 1 2",
        ] {
            let error = text.parse::<BaseWeight>().unwrap_err();
            assert!(error.contains("is no packed weight"), "{error}");
        }
    }

    #[test]
    fn the_first_difference_is_told_and_others_are_counted() {
        let own = base(&[("a", "w2g64 64x8 1 2"), ("b", "w2g64 64x8 3 4")]);
        let told = |other: &[(&str, &str)]| own.difference(&base(other)).unwrap().to_string();
        assert_eq!(own.difference(&own.clone()), None);
        let found = told(&[("a", "w2g64 64x8 1 2"), ("b", "w2g64 64x8 5 4")]);
        assert_eq!(
            found,
            "b has codes with checksum 00000005, expected 00000003"
        );
        let found = told(&[("a", "w2g64 64x8 1 6"), ("b", "w2g32 64x8 3 4")]);
        assert_eq!(
            found,
            "a has zero points with checksum 00000006, expected 00000002; 1 more of its weights differ"
        );
        let found = told(&[("a", "w4g64 64x8 1 2"), ("b", "w2g64 64x16 3 4")]);
        assert!(
            found.starts_with("a is packed in w4g64, expected w2g64"),
            "{found}"
        );
        let found = told(&[("b", "w2g64 64x16 3 4"), ("c", "w2g64 64x8 1 2")]);
        assert_eq!(
            found,
            "a is not packed in the model; 2 more of its weights differ"
        );
        let found = told(&[
            ("a", "w2g64 64x8 1 2"),
            ("b", "w2g64 64x8 3 4"),
            ("c", "w2g64 64x8 1 2"),
        ]);
        assert_eq!(
            found,
            "c is packed in the model, and the adapter has no step sizes for it"
        );
    }
}
