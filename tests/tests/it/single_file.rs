//! Any module in one file: round trips to the bit, and what is refused.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear,
    LinearConfig,
};
use burn::tensor::{Bool, DType, Device, Distribution, Int, Tensor};
use burn_eqat::{Packed, QuantLinear, QuantLinearConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::seeded;
use std::fs;
use std::path::Path;

/// A bit of everything.
#[derive(Module, Debug)]
struct Zoo {
    conv: Conv2d,
    batch: BatchNorm,
    layers: Vec<Layer>,
    norm: LayerNorm,
    table: Embedding,
    counts: Param<Tensor<1, Int>>,
    mask: Param<Tensor<2, Bool>>,
    half: Param<Tensor<1>>,
    scalar: Param<Tensor<1>>,
}

/// Layers of two types, so that paths have the names of variants.
#[derive(Module, Debug)]
enum Layer {
    Dense(Linear),
    Quant(QuantLinear),
}

fn zoo(seed: u64) -> Zoo {
    let device = Device::flex();
    let _random = seeded(seed);
    let random = |len: usize| Tensor::<1>::random([len], Distribution::Default, &device);
    let mut batch = BatchNormConfig::new(3).init(&device);
    batch.running_mean = burn::module::RunningState::new(random(3));
    Zoo {
        conv: Conv2dConfig::new([2, 3], [3, 5]).init(&device),
        batch,
        layers: vec![
            Layer::Dense(LinearConfig::new(32, 32).init(&device)),
            Layer::Quant(QuantLinearConfig::new(32, 7).init(&device)),
        ],
        norm: LayerNormConfig::new(7).init(&device),
        table: EmbeddingConfig::new(5, 9).init(&device),
        counts: Param::initialized(
            burn::module::ParamId::new(),
            random(4).mul_scalar(1e6).int(),
        ),
        mask: Param::initialized(
            burn::module::ParamId::new(),
            random(6).greater_elem(0.5).reshape([2, 3]),
        ),
        half: Param::from_tensor(random(3).cast(DType::F16)),
        scalar: Param::from_tensor(random(1)),
    }
}

/// Every parameter, as data.
fn data(module: &Zoo) -> Vec<(String, burn::tensor::TensorData)> {
    use burn::store::{ModuleSnapshot, bridge};
    let tensors = module.collect(None, None, false).into_iter();
    tensors
        .map(|tensor| (tensor.name.clone(), bridge::into_data(tensor).unwrap()))
        .collect()
}

fn scheme(text: &str) -> Scheme {
    text.parse().unwrap()
}

/// Bytes of the tensors of a file.
fn bytes(path: &Path) -> usize {
    let file = fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    tensors.iter().map(|(_, tensor)| tensor.data().len()).sum()
}

/// What a module is said to take is what its file takes, whether or not its step sizes are 16-bit numbers.
#[test]
fn the_size_report_is_that_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let _random = seeded(70);
    let layer = || QuantLinearConfig::new(32, 7).init(&device);
    let model = vec![layer(), layer()];
    let exact = model
        .clone()
        .attach_fake_quant(&Weights::linears(), scheme("w3g8"))
        .and_then(Quantize::pack)
        .unwrap();
    let rounded = exact.clone().round_scales();
    // One layer of either kind.
    let mixed = vec![exact[0].clone(), rounded[1].clone()];
    let mut sizes = Vec::new();
    for (name, model) in [
        ("dense", model),
        ("exact", exact),
        ("rounded", rounded),
        ("mixed", mixed),
    ] {
        let path = dir.path().join(name);
        model.save(&path).unwrap();
        let report = model.size_report();
        assert_eq!(report.bytes(), bytes(&path), "{name}");
        sizes.push(report.bytes());
    }
    let [dense, exact, rounded, mixed] = sizes[..] else {
        panic!("{sizes:?}");
    };
    // 4 groups of 7 step sizes a layer.
    assert_eq!((exact - mixed, mixed - rounded), (2 * 28, 2 * 28));
    assert!(exact < dense);
}

fn error(module: Zoo, path: &Path) -> String {
    module.load(path).unwrap_err().to_string()
}

