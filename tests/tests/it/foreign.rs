//! Packed checkpoints of others: read to the same values, and written for others to read.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor};
use burn_eqat::files::{Checkpoint, FileError, Format, StagedDir, export_dense, export_gptq};
use burn_eqat::{Packed, QuantLinear, QuantLinearConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::{data, fixtures, seeded, values};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A model of one layer.
#[derive(Module, Debug)]
struct Model {
    layer: QuantLinear,
}

impl Model {
    fn new([d_input, d_output]: [usize; 2], bias: bool) -> Self {
        let layer = QuantLinearConfig::new(d_input, d_output).with_bias(bias);
        Self {
            layer: layer.init(&Device::flex()),
        }
    }

    fn dense(&self) -> Vec<f32> {
        values(self.layer.weight.val())
    }
}

/// A tensor to write: name, type, shape, bytes.
type Raw = (String, Dtype, Vec<usize>, Vec<u8>);

fn write(dir: &Path, config: &Value, tensors: &[Raw]) {
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (
            name.clone(),
            TensorView::new(*dtype, shape.clone(), data).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}

/// Tensors of a file under other names.
fn renamed(file: &Path, names: &[(&str, &str)]) -> Vec<Raw> {
    let bytes = fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |(from, to): &(&str, &str)| {
        let view = file.tensor(from).unwrap();
        (
            to.to_string(),
            view.dtype(),
            view.shape().to_vec(),
            view.data().to_vec(),
        )
    };
    names.iter().map(raw).collect()
}

fn load(dir: &Path, model: Model) -> Result<(Model, Option<(Scheme, Format)>), FileError> {
    let checkpoint = Checkpoint::open(dir)?;
    let scheme = checkpoint.scheme(&model)?;
    Ok((checkpoint.load(model, |_| false)?, scheme))
}

/// The reference packs 3 bits ten a word, says no scheme, and has step sizes in f16.
#[test]
fn what_the_reference_packs_loads_to_its_values() {
    for bits in [2, 3, 4] {
        for (group, rows) in [("32", 32), ("64", 64), ("128", 128), ("c", 0)] {
            for kind in ["rand", "outlier", "const", "allpos"] {
                let name = format!("b{bits}_g{group}_{kind}");
                let file = fixtures().join(format!("quant_mini/{name}.safetensors"));
                let dir = tempfile::tempdir().unwrap();
                let names = [
                    ("packA_qweight", "layer.qweight"),
                    ("packA_qzeros", "layer.qzeros"),
                    ("packA_scales_f16", "layer.scales"),
                    ("packA_bias_f16", "layer.bias"),
                ];
                write(dir.path(), &json!({}), &renamed(&file, &names));
                let (model, scheme) = load(dir.path(), Model::new([256, 16], true)).unwrap();
                let (scheme, format) = scheme.unwrap();
                let group = if rows == 0 {
                    "-1".to_string()
                } else {
                    rows.to_string()
                };
                assert_eq!(scheme.to_string(), format!("w{bits}g{group}"), "{name}");
                assert_eq!(format, Format::EfficientQat);
                assert!(model.layer.weight.reparameterization::<Packed>().is_some());
                let expected = burn_eqat_tests::Values::read(&file);
                let expected = values(expected.tensor::<2>("packA_dequant", &Device::flex()));
                for (i, (value, expected)) in model.dense().iter().zip(expected).enumerate() {
                    // The reference multiplies in half precision.
                    let half = half::f16::from_f32(*value).to_f32();
                    assert_eq!(half, expected, "{name}, value {i}");
                }
            }
        }
    }
}

/// Slices of real checkpoints with what GPTQModel makes of them, in bf16.
#[test]
fn real_gptq_weights_load_to_the_values_that_gptqmodel_has() {
    let Some(data) = data() else { return };
    for name in ["falcon3_1b_int4", "llama_3_2_1b_int4"] {
        let file = data.join(format!("gptq/{name}.safetensors"));
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "layer.qweight",
            "layer.qzeros",
            "layer.scales",
            "layer.g_idx",
        ];
        let tensors = renamed(&file, &names.map(|name| (name, name)));
        let entry = json!({
            "quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false, "sym": true,
        });
        write(dir.path(), &json!({"quantization_config": entry}), &tensors);
        let (model, scheme) = load(dir.path(), Model::new([256, 256], false)).unwrap();
        assert_eq!(
            scheme,
            Some(("w4g128-sym".parse().unwrap(), Format::GptqV1))
        );
        let expected = burn_eqat_tests::Values::read(&file);
        let expected = values(expected.tensor::<2>("expected_dequant_KxN", &Device::flex()));
        let dense = model.dense();
        for (ours, theirs) in dense.iter().zip(&expected) {
            let error = (ours - theirs).abs();
            assert!(
                error <= theirs.abs() / 256.0,
                "{name}: {ours} is not {theirs}"
            );
        }

        // The scheme in the file that older checkpoints have it in.
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        let entry = json!({"bits": 4, "group_size": 128, "desc_act": false});
        fs::write(dir.path().join("quantize_config.json"), entry.to_string()).unwrap();
        let (again, _) = load(dir.path(), Model::new([256, 256], false)).unwrap();
        assert!(again.dense() == dense);
    }
}

fn random(scheme: &str, shape: [usize; 2]) -> Model {
    let _random = seeded(11);
    let model = Model::new(shape, true);
    let scheme: Scheme = scheme.parse().unwrap();
    model.quantize_rtn(&Weights::linears(), scheme).unwrap()
}

fn exported(dir: &Path, model: &Model) -> Result<(), FileError> {
    let staged = StagedDir::begin(dir, true)?;
    export_gptq(model, &json!({"model_type": "test"}), DType::BF16, &staged)?;
    staged.commit()
}

#[test]
fn gptq_and_back_is_the_same_to_the_bit() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("gptq");
    for scheme in ["w2g64", "w3g32", "w4g-1", "w4g64-sym", "w8g32"] {
        let model = random(scheme, [192, 96]);
        exported(&dir, &model).unwrap();
        let empty = Model::new([192, 96], true);
        let (loaded, found) = load(&dir, empty).unwrap();
        assert_eq!(found, Some((scheme.parse().unwrap(), Format::GptqV2)));
        let parts = |model: &Model| {
            let packed = model.layer.weight.reparameterization::<Packed>().unwrap();
            let words = [packed.codes.val(), packed.zero_points.val()];
            let [codes, zeros] = words.map(|words| words.into_data());
            (codes, zeros, model.layer.weight.base().into_data())
        };
        assert!(parts(&loaded) == parts(&model), "{scheme}");
    }
}

