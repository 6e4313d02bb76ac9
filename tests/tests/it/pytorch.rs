//! A model with our layer takes what Burn's own stores read from PyTorch, as one with Burn's layer does.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::store::{
    BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, PytorchStore, SafetensorsStore,
};
use burn::tensor::{Device, Tensor};
use burn_eqat::{QuantLinear, QuantLinearConfig};
use burn_eqat_tests::pickle::{Named, write_state_dict};
use burn_eqat_tests::values;
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

#[derive(Module, Debug)]
struct Ours {
    square: QuantLinear,
    oblong: QuantLinear,
    norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Burns {
    square: Linear,
    oblong: Linear,
    norm: LayerNorm,
}

fn ours() -> Ours {
    let device = Device::flex();
    Ours {
        square: QuantLinearConfig::new(6, 6).init(&device),
        oblong: QuantLinearConfig::new(6, 10).init(&device),
        norm: LayerNormConfig::new(10).init(&device),
    }
}

fn burns() -> Burns {
    let device = Device::flex();
    Burns {
        square: LinearConfig::new(6, 6).init(&device),
        oblong: LinearConfig::new(6, 10).init(&device),
        norm: LayerNormConfig::new(10).init(&device),
    }
}

/// Weights as PyTorch has them, `[d_output, d_input]`, each number another one.
fn state_dict() -> Vec<Named> {
    let shapes = [
        ("square.weight", vec![6, 6]),
        ("square.bias", vec![6]),
        ("oblong.weight", vec![10, 6]),
        ("oblong.bias", vec![10]),
        ("norm.weight", vec![10]),
        ("norm.bias", vec![10]),
    ];
    let tensor = |(at, (name, shape)): (usize, (&str, Vec<usize>))| {
        let len = shape.iter().product();
        let values = (0..len).map(|i| (100 * at + i) as f32 / 64.0).collect();
        (name.to_string(), shape, values)
    };
    shapes.into_iter().enumerate().map(tensor).collect()
}

fn write_safetensors(path: &Path, tensors: &[Named]) {
    let bytes = tensors.iter().map(|(name, shape, values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (name, shape, bytes)
    });
    let bytes: Vec<_> = bytes.collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// What the state dictionary gives for an input.
fn check(model: &Ours, what: &str) {
    let tensors = state_dict();
    for (layer, at) in [(&model.square, 0), (&model.oblong, 2)] {
        let (_, shape, weight) = &tensors[at];
        let bias = &tensors[at + 1].2;
        let input: Vec<f32> = (0..6).map(|i| i as f32 - 2.0).collect();
        let product = |row: &[f32]| row.iter().zip(&input).map(|(w, x)| w * x).sum::<f32>();
        let rows = weight.chunks(shape[1]).zip(bias);
        let expected: Vec<f32> = rows.map(|(row, bias)| product(row) + bias).collect();
        let device = Device::flex();
        let output = layer.forward(Tensor::<1>::from_floats(&input[..], &device).unsqueeze::<2>());
        burn_eqat_tests::assert_close(what, &values(output), &expected, 1e-6);
    }
    assert_eq!(values(model.norm.gamma.val()), tensors[4].2, "{what}");
}

#[test]
fn a_pytorch_file_loads_through_burns_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pt");
    write_state_dict(&path, &state_dict());
    let mut model = ours();
    model
        .load_from(&mut PytorchStore::from_file(&path))
        .unwrap();
    check(&model, "PytorchStore");
}

#[test]
fn a_safetensors_file_loads_through_burns_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write_safetensors(&path, &state_dict());
    let store = || SafetensorsStore::from_file(&path).with_from_adapter(PyTorchToBurnAdapter);
    let mut model = ours();
    model.load_from(&mut store()).unwrap();
    check(&model, "PyTorchToBurnAdapter");

    // Burn's own layer, and the same file again.
    let mut other = burns();
    other.load_from(&mut store()).unwrap();
    let again = dir.path().join("again.safetensors");
    let mut store = SafetensorsStore::from_file(&again).with_to_adapter(BurnToPyTorchAdapter);
    model.save_into(&mut store).unwrap();
    let tensor = |path: &Path, name: &str| {
        let file = burn_eqat_tests::Values::read(path);
        file.numbers(name).to_vec()
    };
    for name in ["square.weight", "oblong.weight"] {
        assert_eq!(tensor(&again, name), tensor(&path, name), "{name}");
    }
    assert_eq!(
        values(other.square.weight.val()),
        values(model.square.weight.val())
    );
}

/// Records of the two layers are the same, and each says what it is when it is shown.
#[test]
fn our_layer_is_a_linear_layer_to_visitors() {
    let names = |model: &dyn Fn(&mut Names)| {
        let mut names = Names::default();
        model(&mut names);
        names.0
    };
    let (ours, burns) = (ours(), burns());
    let (a, b) = (names(&|n| ours.visit(n)), names(&|n| burns.visit(n)));
    let own = |names: Vec<String>| -> Vec<String> {
        let renamed = names.into_iter().filter(|name| !name.ends_with("Ours"));
        renamed.filter(|name| !name.ends_with("Burns")).collect()
    };
    assert_eq!(own(a), own(b));
    let shown = ours.to_string();
    assert!(
        shown.contains("QuantLinear") && !shown.contains(": Linear"),
        "{shown}"
    );

    #[derive(Default)]
    struct Names(Vec<String>);
    impl burn::module::ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.push(format!("{name} in {container}"));
        }
    }
}
