//! Models whose blocks are in files: what is asked of blocks that are not in memory is checked before training.

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use burn_eqat::lm::TokenBatch;
use burn_eqat::train::{BlockApConfig, Blockwise, ModelError, TrainError, TrainEvent};
use burn_eqat::{
    EfficientQatConfig, Method, Packed, QuantizeError, Scheme, SchemeOverride, Stage, Weights,
};
use burn_eqat_tests::batches;
use llama::LoadedLlama;
use llama::model::Llama;
use std::path::Path;
use std::sync::Arc;

/// The bundled Llama, all of its six blocks in its file.
fn by_block() -> Llama {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/llama/assets/tiny-stories");
    let loaded = LoadedLlama::open_by_block(&dir, &Device::flex()).unwrap();
    assert!(loaded.model.model.layers.iter().all(Option::is_none));
    loaded.model
}

fn data(count: usize) -> Arc<dyn DataLoader<TokenBatch>> {
    let tokens = Tensor::<2, Int>::from_data([[0, 40, 42, 41, 7, 300, 9, 12]], &Device::flex());
    batches(vec![TokenBatch::from(tokens); count])
}

fn config(weights: Weights, overrides: &[&str]) -> BlockApConfig {
    let overrides = overrides.iter().map(|one| one.parse().unwrap());
    BlockApConfig::new(scheme(), weights)
        .with_overrides(overrides.collect())
        .with_epochs(1)
}

fn scheme() -> Scheme {
    "w2g64".parse().unwrap()
}

/// Runs Block-AP; the outcome, and how many batches it trained on.
fn run<M: Blockwise<Batch = TokenBatch>>(
    model: M,
    config: BlockApConfig,
) -> (Result<M, TrainError>, usize) {
    let mut trained = 0;
    let result = config.init().run(model, data(1), data(0), &mut |event| {
        trained += usize::from(matches!(event, TrainEvent::Batch { .. }));
        Ok(())
    });
    (result, trained)
}

/// Fails before the first batch; gives the error.
fn refused<M: Blockwise<Batch = TokenBatch>>(model: M, config: BlockApConfig) -> TrainError {
    let (result, trained) = run(model, config);
    assert_eq!(trained, 0);
    result.unwrap_err()
}

#[test]
fn what_does_not_fit_is_found_before_training() {
    let refused = |weights, overrides: &[&str]| refused(by_block(), config(weights, overrides));
    let error = refused(Llama::quantized_weights(), &["donw_proj=w4g64"]);
    assert!(
        matches!(&error, TrainError::Quantize(QuantizeError::UnusedOverride { pattern }) if pattern == "donw_proj"),
        "{error}"
    );
    // There is no seventh block.
    let error = refused(Llama::quantized_weights(), &[r"layers\.6\.=w4g64"]);
    assert!(error.to_string().contains("matches none"), "{error}");
    let error = refused(Llama::quantized_weights(), &[r"layers\.5\..*q_proj=w4g48"]);
    assert!(
        matches!(&error, TrainError::Quantize(QuantizeError::Scheme { path, .. })
            if path == "model.layers.5.self_attn.q_proj.weight"),
        "{error}"
    );
    let error = refused(Weights::matching("c_attn").unwrap(), &[]);
    assert!(
        error.to_string().starts_with("no weight to quantize"),
        "{error}"
    );
    assert!(
        error.to_string().contains("model.layers.0.self_attn"),
        "{error}"
    );
}

/// Every method finds it before the model is measured.
#[test]
fn the_recipe_finds_it_before_its_first_stage() {
    for method in Method::ALL {
        let overrides: Vec<SchemeOverride> = vec!["donw_proj=w4g64".parse().unwrap()];
        let recipe = EfficientQatConfig::new(scheme(), Llama::quantized_weights())
            .with_overrides(overrides)
            .with_method(method)
            .init();
        let mut stages = 0;
        let mut observer = |_: &Stage<'_, Llama>| stages += 1;
        let error = recipe.run(by_block(), (data(1), data(0)), &mut observer);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("\"donw_proj\" matches none"), "{error}");
        assert_eq!(stages, 0, "{method}");
    }
}

