//! A Llama whose output layer, and embedding if they are one, is packed for inference.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use burn_eqat::Scheme;
use burn_eqat::lm::{NextTokenLoss, TokenBatch};
use burn_eqat_tests::{assert_near, seeded, values};
use llama::LlamaConfig;
use serde_json::json;

#[test]
fn a_packed_head_is_used_by_every_way_through_a_llama() {
    let (_random, device) = (seeded(11), Device::flex());
    let scheme: Scheme = "w8g16".parse().unwrap();
    for tied in [true, false] {
        let config: LlamaConfig = serde_json::from_value(json!({
            "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied,
        }))
        .unwrap();
        let dense = config.init(&device);
        let packed = dense.clone().with_packed_head(&scheme).unwrap();
        assert_eq!(packed.num_params(), dense.num_params());
        let tokens = Tensor::<2, Int>::from_data([[7, 39, 0, 21, 7]], &device);

        // Embeddings are rounded where the table is theirs.
        let (rounded, exact) = (packed.embed(tokens.clone()), dense.embed(tokens.clone()));
        assert_near(
            "embeddings",
            &values(rounded.clone()),
            &values(exact.clone()),
            1e-2,
        );
        assert_eq!(rounded.into_data() == exact.into_data(), !tied);

        let logits = packed.forward(tokens.clone()).unwrap();
        let exact = dense.forward(tokens.clone()).unwrap();
        assert_near("logits", &values(logits.clone()), &values(exact), 2e-2);

        // By the cache, position by position.
        let mut cache = packed.new_cache();
        let last = tokens.clone().slice_dim(1, 4..5);
        packed
            .forward_cached(tokens.clone().slice_dim(1, 0..4), &mut cache)
            .unwrap();
        let next = packed.forward_cached(last, &mut cache).unwrap();
        let expected = logits.clone().slice_dim(1, 4..5);
        assert_near("the next logits", &values(next), &values(expected), 1e-4);

        // The loss is that of these logits.
        let batch = TokenBatch::from(tokens.clone());
        let loss = packed.loss(batch).unwrap().into_scalar::<f32>();
        let expected = burn_eqat::lm::next_token_loss(logits, tokens).into_scalar::<f32>();
        assert!(
            (loss - expected).abs() < 1e-4 * expected,
            "{loss} {expected}"
        );
    }
}

#[test]
fn groups_that_do_not_fit_are_refused() {
    let config: LlamaConfig = serde_json::from_value(json!({
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }))
    .unwrap();
    let scheme: Scheme = "w8g64".parse().unwrap();
    let refused = config.init(&Device::flex()).with_packed_head(&scheme);
    let message = refused.err().unwrap().to_string();
    assert_eq!(message, "groups of 64 do not divide the 32 input rows");
}
