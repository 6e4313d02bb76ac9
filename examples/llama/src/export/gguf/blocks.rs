//! Weights in the block types of ggml.
//!
//! A block is a run of one row with its scale in f16. If a group has several blocks, each repeats the
//! group's scale.

use super::GgufError;
use super::file::Kind;
use crate::error::Error;
use burn::tensor::{Int, Tensor};
use burn_eqat::{Packed, QuantLinear, Scheme};
use half::f16;

/// The readers that the file is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// Current readers: symmetric 2-bit weights are `Q2_0`, 2.25 bits each.
    #[default]
    Newest,
    /// Also readers without `Q2_0`: 2-bit weights take 4.5 or 5 bits each.
    Older,
}

/// Rows `[d_output, d_input]` of a layer's weight, in an order.
pub(super) struct Rows {
    order: Vec<usize>,
    d_input: usize,
    weight: Weight,
}

#[expect(clippy::large_enum_variant, reason = "a few, of one model")]
enum Weight {
    Dense(Tensor<2>, Kind),
    Packed(PackedRows),
}

struct PackedRows {
    kind: Kind,
    scheme: Scheme,
    scale: Tensor<2>,
    codes: Packed,
}

impl Rows {
    /// The rows of a layer, in a type that loses nothing except by rounding to f16.
    pub fn of(
        layer: &QuantLinear,
        order: Vec<usize>,
        tensor: &str,
        compatibility: Compatibility,
    ) -> Result<Self, Error> {
        let [d_input, _] = layer.shape();
        let weight = match layer.weight.reparameterization::<Packed>() {
            None => {
                let weight = layer.weight.val();
                let kind = float_kind(&weight);
                Weight::Dense(weight, kind)
            }
            Some(packed) => {
                let scale = layer.weight.base();
                let kind =
                    kind(packed, &scale, compatibility).ok_or_else(|| GgufError::Scheme {
                        tensor: tensor.to_string(),
                        scheme: packed.scheme().to_string(),
                    })?;
                Weight::Packed(PackedRows {
                    kind,
                    scheme: packed.scheme(),
                    scale,
                    codes: packed.clone(),
                })
            }
        };
        Ok(Rows {
            order,
            d_input,
            weight,
        })
    }

    pub fn kind(&self) -> Kind {
        match &self.weight {
            Weight::Dense(_, kind) => *kind,
            Weight::Packed(packed) => packed.kind,
        }
    }

    /// The innermost first.
    pub fn dims(&self) -> Vec<usize> {
        vec![self.d_input, self.order.len()]
    }

    /// A note on a weight that takes more space than before.
    pub fn note(&self) -> Option<String> {
        let Weight::Packed(packed) = &self.weight else {
            return None;
        };
        let bits = packed.scheme.bits.get();
        let (numbers, bytes) = packed.kind.block();
        let stored = (8 * bytes) as f64 / numbers as f64;
        (stored >= bits as f64 + 1.25).then(|| {
            let (scheme, kind) = (packed.scheme, packed.kind);
            format!("{scheme} is stored as {kind:?}, {stored} bits a weight: the smallest type that loses nothing")
        })
    }

    /// The data of the tensor.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.weight {
            Weight::Dense(weight, kind) => {
                let rows = weight.clone().transpose().into_data();
                let rows: Vec<f32> = rows.iter::<f32>().collect();
                let ordered = self.order.iter().flat_map(|row| {
                    rows[row * self.d_input..(row + 1) * self.d_input]
                        .iter()
                        .copied()
                });
                float_bytes(ordered, *kind)
            }
            Weight::Packed(packed) => packed.bytes(&self.order, self.d_input),
        }
    }
}

