//! Which weights are quantized, and with which scheme.

use burn::module::{Module, Param, ParamGroup};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, Tolerance};
use burn_eqat::{
    FakeQuant, Packed, QuantLinear, QuantLinearConfig, Quantize, QuantizeError, Scheme,
    SchemeOverride, Schemes, Weights,
};
use burn_eqat_tests::seeded;

/// A feed-forward whose layers are of both kinds; the odd widths have no common group but 1, 2, 3, 6.
#[derive(Module, Debug)]
struct Feed {
    norm: LayerNorm,
    up: Linear,
    down: QuantLinear,
}

/// Every kind of matrix: an embedding, linear layers, and one that a layer of its own kind keeps.
#[derive(Module, Debug)]
struct Model {
    embed: Embedding,
    layers: Vec<Feed>,
    mix: Param<Tensor<2>>,
    head: Option<Linear>,
}

const WIDTH: usize = 24;
const INNER: usize = 42;

impl Model {
    fn new() -> Self {
        let device = Device::flex();
        let layer = |_| Feed {
            norm: LayerNormConfig::new(WIDTH).init(&device),
            up: LinearConfig::new(WIDTH, INNER).init(&device),
            down: QuantLinearConfig::new(INNER, WIDTH).init(&device),
        };
        Self {
            embed: EmbeddingConfig::new(12, WIDTH).init(&device),
            layers: (0..2).map(layer).collect(),
            mix: Param::from_tensor(Tensor::random(
                [WIDTH, WIDTH],
                Distribution::Default,
                &device,
            )),
            head: Some(LinearConfig::new(WIDTH, 7).init(&device)),
        }
    }

    fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let x = self.embed.forward(tokens);
        let x = self.layers.iter().fold(x, |x, layer| {
            let inner = layer.up.forward(layer.norm.forward(x.clone()));
            x + layer.down.forward(inner)
        });
        let x = x.matmul(self.mix.val().unsqueeze());
        self.head.as_ref().unwrap().forward(x)
    }

    /// The matrices, with their paths.
    fn matrices(&self) -> Vec<(String, &Param<Tensor<2>>)> {
        let layers = self.layers.iter().enumerate().flat_map(|(i, layer)| {
            [
                (format!("layers.{i}.up.weight"), &layer.up.weight),
                (format!("layers.{i}.down.weight"), &layer.down.weight),
            ]
        });
        let head = self.head.as_ref().map(|head| &head.weight);
        [("embed.weight".to_string(), &self.embed.weight)]
            .into_iter()
            .chain(layers)
            .chain([("mix".to_string(), &self.mix)])
            .chain(head.map(|weight| ("head.weight".to_string(), weight)))
            .collect()
    }

    /// The paths of the packed weights and their schemes.
    fn packed(&self) -> Vec<(String, String)> {
        let packed = self.matrices().into_iter().filter_map(|(path, weight)| {
            let packed = weight.reparameterization::<Packed>()?;
            Some((path, packed.scheme().to_string()))
        });
        packed.collect()
    }

    /// The paths of the weights that are packed for these weights, the first scheme for all.
    fn selected(&self, weights: &Weights) -> Vec<String> {
        let packed = self.clone().quantize_rtn(weights, scheme("w4g6")).unwrap();
        packed.packed().into_iter().map(|(path, _)| path).collect()
    }

    fn error(&self, weights: &Weights, schemes: impl Into<Schemes>) -> String {
        let result = self.clone().attach_fake_quant(weights, schemes);
        result.unwrap_err().to_string()
    }
}

fn scheme(text: &str) -> Scheme {
    text.parse().unwrap()
}

fn tokens() -> Tensor<2, Int> {
    Tensor::from_data([[0, 3, 11, 7, 2], [5, 5, 1, 9, 10]], &Device::flex())
}

const LINEARS: [&str; 5] = [
    "layers.0.up.weight",
    "layers.0.down.weight",
    "layers.1.up.weight",
    "layers.1.down.weight",
    "head.weight",
];

