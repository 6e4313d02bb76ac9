//! A Llama whose packed layers that read the same input run as one.

use burn::tensor::{Device, Int, Tensor};
use burn_eqat::{MergedLinears, QuantLinearConfig, Quantize, Scheme, Weights};
use burn_eqat_tests::{assert_near, seeded, values};
use llama::LlamaConfig;
use llama::model::Llama;
use serde_json::json;

#[test]
fn a_llama_writes_the_same_with_merged_projections() {
    let (_random, device) = (seeded(12), Device::flex());
    // Widths that end within a word of zero points, and biases of queries, keys and values.
    for (model_type, scheme) in [("llama", "w2g16"), ("qwen2", "w3g32")] {
        let config: LlamaConfig = serde_json::from_value(json!({
            "model_type": model_type, "vocab_size": 40, "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 1,
        }))
        .unwrap();
        let scheme: Scheme = scheme.parse().unwrap();
        let packed = config.init(&device);
        let packed = packed
            .quantize_rtn(&Llama::quantized_weights(), scheme)
            .unwrap();
        let merged = packed.clone().with_merged_projections();
        // The layers are gone.
        let block = |model: &Llama| model.model.layers[0].clone().unwrap();
        let sum = block(&merged).mlp.up_proj.weight.val().abs().sum();
        assert_eq!(sum.into_scalar::<f32>(), 0.0);
        assert_eq!(
            block(&merged).mlp.up_proj.shape(),
            block(&packed).mlp.up_proj.shape()
        );

        let tokens = Tensor::<2, Int>::from_data([[7, 39, 0, 21, 7], [1, 2, 3, 4, 5]], &device);
        let logits = merged.forward(tokens.clone()).unwrap();
        let expected = packed.forward(tokens.clone()).unwrap();
        assert_near("logits", &values(logits), &values(expected.clone()), 1e-5);

        // By the cache, position by position.
        let mut cache = merged.new_cache();
        for at in 0..5 {
            let token = tokens.clone().slice_dim(1, at..at + 1);
            let next = merged.forward_cached(token, &mut cache).unwrap();
            let expected = expected.clone().slice_dim(1, at..at + 1);
            assert_near("the next logits", &values(next), &values(expected), 1e-5);
        }
    }
}

#[test]
fn a_dense_llama_stays_as_it_is() {
    let (_random, device) = (seeded(13), Device::flex());
    let config: LlamaConfig = serde_json::from_value(json!({
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }))
    .unwrap();
    let dense = config.init(&device);
    let tokens = Tensor::<2, Int>::from_data([[7, 39]], &device);
    let expected = dense.forward(tokens.clone()).unwrap();
    let same = dense.with_merged_projections().forward(tokens).unwrap();
    assert_eq!(same.into_data(), expected.into_data());
}

#[test]
fn only_layers_that_are_packed_alike_are_merged() {
    let device = Device::flex();
    let layer = |d_input: usize, bias: bool, scheme: &str| {
        let layer = QuantLinearConfig::new(d_input, 8)
            .with_bias(bias)
            .init(&device);
        let scheme: Scheme = scheme.parse().unwrap();
        layer.quantize_rtn(&Weights::linears(), scheme).unwrap()
    };
    let first = layer(32, true, "w2g16");
    assert!(MergedLinears::new([&first, &layer(32, true, "w2g16")]).is_some());
    assert!(MergedLinears::new([&first, &layer(32, true, "w3g16")]).is_none());
    assert!(MergedLinears::new([&first, &layer(32, true, "w2g32")]).is_none());
    assert!(MergedLinears::new([&first, &layer(32, false, "w2g16")]).is_none());
    assert!(MergedLinears::new([&first, &layer(64, true, "w2g16")]).is_none());
    let dense = QuantLinearConfig::new(32, 8).init(&device);
    assert!(MergedLinears::new([&first, &dense]).is_none());
}