#[test]
fn sides_that_gptq_cannot_have_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("gptq");
    let error = exported(&dir, &random("w4g48", [48, 32]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("layer.weight") && error.contains("48 inputs"),
        "{error}"
    );
    let error = exported(&dir, &Model::new([64, 32], false))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no packed weights"), "{error}");
    assert!(!dir.exists());
}

#[test]
fn a_dense_export_has_the_packed_values() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("dense");
    let model = random("w3g32", [96, 40]);
    let staged = StagedDir::begin(&dir, false).unwrap();
    let config = json!({"torch_dtype": "bfloat16", "quantization_config": {}});
    export_dense(&model, &config, DType::F32, &staged).unwrap();
    staged.commit().unwrap();
    let (loaded, scheme) = load(&dir, Model::new([96, 40], true)).unwrap();
    assert!(scheme.is_none());
    assert!(loaded.dense() == model.dense());
    let config = Checkpoint::open(&dir).unwrap().config().clone();
    assert_eq!(config, json!({"torch_dtype": "float32"}));
}

/// Changes to a GPTQ checkpoint, and what is said of them.
#[test]
fn weights_in_another_order_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("gptq");
    exported(&dir, &random("w4g32", [64, 32])).unwrap();
    let file = dir.join("model.safetensors");
    let names = ["qweight", "qzeros", "scales", "bias", "g_idx"].map(|n| format!("layer.{n}"));
    let names: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), name.as_str()))
        .collect();
    let tensors = renamed(&file, &names);
    let config = Checkpoint::open(&dir).unwrap().config().clone();
    let refused = |change: &dyn Fn(&mut Value, &mut Vec<Raw>)| {
        let (mut config, mut tensors) = (config.clone(), tensors.clone());
        change(&mut config, &mut tensors);
        write(&dir, &config, &tensors);
        load(&dir, Model::new([64, 32], false))
            .unwrap_err()
            .to_string()
    };
    let error = refused(&|_, tensors| {
        tensors[3].3.fill(0);
        tensors[4].3[..4].copy_from_slice(&1i32.to_le_bytes());
    });
    assert!(
        error.contains("layer.g_idx") && error.contains("row 0"),
        "{error}"
    );
    let error = refused(&|_, _| {});
    assert!(
        error.contains("layer.bias") && error.contains("not zero"),
        "{error}"
    );
    let error = refused(&|config, _| config["quantization_config"]["desc_act"] = json!(true));
    assert!(error.contains("desc_act is true"), "{error}");
    let error = refused(&|config, tensors| {
        tensors[3].3.fill(0);
        config["quantization_config"]["bits"] = json!(2);
    });
    assert!(
        error.contains("layer.qweight") && error.contains("shape"),
        "{error}"
    );
}

