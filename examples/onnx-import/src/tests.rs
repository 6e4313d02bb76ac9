//! The data and the models are those of PyTorch, and both go all the way.

use super::*;
use burn::tensor::{Int, Tensor};
use serde::Deserialize;
use std::collections::HashMap;

/// What PyTorch had, of each model.
#[derive(Deserialize)]
struct Expected {
    accuracy: f64,
    /// Of the first unseen examples: the classes, the sums of the inputs, and the logits.
    classes: Vec<i64>,
    inputs: Vec<f64>,
    logits: Vec<Vec<f64>>,
}

fn expected(name: &str) -> Expected {
    let text = include_str!("../assets/expected.json");
    let mut models: HashMap<String, Expected> = serde_json::from_str(text).unwrap();
    models.remove(name).unwrap()
}

/// The imported model on its first unseen examples, and its accuracy on all.
fn check<M: Generated>(sums: fn(Inputs<M>) -> Tensor<1>) {
    let (expected, device) = (expected(M::NAME), Device::flex());
    let model = Imported {
        model: M::load(&device),
    };
    let first = Drawn::<M::Task>::new(UNSEEN, expected.classes.len()).loader(100, &device);
    let Batch { inputs, classes } = first.iter().next().unwrap().unwrap();
    let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
    let classes: Vec<i64> = classes.into_data().iter::<i64>().collect();
    assert_eq!(classes, expected.classes);
    near(&numbers(sums(inputs.clone())), &expected.inputs, 1e-3);
    let logits: Tensor<2> = model.model.logits(inputs);
    let width = expected.logits[0].len();
    let flat = numbers(logits.reshape([classes.len() * width]));
    near(&flat, &expected.logits.concat(), 2e-3);

    let unseen = Drawn::<M::Task>::new(UNSEEN, 2000).loader(200, &device);
    let accuracy = model.accuracy(&unseen).unwrap();
    // A close call may go either way.
    assert!((accuracy - expected.accuracy).abs() < 2e-3, "{accuracy}");
}

fn near(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!(
            (actual - expected).abs() < tolerance,
            "{actual} is not {expected}"
        );
    }
}

#[test]
fn the_classifier_is_that_of_pytorch() {
    check::<classifier::Model>(|images| images.flatten::<2>(1, 3).sum_dim(1).squeeze_dim(1));
}

#[test]
fn the_encoder_is_that_of_pytorch() {
    check::<encoder::Model>(|tokens: Tensor<2, Int>| tokens.float().sum_dim(1).squeeze_dim(1));
}

/// Block by block, a model computes what its generated code does.
fn check_blocks<M: Generated>()
where
    Imported<M>: Blockwise<Batch = Batch<Inputs<M>>, Hidden = Tensor<2>, Context = ()>,
{
    let device = Device::flex();
    let model = Imported {
        model: M::load(&device),
    };
    let data = Drawn::<M::Task>::new(VALID, 8).loader(8, &device);
    let batch = data.iter().next().unwrap().unwrap();
    let expected = model.model.logits(batch.inputs.clone()).into_data();
    let (mut hidden, ()) = model.embed(batch).unwrap();
    for index in 0..model.blocks().len() {
        hidden = model.run_block(index, hidden, &()).unwrap();
    }
    hidden.into_data().assert_eq(&expected, true);
}

#[test]
fn blocks_make_up_the_model() {
    check_blocks::<classifier::Model>();
    check_blocks::<encoder::Model>();
}

/// The whole program, smaller.
#[test]
fn both_models_go_all_the_way() {
    let settings = Settings {
        calibration: 1024,
        unseen: 400,
        schemes: &["w4g32", "w2g32"],
    };
    let folder = tempfile::tempdir().unwrap();
    let classifier = run::<classifier::Model>(&settings, folder.path()).unwrap();
    let encoder = run::<encoder::Model>(&settings, folder.path()).unwrap();
    for rows in [classifier, encoder] {
        let [four, two] = &rows[..] else {
            panic!("{} rows", rows.len());
        };
        for row in [four, two] {
            let [full, rtn, block_ap, tuned] = row.accuracy[..] else {
                panic!("{row}: a stage is missing");
            };
            assert!(full > 0.9, "{row}: not what was imported");
            assert!(
                block_ap > full - 0.03 && tuned > full - 0.03,
                "{row}: too much is lost"
            );
            assert!(
                full - tuned <= (0.6 * (full - rtn)).max(0.01),
                "{row}: too little was trained back"
            );
        }
        assert!(two.bytes < four.bytes, "2 bits are no smaller than 4");
    }
}