impl PackedRows {
    fn bytes(&self, order: &[usize], d_input: usize) -> Vec<u8> {
        let codes = integers(self.codes.unpacked_codes());
        let zeros = integers(self.codes.unpacked_zero_points());
        let scales: Vec<f32> = self.scale.clone().into_data().iter::<f32>().collect();
        let n = order.len();
        let group = d_input / (scales.len() / n);
        let (len, bytes) = self.kind.block();
        let mut out = Vec::with_capacity(n * d_input / len * bytes);
        let mut block = vec![0i32; len];
        for column in order {
            for first in (0..d_input).step_by(len) {
                for (i, code) in block.iter_mut().enumerate() {
                    *code = codes[(first + i) * n + column];
                }
                let at = first / group * n + column;
                self.push(&block, scales[at], zeros[at], &mut out);
            }
        }
        out
    }

    /// A block of codes.
    fn push(&self, codes: &[i32], scale: f32, zero: i32, out: &mut Vec<u8>) {
        let mut half = |value: f32| out.extend(f16::from_f32(value).to_le_bytes());
        match self.kind {
            // (q - 1) d; with a zero point of 2 the signs of both are turned.
            Kind::Q2_0 => {
                half(if zero == 1 { scale } else { -scale });
                let code = |code: &i32| if zero == 1 { *code } else { 3 - code };
                out.extend(codes.chunks_exact(4).map(|codes| {
                    let fields = codes.iter().map(code).enumerate();
                    fields.fold(0, |byte, (i, code)| byte | (code as u8) << (2 * i))
                }));
            }
            // q d + m
            Kind::Q4_1 => {
                half(scale);
                half(-scale * zero as f32);
                nibbles(codes, 0, out);
            }
            // (q - 8) d
            Kind::Q4_0 => {
                half(scale);
                nibbles(codes, 8 - zero, out);
            }
            // q d
            _ => {
                half(scale);
                out.extend(codes.iter().map(|code| (code - zero) as i8 as u8));
            }
        }
    }
}

/// Half of a block in the low bits of its bytes, the other half in the high ones.
fn nibbles(codes: &[i32], shift: i32, out: &mut Vec<u8>) {
    let (low, high) = codes.split_at(codes.len() / 2);
    let both = low.iter().zip(high);
    out.extend(both.map(|(low, high)| ((low + shift) | (high + shift) << 4) as u8));
}

/// The smallest type that can hold a packed weight, if there is one.
fn kind(packed: &Packed, scale: &Tensor<2>, compatibility: Compatibility) -> Option<Kind> {
    let [d_input, _] = packed.shape();
    let [groups, _] = scale.dims();
    let (group, bits) = (d_input / groups, packed.scheme().bits.get());
    let largest = scale.clone().abs().max().into_scalar::<f32>();
    if !group.is_multiple_of(32) || largest > f16::MAX.to_f32() {
        return None;
    }
    let zeros = integers(packed.unpacked_zero_points());
    let scales = scale.clone().into_data();
    let offsets = scales.iter::<f32>().zip(&zeros);
    let mut offsets = offsets.map(|(scale, zero)| (scale * *zero as f32).abs());
    let all = |expected: &[i32]| zeros.iter().all(|zero| expected.contains(zero));
    match bits {
        2 if compatibility == Compatibility::Newest && group.is_multiple_of(64) && all(&[1, 2]) => {
            Some(Kind::Q2_0)
        }
        // Codes less zero points fit in the four bits around 8.
        2 | 3 => Some(Kind::Q4_0),
        4 if all(&[8]) => Some(Kind::Q4_0),
        4 if offsets.all(|offset| offset <= f16::MAX.to_f32()) => Some(Kind::Q4_1),
        8 if all(&[128]) => Some(Kind::Q8_0),
        _ => None,
    }
}

/// f16 if it can hold the range of a matrix, else f32.
pub(super) fn float_kind(matrix: &Tensor<2>) -> Kind {
    let largest = matrix.clone().abs().max().into_scalar::<f32>();
    if largest <= f16::MAX.to_f32() {
        Kind::F16
    } else {
        Kind::F32
    }
}