/// Without a word of the scheme, shapes that no scheme has are refused.
#[test]
fn shapes_of_no_scheme_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let words = |name: &str, rows: usize| {
        let data = vec![0; rows * 32 * 4];
        (format!("layer.{name}"), Dtype::I32, vec![rows, 32], data)
    };
    let mut scales = words("scales", 2);
    scales.1 = Dtype::F32;
    let tensors = [words("qweight", 5), words("qzeros", 2), scales];
    write(dir.path(), &json!({}), &tensors);
    let error = load(dir.path(), Model::new([64, 32], false))
        .unwrap_err()
        .to_string();
    assert!(error.contains("5 rows of words"), "{error}");
}

/// A plain linear layer takes a packed weight from a file as well.
#[test]
fn a_plain_layer_loads_packed_weights_of_others() {
    #[derive(Module, Debug)]
    struct Plain {
        layer: Linear,
    }
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("gptq");
    let model = random("w4g32", [64, 32]);
    exported(&dir, &model).unwrap();
    let layer = LinearConfig::new(64, 32).init(&Device::flex());
    let loaded = Checkpoint::open(&dir)
        .unwrap()
        .load(Plain { layer }, |_| false)
        .unwrap();
    let dense: Tensor<2> = loaded.layer.weight.val();
    assert!(values(dense) == model.dense());
}

/// Two layers in two schemes, as GPTQModel says it.
#[test]
fn gptq_says_schemes_of_single_layers() {
    #[derive(Module, Debug)]
    struct Two {
        first: QuantLinear,
        second: QuantLinear,
    }
    let new = || {
        let _random = seeded(13);
        let layer = || {
            QuantLinearConfig::new(64, 32)
                .with_bias(false)
                .init(&Device::flex())
        };
        Two {
            first: layer(),
            second: layer(),
        }
    };
    let group = |path: &str| Weights::matching(path).unwrap();
    let model = new()
        .quantize_rtn(&group("first.weight"), "w2g32".parse::<Scheme>().unwrap())
        .and_then(|model| {
            model.quantize_rtn(
                &group("second.weight"),
                "w4g-1-sym".parse::<Scheme>().unwrap(),
            )
        })
        .unwrap();
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("gptq");
    let staged = StagedDir::begin(&dir, false).unwrap();
    export_gptq(&model, &json!({}), DType::F32, &staged).unwrap();
    staged.commit().unwrap();
    let config = Checkpoint::open(&dir).unwrap().config().clone();
    let dynamic = &config["quantization_config"]["dynamic"];
    let fields = json!({"bits": 4, "group_size": -1, "sym": true});
    assert_eq!(*dynamic, json!({ "+:^second$": fields }));
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let loaded = checkpoint.load(new(), |_| false).unwrap();
    assert!(values(loaded.first.weight.val()) == values(model.first.weight.val()));
    assert!(values(loaded.second.weight.val()) == values(model.second.weight.val()));
    let scheme = |layer: &QuantLinear| {
        let packed = layer.weight.reparameterization::<Packed>().unwrap();
        packed.scheme().to_string()
    };
    assert_eq!(scheme(&loaded.first), "w2g32");
    assert_eq!(scheme(&loaded.second), "w4g-1-sym");
}