#[test]
fn linears_are_found_by_their_type() {
    let model = Model::new();
    assert_eq!(model.selected(&Weights::linears()), LINEARS);
    // They are found again where they are packed already, and refused.
    let packed = model
        .quantize_rtn(&Weights::linears(), scheme("w4g6"))
        .unwrap();
    assert_eq!(
        packed.error(&Weights::linears(), scheme("w2g6")),
        "layers.0.up.weight: already quantized"
    );
    // A layer by itself is a module too.
    let device = Device::flex();
    let layer: QuantLinear = QuantLinearConfig::new(6, 5).init(&device);
    let layer = layer
        .quantize_rtn(&Weights::linears(), scheme("w3g2"))
        .unwrap();
    assert!(layer.weight.reparameterization::<Packed>().is_some());
}

#[test]
fn every_matrix_and_all_but_some() {
    let model = Model::new();
    let all: Vec<String> = model.matrices().into_iter().map(|(path, _)| path).collect();
    assert_eq!(all.len(), 7);
    assert_eq!(model.selected(&Weights::matrices()), all);
    let some = Weights::matrices()
        .except("^embed")
        .unwrap()
        .except(r"\.down\.")
        .unwrap();
    assert_eq!(
        model.selected(&some),
        [
            "layers.0.up.weight",
            "layers.1.up.weight",
            "mix",
            "head.weight"
        ]
    );
    let some = Weights::linears().except("^head").unwrap();
    assert_eq!(model.selected(&some), LINEARS[..4]);
}

#[test]
fn by_pattern_and_by_group() {
    let model = Model::new();
    // Biases and norms match as well, and are no matrices.
    let second = Weights::matching(r"^layers\.1\.").unwrap();
    assert_eq!(model.selected(&second), LINEARS[2..4]);
    let inside = Weights::under(["layers.1", "head"]);
    assert_eq!(model.selected(&inside), LINEARS[2..]);
    let group: Weights = ParamGroup::from_ids(vec![model.mix.id]).into();
    assert_eq!(model.selected(&group), ["mix"]);

    // What is written and read selects the same.
    let some = Weights::matching("weight").unwrap().except("up").unwrap();
    let json = serde_json::to_string(&some).unwrap();
    let read: Weights = serde_json::from_str(&json).unwrap();
    assert_eq!(model.selected(&read), model.selected(&some));
    assert!(serde_json::from_str::<Weights>(&json.replace("up", "up(")).is_err());
}

/// Mixed schemes: what fake quantization computes is what the packed and the unpacked model compute.
#[test]
fn overrides_give_each_weight_its_scheme() {
    let _random = seeded(21);
    let model = Model::new();
    let schemes = Schemes::new(scheme("w2g6"))
        .with_override("down", scheme("w4g14"))
        .unwrap()
        .with_override(r"^layers\.0\.", scheme("w3g-1"))
        .unwrap()
        .with_overrides(["head=w8g8-sym".parse::<SchemeOverride>().unwrap()]);
    let expected = ["w3g-1", "w3g-1", "w2g6", "w4g14", "w8g8-sym"];
    let weights = Weights::linears();
    let fake = model.clone().attach_fake_quant(&weights, &schemes).unwrap();
    let schemes_of = |model: &Model| -> Vec<String> {
        let attached = model.matrices().into_iter().filter_map(|(_, weight)| {
            let fake = weight.reparameterization::<FakeQuant>()?;
            Some(fake.scheme().to_string())
        });
        attached.collect()
    };
    assert_eq!(schemes_of(&fake), expected);

    let output = |model: &Model| model.forward(tokens()).into_data();
    let values = output(&fake);
    let packed = fake.clone().pack().unwrap();
    let found: Vec<_> = packed.packed().into_iter().map(|(_, s)| s).collect();
    assert_eq!(found, expected);
    let tolerance = Tolerance::<f32>::rel_abs(1e-5, 1e-5);
    output(&packed).assert_approx_eq::<f32>(&values, tolerance);
    let dense = packed.clone().unpack();
    assert!(dense.packed().is_empty());
    output(&dense).assert_approx_eq::<f32>(&values, tolerance);
    for ((path, fake), (_, dense)) in fake.matrices().iter().zip(dense.matrices()) {
        let (fake, dense) = (fake.val().into_data(), dense.val().into_data());
        assert_eq!(fake.shape(), dense.shape(), "{path}");
        dense.assert_approx_eq::<f32>(&fake, Tolerance::absolute(1e-6));
    }
    // Rounding the step sizes keeps schemes, as packing again does.
    let again = packed.round_scales().pack().unwrap();
    let found: Vec<_> = again.packed().into_iter().map(|(_, s)| s).collect();
    assert_eq!(found, expected);

    // A record is loaded into a model that gets the same schemes.
    let values = output(&again);
    let record = again.into_record();
    let loaded = Model::new().attach_packed(&weights, schemes).unwrap();
    output(&loaded.load_record(record)).assert_eq(&values, true);
}