pub(super) fn float_bytes(values: impl Iterator<Item = f32>, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::F16 => values
            .flat_map(|v| f16::from_f32(v).to_le_bytes())
            .collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    }
}

fn integers(tensor: Tensor<2, Int>) -> Vec<i32> {
    tensor.into_data().iter::<i32>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn_eqat::{QuantLinearConfig, Quantize, Weights};

    /// The values of a row's blocks, by the definition of each type.
    fn decode(kind: Kind, bytes: &[u8]) -> Vec<f32> {
        let (_, len) = kind.block();
        let half = |at: &[u8]| f16::from_le_bytes([at[0], at[1]]).to_f32();
        let mut values = Vec::new();
        for block in bytes.chunks_exact(len) {
            let d = half(block);
            let nibbles = |codes: &[u8]| -> Vec<f32> {
                let low = codes.iter().map(|byte| f32::from(byte & 15));
                low.chain(codes.iter().map(|byte| f32::from(byte >> 4)))
                    .collect()
            };
            values.extend(match kind {
                Kind::Q2_0 => (0..64)
                    .map(|i| (f32::from(block[2 + i / 4] >> (i % 4 * 2) & 3) - 1.0) * d)
                    .collect(),
                Kind::Q4_0 => nibbles(&block[2..]).iter().map(|q| (q - 8.0) * d).collect(),
                Kind::Q4_1 => {
                    let m = half(&block[2..]);
                    nibbles(&block[4..]).iter().map(|q| q * d + m).collect()
                }
                Kind::Q8_0 => block[2..].iter().map(|q| f32::from(*q as i8) * d).collect(),
                Kind::F16 => vec![d],
                Kind::F32 => panic!("not asked for"),
            });
        }
        values
    }

    #[test]
    fn blocks_hold_the_weights() {
        let device = Device::flex();
        device.seed(3);
        let dense = QuantLinearConfig::new(128, 6)
            .with_bias(false)
            .init(&device);
        for (scheme, compatibility, expected) in [
            ("w2g64-sym", Compatibility::Newest, Kind::Q2_0),
            ("w2g64-sym", Compatibility::Older, Kind::Q4_0),
            ("w2g32", Compatibility::Newest, Kind::Q4_0),
            ("w3g64", Compatibility::Newest, Kind::Q4_0),
            ("w4g64", Compatibility::Newest, Kind::Q4_1),
            ("w4g-1-sym", Compatibility::Newest, Kind::Q4_0),
            ("w8g32-sym", Compatibility::Newest, Kind::Q8_0),
        ] {
            let layer = dense.clone();
            let layer = layer.quantize_rtn(&Weights::matrices(), scheme.parse::<Scheme>().unwrap());
            let layer = layer.unwrap();
            let order = vec![5, 0, 1, 2, 3, 4];
            let rows = Rows::of(&layer, order.clone(), "t", compatibility).unwrap();
            assert_eq!(rows.kind(), expected, "{scheme}");
            let values = decode(rows.kind(), &rows.bytes());
            let weight: Vec<f32> = layer.weight.val().into_data().iter::<f32>().collect();
            for (at, row) in order.iter().enumerate() {
                for i in 0..128 {
                    let (value, w) = (values[at * 128 + i], weight[i * 6 + row]);
                    // An offset is rounded; all else is as it was.
                    let error = if expected == Kind::Q4_1 { 2e-4 } else { 0.0 };
                    assert!((value - w).abs() <= error, "{scheme}: {value} is not {w}");
                }
            }
        }
        for scheme in ["w8g32", "w4g16"] {
            let layer = dense.clone();
            let layer = layer.quantize_rtn(&Weights::matrices(), scheme.parse::<Scheme>().unwrap());
            let rows = Rows::of(
                &layer.unwrap(),
                vec![0],
                "blk.0.attn_q",
                Compatibility::Newest,
            );
            let error = rows.err().unwrap().to_string();
            assert!(
                error.contains("blk.0.attn_q") && error.contains(scheme),
                "{error}"
            );
        }
    }
}
