//! The quantizer and the packing against the reference's values (`fixtures/quant_mini`).

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_eqat::kernels::{AffineWeight, Bits, Fields, fake_quantize, pack_codes, unpack_codes};
use burn_eqat::{GroupSize, Scheme, min_max_start, quantize_codes};
use burn_eqat_tests::{Values, assert_close, fixtures, seeded, values};
use std::num::NonZeroUsize;

const OUT: usize = 16;
const IN: usize = 256;

/// One file: bits, group size (0: one group) and the name of its weight.
struct Case {
    bits: Bits,
    group: usize,
    weight: &'static str,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for bits in [Bits::Two, Bits::Three, Bits::Four] {
            for group in [32, 64, 128, 0] {
                for weight in ["rand", "outlier", "const", "allpos"] {
                    cases.push(Case {
                        bits,
                        group,
                        weight,
                    });
                }
            }
        }
        cases
    }

    fn name(&self) -> String {
        let group = match self.group {
            0 => "c".to_string(),
            group => group.to_string(),
        };
        format!("b{}_g{group}_{}", self.bits, self.weight)
    }

    fn read(&self) -> Values {
        Values::read(&fixtures().join(format!("quant_mini/{}.safetensors", self.name())))
    }

    fn group_size(&self) -> GroupSize {
        NonZeroUsize::new(self.group).map_or(GroupSize::Column, GroupSize::Rows)
    }

    fn groups(&self) -> usize {
        match self.group {
            0 => 1,
            group => IN / group,
        }
    }
}

fn device() -> Device {
    Device::flex()
}

fn ulps(a: f32, b: f32) -> u32 {
    let key = |x: f32| {
        let bits = x.to_bits() as i32;
        if bits < 0 { i32::MIN - bits } else { bits }
    };
    key(a).abs_diff(key(b))
}

#[test]
fn forward_and_gradients_agree() {
    let device = device();
    let inputs = Values::read(&fixtures().join("quant_mini/inputs.safetensors"));
    let g = inputs.tensor::<2>("G", &device).transpose();
    for case in Case::all() {
        let file = case.read();
        let w = inputs
            .tensor::<2>(&format!("W_{}", case.weight), &device)
            .transpose();
        for at in ["init", "pert"] {
            let what = |part: &str| format!("{} {at} {part}", case.name());
            let leaf = |t: Tensor<2>| Tensor::from_inner(t).require_grad();
            let w = leaf(w.clone());
            let s = leaf(file.per_group(&format!("{at}_scale"), OUT, &device));
            let z = leaf(file.per_group(&format!("{at}_zero_point"), OUT, &device));
            let out = fake_quantize(w.clone(), s.clone(), z.clone(), case.bits).unwrap();
            let loss = (out.clone() * Tensor::from_inner(g.clone())).sum();
            let grads = loss.backward();

            let expected = file.tensor::<2>(&format!("{at}_out"), &device).transpose();
            for (a, e) in values(out.inner()).iter().zip(values(expected)) {
                assert!(ulps(*a, e) <= 1, "{}: {a} is not {e}", what("out"));
            }
            let dw = file
                .tensor::<2>(&format!("{at}_grad_W"), &device)
                .transpose();
            let ds = file.per_group(&format!("{at}_grad_scale"), OUT, &device);
            let dz = file.per_group(&format!("{at}_grad_zero_point"), OUT, &device);
            let grad = |t: &Tensor<2>| values(t.grad(&grads).unwrap());
            assert_close(&what("dw"), &grad(&w), &values(dw), 1e-5);
            assert_close(&what("ds"), &grad(&s), &values(ds), 1e-5);
            assert_close(&what("dz"), &grad(&z), &values(dz), 1e-5);
        }
    }
}

#[test]
fn the_start_agrees() {
    let device = device();
    let inputs = Values::read(&fixtures().join("quant_mini/inputs.safetensors"));
    for case in Case::all() {
        let file = case.read();
        let w = inputs
            .tensor::<2>(&format!("W_{}", case.weight), &device)
            .transpose();
        let scheme = Scheme::new(case.bits, case.group_size());
        let (s, z) = min_max_start(w, &scheme).unwrap();
        let expected_s = values(file.per_group("init_scale", OUT, &device));
        for (a, e) in values(s).iter().zip(expected_s) {
            assert!(ulps(*a, e) <= 1, "{} scale: {a} is not {e}", case.name());
        }
        // The reference does not clamp zero points at the start; here they are.
        let max = f64::from(case.bits.max_code());
        let expected_z = file
            .per_group("init_zero_point", OUT, &device)
            .clamp(0.0, max);
        assert_eq!(values(z), values(expected_z), "{} zero point", case.name());
    }
}

