//! Runs that are stopped at any moment and go on.

use super::any_model::{Batch, Encoder, Mlp, Sample, loader, samples, shuffled};
use burn::module::Module;
use burn::tensor::Device;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use burn_eqat::train::{Blockwise, DataSplit, Phase, QatOutput, TrainError, TrainEvent};
use burn_eqat::{
    EfficientQatConfig, Observer, PhaseLoaders, Quantize, RunDir, RunDirError, Scheme, Weights,
};
use burn_eqat_tests::seeded;
use std::fs;
use std::path::Path;

/// Stops a recipe at an event.
struct StopAt {
    events: usize,
    at: usize,
    resumed: bool,
    /// Validation losses of E2E-QP's epochs, and those that resumed runs begin with.
    losses: Vec<f64>,
    best: Vec<f64>,
}

impl StopAt {
    fn new(at: usize) -> Self {
        StopAt {
            events: 0,
            at,
            resumed: false,
            losses: Vec::new(),
            best: Vec::new(),
        }
    }
}

impl<M> Observer<M> for StopAt {
    fn event(&mut self, event: &TrainEvent) -> Result<(), TrainError> {
        // Passes come again in every process, until they are through.
        self.events += usize::from(!matches!(event, TrainEvent::Pass { .. }));
        self.resumed |= matches!(event, TrainEvent::Resumed { .. });
        if let TrainEvent::Resumed {
            best: Some(best), ..
        } = event
        {
            self.best.push(*best);
        }
        if let TrainEvent::SplitEnd { epoch, split, loss } = event
            && (epoch.phase, *split) == (Phase::E2eQp, DataSplit::Valid)
        {
            self.losses.push(*loss);
        }
        if self.events > self.at {
            return Err(TrainError::Interrupted);
        }
        Ok(())
    }
}

fn config() -> EfficientQatConfig {
    let weights = Weights::matching(r"^(blocks\..*|first|middle|last)\.?.*weight$").unwrap();
    EfficientQatConfig::new("w2g12".parse().unwrap(), weights)
        .with_epochs(2)
        .with_e2e_epochs(3)
        .with_early_stopping(Some(2))
}

/// Both phases take the same loaders, which shuffle anew whenever they are read.
fn data(set: &[Sample]) -> PhaseLoaders<Batch> {
    (shuffled(set, 4, 5), loader(&set[..8], 8)).into()
}

/// The bytes of a model in a file.
fn bytes<M: Module>(model: &M) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    model.save(&path).unwrap();
    fs::read(path).unwrap()
}