#[test]
fn an_override_may_be_of_the_last_block_only() {
    let last = r"layers\.5\.mlp\.down_proj=w4g64";
    let (packed, trained) = run(by_block(), config(Llama::quantized_weights(), &[last]));
    assert_eq!(trained, 6);
    let schemes = packed.unwrap().model.layers.into_iter().map(|block| {
        let block = block.unwrap();
        let packed = block.mlp.down_proj.weight.reparameterization::<Packed>();
        packed.unwrap().scheme().to_string()
    });
    let schemes: Vec<String> = schemes.collect();
    assert_eq!(
        schemes,
        ["w2g64", "w2g64", "w2g64", "w2g64", "w2g64", "w4g64"]
    );
}

/// A block that cannot be had is an error, not a panic.
#[test]
fn blocks_that_are_not_there_are_errors() {
    let tokens = Tensor::<2, Int>::from_data([[0, 40, 42]], &Device::flex());
    let mut by_block = by_block();
    let x = by_block.embed(tokens.clone());
    let missing = "block 6: expected one of the model's 6";
    assert_eq!(by_block.load_block(6).unwrap_err().to_string(), missing);
    let run = |model: &Llama| model.run_block(6, x.clone(), &()).unwrap_err().to_string();
    assert_eq!(run(&by_block), missing);
    for index in 0..6 {
        by_block.load_block(index).unwrap();
    }
    // All of them are in memory, and none is in a file.
    by_block.files = None;
    assert_eq!(run(&by_block), missing);
    let mut cache = by_block.new_cache();
    cache.pop();
    let error = by_block.forward_cached(tokens, &mut cache).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the cache is one of 5 blocks, expected 6"
    );
}

/// A Llama that does not say all of itself.
#[derive(Module, Debug)]
struct Reticent {
    llama: Llama,
    /// How many of its blocks it names.
    #[module(skip)]
    named: usize,
    #[module(skip)]
    outlined: bool,
}

impl Blockwise for Reticent {
    type Batch = TokenBatch;
    type Hidden = Tensor<3>;
    type Context = ();

    fn blocks(&self) -> Vec<String> {
        let blocks = (0..self.named).map(|index| format!("llama.model.layers.{index}"));
        blocks.collect()
    }
    fn embed(&self, batch: TokenBatch) -> Result<(Tensor<3>, ()), ModelError> {
        Blockwise::embed(&self.llama, batch)
    }
    fn run_block(&self, index: usize, x: Tensor<3>, _: &()) -> Result<Tensor<3>, ModelError> {
        self.llama.run_block(index, x, &())
    }
    fn is_loaded(&self, index: usize) -> bool {
        self.llama.is_loaded(index)
    }
    fn load_block(&mut self, index: usize) -> Result<(), ModelError> {
        self.llama.load_block(index)
    }
    fn outline(&self) -> Option<Self> {
        let llama = self.llama.outline().filter(|_| self.outlined)?;
        Some(Self {
            llama,
            ..self.clone()
        })
    }
}

#[test]
fn a_weight_in_a_file_that_is_in_no_block_is_found_before_training() {
    let model = Reticent {
        llama: by_block(),
        named: 5,
        outlined: true,
    };
    let error = refused(model, config(Llama::quantized_weights(), &[]));
    let TrainError::OutsideBlocks { paths } = &error else {
        panic!("{error}");
    };
    assert_eq!(paths.len(), 7, "{error}");
    assert!(
        paths
            .iter()
            .all(|path| path.starts_with("llama.model.layers.5.")),
        "{error}"
    );
}

/// Without an outline it takes until the end, and is found then.
#[test]
fn without_an_outline_it_is_found_in_the_end() {
    let model = Reticent {
        llama: by_block(),
        named: 6,
        outlined: false,
    };
    let (result, trained) = run(
        model,
        config(Llama::quantized_weights(), &["donw_proj=w4g64"]),
    );
    let error = result.unwrap_err().to_string();
    assert!(error.contains("\"donw_proj\" matches none"), "{error}");
    assert_eq!(trained, 6);
}