#[test]
fn unpacking_gives_the_reference_values_to_the_bit() {
    let device = device();
    for case in Case::all() {
        let file = case.read();
        let groups = case.groups();
        for pack in ["packA", "packB"] {
            let unpack = |name: &str, shape, dim| {
                let words = file.words(&format!("{pack}_{name}"));
                unpack_codes(&words, shape, dim, case.bits, Fields::WholeWords).unwrap()
            };
            let codes = unpack("qweight", [IN, OUT], 0);
            let zeros = unpack("qzeros", [groups, OUT], 1);
            let words = pack_codes(&codes, [IN, OUT], 0, case.bits, Fields::Dense).unwrap();
            let words: Vec<i32> = words.into_iter().map(|w| w as i32).collect();
            let shape = [case.bits.words(IN), OUT];
            let words = Tensor::from_data(TensorData::new(words, shape), (&device, DType::I32));
            let zeros: Vec<f32> = zeros.iter().map(|z| *z as f32).collect();
            let zeros = TensorData::new(zeros, [groups, OUT]);
            // The reference multiplies in half precision.
            let zeros = Tensor::<2>::from_data(zeros, &device).cast(DType::F16);
            let scales = file.tensor::<2>(&format!("{pack}_scales_f16"), &device);
            let weight = AffineWeight {
                codes: words,
                scales: scales.cast(DType::F16),
                zero_points: zeros,
                bits: case.bits,
                d_input: IN,
            };
            let w = weight.dequantize().unwrap();
            assert_eq!(w.dtype(), DType::F16);
            let expected = file.tensor::<2>(&format!("{pack}_dequant"), &device);
            assert_eq!(values(w), values(expected), "{} {pack}", case.name());
        }
    }
}

#[test]
fn quantizing_and_packing_gives_the_reference_words() {
    let device = device();
    for case in Case::all() {
        let file = case.read();
        let groups = case.groups();
        let zeros = file.words("packB_qzeros");
        let shape = [groups, OUT];
        let zeros = unpack_codes(&zeros, shape, 1, case.bits, Fields::WholeWords).unwrap();
        let zero_values: Vec<f32> = zeros.iter().map(|z| *z as f32).collect();
        let z = Tensor::from_data(TensorData::new(zero_values, shape), &device);
        let w = file.tensor::<2>("packB_fq_half", &device).transpose();
        let s = file.tensor::<2>("packB_scales_f16", &device);
        let codes = quantize_codes(w, s, z, case.bits);
        let codes: Vec<i64> = codes.into_data().iter::<i64>().collect();
        let pack = |codes: &[i64], shape, dim| {
            pack_codes(codes, shape, dim, case.bits, Fields::WholeWords).unwrap()
        };
        let name = case.name();
        assert_eq!(
            pack(&codes, [IN, OUT], 0),
            file.words("packB_qweight"),
            "{name}"
        );
        assert_eq!(pack(&zeros, shape, 1), file.words("packB_qzeros"), "{name}");
    }
}

/// Groups that are all positive or all negative: the reference's zero points leave the code range and
/// spill into the neighbouring fields; here they stay in it.
#[test]
fn one_sided_groups_pack_right() {
    let _random = seeded(1);
    use burn::nn::LinearConfig;
    use burn_eqat::{Packed, Quantize, Weights};
    let device = device();
    for (low, high) in [(0.5, 1.0), (-1.0, -0.5)] {
        let mut linear = LinearConfig::new(64, 8).with_bias(false).init(&device);
        linear.weight = linear
            .weight
            .map(|w| w.random_like(burn::tensor::Distribution::Uniform(low, high)));
        let packed = linear
            .quantize_rtn(&Weights::matrices(), "w2g32".parse::<Scheme>().unwrap())
            .unwrap();
        let attached = packed.weight.reparameterization::<Packed>().unwrap();
        let zeros = attached.unpacked_zero_points();
        let expected = if low > 0.0 { 0 } else { 3 };
        assert!(zeros.into_data().iter::<i64>().all(|z| z == expected));
        let scale = packed.weight.base();
        let z = scale.full_like(expected);
        let reach = (scale.clone() * 3.0).abs().max().into_scalar::<f32>();
        let dense = packed.weight.val();
        assert!(dense.abs().max().into_scalar::<f32>() <= reach * 1.0001);
        assert_eq!(z.dims(), [2, 8]);
    }
}