#[test]
fn what_does_not_fit_is_named() {
    let model = Model::new();
    let linears = Weights::linears();
    assert_eq!(
        model.error(&linears, scheme("w4g8")),
        "layers.0.down.weight: groups of 8 do not divide the 42 input rows"
    );
    // A scheme that fits all but is overridden by one that does not.
    let schemes = Schemes::new(scheme("w4g6"))
        .with_override("head", scheme("w4g5"))
        .unwrap();
    assert_eq!(
        model.error(&linears, schemes),
        "head.weight: groups of 5 do not divide the 24 input rows"
    );
    // One that does not fit, but is overridden where it does not.
    let schemes = Schemes::new(scheme("w4g8"))
        .with_override(r"\.down\.", scheme("w4g7"))
        .unwrap();
    assert!(model.clone().quantize_rtn(&linears, schemes).is_ok());
}

/// A typo does not pass: neither in an override nor in what is selected.
#[test]
fn what_matches_nothing_is_refused() {
    let model = Model::new();
    let schemes = Schemes::new(scheme("w4g6"))
        .with_override("up", scheme("w2g6"))
        .unwrap()
        .with_override("dwon", scheme("w3g6"))
        .unwrap();
    let expected = r#"the scheme override "dwon" matches none of the selected weights"#;
    assert_eq!(model.error(&Weights::linears(), &schemes), expected);
    let error = model.clone().attach_packed(&Weights::linears(), &schemes);
    assert_eq!(error.unwrap_err().to_string(), expected);
    // It matches a matrix, but none that is selected.
    let schemes = Schemes::new(scheme("w4g6"))
        .with_override("embed", scheme("w8g6"))
        .unwrap();
    assert!(
        model
            .error(&Weights::linears(), &schemes)
            .contains("\"embed\"")
    );
    assert!(
        model
            .clone()
            .quantize_rtn(&Weights::matrices(), schemes)
            .is_ok()
    );

    assert_eq!(
        model.error(
            &Weights::matching("q_proj").unwrap().except("bias").unwrap(),
            scheme("w4g6")
        ),
        "no weight to quantize: the selection is matrices whose path matches \"q_proj\" except those that \
         match \"bias\"; the model's matrices are embed.weight, layers.0.up.weight, \
         layers.0.down.weight and 4 more"
    );
    let norm: LayerNorm = LayerNormConfig::new(4).init(&Device::flex());
    let error = norm.attach_fake_quant(&Weights::linears(), scheme("w4g4"));
    assert_eq!(
        error.unwrap_err().to_string(),
        "no weight to quantize: the selection is weights of linear layers; the model's matrices are none"
    );
}

#[test]
fn a_broken_pattern_is_an_error_of_this_crate() {
    fn choose(pattern: &str) -> Result<Weights, Box<dyn std::error::Error>> {
        Ok(Weights::linears().except(pattern)?)
    }
    assert!(choose(r"^head").is_ok());
    let error = choose("head(").unwrap_err().to_string();
    assert!(error.contains("\"head(\"") && error.contains("unclosed group"));
    assert!(matches!(
        Weights::matching("["),
        Err(QuantizeError::Pattern { .. })
    ));
}