/// On so many devices.
fn ends_the_same_however_often_it_is_stopped<M>(new: fn(&Device) -> M, seed: u64, devices: usize)
where
    M: LearnerModel
        + Blockwise<Batch = Batch>
        + TrainStep<Input = Batch, Output = QatOutput>
        + InferenceStep<Input = Batch, Output = QatOutput>,
{
    let _random = seeded(seed);
    let device = Device::flex();
    // A process that is started again makes the same model with other identifiers.
    let set = samples(40, &|x| x.clone().slice_dim(2, 0..20), &device);
    let original = new(&device);
    let dir = tempfile::tempdir().unwrap();
    original.save(dir.path().join("original")).unwrap();
    let model = || new(&device).load(dir.path().join("original")).unwrap();

    let recipe = || config().init().with_devices(vec![device.clone(); devices]);
    let mut all = StopAt::new(usize::MAX);
    let expected = recipe().run(model(), data(&set), &mut all).unwrap();
    let expected = bytes(&expected);
    assert!(!all.resumed);

    let path = dir.path().join("run");
    let (mut stops, mut resumed, mut best) = (0, 0, Vec::new());
    let packed = loop {
        let run = RunDir::open_or_create(&path).unwrap();
        // Far enough for a block or some steps of E2E-QP, and a different place each time.
        let mut stop = StopAt::new(35 + stops * 7 % 23);
        let recipe = recipe().with_run_dir(run);
        let result = recipe.run(model(), data(&set), &mut stop);
        resumed += usize::from(stop.resumed);
        best.extend(stop.best);
        match result {
            Ok(packed) => break packed,
            Err(TrainError::Interrupted) => stops += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(stops < 50);
    };
    println!(
        "stopped {stops} times, resumed {resumed} times, {} events",
        all.events
    );
    assert!(stops >= 3 && resumed >= 2);
    // They know the best epoch of before.
    assert!(best.iter().all(|best| all.losses.contains(best)));
    assert!(bytes(&packed) == expected, "a resumed run ends elsewhere");

    // A run that is at its end gives the model at once.
    let run = RunDir::open(&path).unwrap();
    let mut none = StopAt::new(20);
    let recipe = recipe().with_run_dir(run.clone());
    let again = recipe.run(model(), data(&set), &mut none).unwrap();
    assert!(bytes(&again) == expected);
    drop(recipe);
    run.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_stopped_run_ends_as_one_that_was_not() {
    ends_the_same_however_often_it_is_stopped(Mlp::new, 81, 1);
    ends_the_same_however_often_it_is_stopped(Encoder::new, 82, 1);
    ends_the_same_however_often_it_is_stopped(Mlp::new, 85, 2);
}

#[test]
fn a_phase_that_goes_on_knows_its_best_epoch() {
    let _random = seeded(86);
    let device = Device::flex();
    let set = samples(24, &|x| x.clone().slice_dim(2, 0..20), &device);
    let scheme: Scheme = "w2g12".parse().unwrap();
    let model = Mlp::new(&device).quantize_rtn(&config().weights, scheme);
    let model = model.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut validated, mut resumed) = (Vec::new(), Vec::new());
    for begins in [true, false] {
        let run = RunDir::open_or_create(&dir.path().join("run")).unwrap();
        let phase = config().e2e_qp().init().with_run_dir(run);
        let result = phase.run(
            model.clone(),
            shuffled(&set, 4, 5),
            loader(&set[..8], 8),
            &mut |event| {
                match event {
                    TrainEvent::SplitEnd {
                        split: DataSplit::Valid,
                        loss,
                        ..
                    } => validated.push(loss),
                    TrainEvent::Resumed { best, .. } => resumed.push(best),
                    // The second epoch begins.
                    TrainEvent::SplitStart { epoch, .. } if begins && epoch.number == 2 => {
                        return Err(TrainError::Interrupted);
                    }
                    _ => {}
                }
                Ok(())
            },
        );
        assert_eq!(result.is_err(), begins);
    }
    assert_eq!(resumed, [Some(validated[0])]);
    assert_eq!(validated.len(), 3);
}

/// A run that has finished two blocks of three.
fn begun(path: &Path, model: &Mlp, set: &[Sample]) {
    let run = RunDir::create(path).unwrap();
    let mut blocks = 0;
    let config = config();
    let phase = config.block_ap().init().with_run_dir(run);
    let data = data(set);
    let result = phase.run(
        model.clone(),
        data.block_ap.0,
        data.block_ap.1,
        &mut |event| {
            blocks += usize::from(matches!(event, TrainEvent::BlockEnd { .. }));
            if blocks == 2 {
                return Err(TrainError::Interrupted);
            }
            Ok(())
        },
    );
    assert!(matches!(result, Err(TrainError::Interrupted)));
}

/// What differs from what a run began with is refused by its name, and what was finished stays.
#[test]
fn another_run_is_refused() {
    let _random = seeded(83);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = samples(40, &|x| model.forward(x), &device);
    let dir = tempfile::tempdir().unwrap();
    begun(dir.path(), &model, &set);
    let resume = |config: EfficientQatConfig, model: Mlp, set: &[Sample]| {
        let run = RunDir::open(dir.path()).unwrap();
        let recipe = config.init().with_run_dir(run);
        recipe
            .run(model, data(set), &mut ())
            .map(|model| bytes(&model))
    };
    let refused = |result: Result<Vec<u8>, TrainError>, expected: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, TrainError::RunDir(RunDirError::Differs { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    };
    let expected = "block_ap.epochs is 3, but the run began with 2";
    refused(
        resume(config().with_epochs(3), model.clone(), &set),
        expected,
    );
    let rate = config()
        .with_probe_rates(Some(true))
        .with_quant_learning_rate(Some(0.5.into()));
    refused(
        resume(rate, model.clone(), &set),
        "block_ap.quant_learning_rate is 0.5, but the run began with not given",
    );
    refused(resume(config(), Mlp::new(&device), &set), "digest of first");
    refused(
        resume(config(), model.clone(), &set[4..]),
        "block_ap_data.train.batches is 9",
    );
    let mut other = set.clone();
    other[3].0[1] += 1.0;
    refused(
        resume(config(), model.clone(), &other),
        "block_ap_data.train.digest",
    );

    let run = RunDir::open(dir.path()).unwrap();
    let recipe = config().init().with_devices(vec![device; 2]);
    let recipe = recipe.with_run_dir(run);
    let result = recipe.run(model.clone(), data(&set), &mut ());
    drop(recipe);
    refused(
        result.map(|model| bytes(&model)),
        "block_ap.devices is 2, but the run began with not given",
    );

    let resumed = resume(config(), model.clone(), &set).unwrap();
    let plain = config().init().run(model, data(&set), &mut ()).unwrap();
    assert!(resumed == bytes(&plain));
}

/// A block file that changed is an error that names it; one that is gone is made again, the same.
#[test]
fn a_damaged_block_is_named_and_made_again() {
    let _random = seeded(84);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = samples(40, &|x| model.forward(x), &device);
    let dir = tempfile::tempdir().unwrap();
    begun(dir.path(), &model, &set);
    let resume = || {
        let run = RunDir::open(dir.path()).unwrap();
        let recipe = config().init().with_run_dir(run);
        recipe.run(model.clone(), data(&set), &mut ())
    };
    let block = dir.path().join("block-0000.safetensors");
    let mut content = fs::read(&block).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&block, &content).unwrap();
    let error = resume().unwrap_err().to_string();
    assert!(
        error.contains("block-0000.safetensors: is not what was written"),
        "{error}"
    );
    fs::write(&block, &content[..middle]).unwrap();
    assert!(resume().is_err());

    fs::remove_file(&block).unwrap();
    let resumed = bytes(&resume().unwrap());
    let plain = config()
        .init()
        .run(model.clone(), data(&set), &mut ())
        .unwrap();
    assert!(resumed == bytes(&plain));

    // The state of E2E-QP.
    let state = fs::read_dir(dir.path()).unwrap().flatten();
    let mut state = state.map(|entry| entry.path());
    let state = state.find(|path| path.extension().is_some_and(|end| end == "bpk"));
    let state = state.unwrap();
    let mut content = fs::read(&state).unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    fs::write(&state, content).unwrap();
    let error = resume().unwrap_err().to_string();
    assert!(
        error.contains("e2e-qp") && error.contains("is not what was written"),
        "{error}"
    );
    fs::remove_file(&state).unwrap();
    assert!(bytes(&resume().unwrap()) == resumed);
}