#[test]
fn a_dense_module_round_trips_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.bin");
    let module = zoo(1);
    module.save(&path).unwrap();
    let other = zoo(2);
    assert_ne!(data(&other), data(&module));
    assert_eq!(data(&other.load(&path).unwrap()), data(&module));
    // Nothing else is there, and a file is replaced by the next one.
    let third = zoo(3);
    third.save(&path).unwrap();
    assert_eq!(data(&zoo(1).load(&path).unwrap()), data(&third));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_packed_module_round_trips_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.safetensors");
    let group = |pattern: &str| Weights::matching(pattern).unwrap();
    // Step sizes that are no 16-bit numbers, in two schemes.
    let packed = zoo(1)
        .attach_fake_quant(&group(r"layers\.0\..*weight$"), scheme("w2g16"))
        .and_then(|zoo| {
            let scheme = scheme("w3g-1-sym");
            zoo.attach_fake_quant(&group(r"layers\.1\..*weight$"), scheme)
        })
        .and_then(Quantize::pack)
        .unwrap();
    packed.save(&path).unwrap();
    let loaded = zoo(2).load(&path).unwrap();
    let schemes = |zoo: &Zoo| -> Vec<String> {
        let layers = zoo.layers.iter();
        let weights = layers.map(|layer| match layer {
            Layer::Dense(layer) => layer.weight.reparameterization::<Packed>(),
            Layer::Quant(layer) => layer.weight.reparameterization::<Packed>(),
        });
        weights
            .map(|packed| packed.unwrap().scheme().to_string())
            .collect()
    };
    assert_eq!(schemes(&loaded), ["w2g16", "w3g-1-sym"]);
    assert_eq!(data(&loaded), data(&packed));
    // What a packed module has makes no difference, and packed ones become dense again.
    assert_eq!(data(&loaded.clone().load(&path).unwrap()), data(&packed));
    zoo(3).save(&path).unwrap();
    assert_eq!(data(&loaded.load(&path).unwrap()), data(&zoo(3)));
}

#[test]
fn files_of_other_modules_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.safetensors");
    let mut module = zoo(1);
    module.layers.pop();
    module.save(&path).unwrap();
    let missing = error(zoo(1), &path);
    assert!(
        missing.contains("layers.1.Quant.weight: missing"),
        "{missing}"
    );
    zoo(1).save(&path).unwrap();
    let unused = error(module.clone(), &path);
    assert!(
        unused.contains("layers.1.Quant.") && unused.contains("no such"),
        "{unused}"
    );
    module.norm = LayerNormConfig::new(8).init(&Device::flex());
    module.layers = zoo(1).layers;
    let shape = error(module, &path);
    assert!(
        shape.contains("norm.weight: has shape [7], expected [8]"),
        "{shape}"
    );

    assert!(error(zoo(1), &dir.path().join("no")).contains("no: "));
    let whole = fs::read(&path).unwrap();
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("a header cut off", whole[..100].to_vec()),
        ("data cut off", whole[..whole.len() - 1].to_vec()),
        ("an absurd length", [&[0xFF; 8], &whole[8..]].concat()),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = error(zoo(1), &path);
        assert!(error.contains("zoo.safetensors"), "{what}: {error}");
    }
    // The tensors of another program are not taken for ours.
    let text = String::from_utf8_lossy(&whole).contains("burn-eqat");
    assert!(text);
    let at = whole
        .windows(9)
        .position(|part| part == b"burn-eqat")
        .unwrap();
    let mut foreign = whole;
    foreign[at] = b'X';
    fs::write(&path, foreign).unwrap();
    let error = error(zoo(1), &path);
    assert!(error.contains("saved by this library"), "{error}");
}

#[test]
fn a_model_in_training_is_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.safetensors");
    let group = Weights::matching(r"Dense\.weight$").unwrap();
    let training = zoo(1).attach_fake_quant(&group, scheme("w2g16"));
    let error = training.unwrap().save(&path).unwrap_err().to_string();
    assert!(
        error.contains("layers.0.Dense.weight") && error.contains("pack it first"),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
