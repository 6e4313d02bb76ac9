//! Activations of Block-AP on disk: what comes out, and how it fails.

use crate::any_model::{Batch, Encoder, Mlp, error, loader, samples};
use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_eqat::train::{
    BlockApConfig, Blockwise, CacheConfig, CacheDType, DataSplit, TrainError, TrainEvent,
};
use burn_eqat::{Quantize, Weights};
use burn_eqat_tests::seeded;
use safetensors::SafeTensors;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model, and data whose last batches are smaller: 3 of training and 2 of validation.
struct Problem<M> {
    model: M,
    weights: Weights,
    train: Arc<dyn DataLoader<Batch>>,
    valid: Arc<dyn DataLoader<Batch>>,
}

/// Outputs of the blocks have other sizes than their inputs.
fn mlp() -> Problem<Mlp> {
    let _random = seeded(21);
    let device = Device::flex();
    let model = Mlp::new(&device);
    let set = |count| samples(count, &|x| model.forward(x), &device);
    Problem {
        train: loader(&set(20), 8),
        valid: loader(&set(12), 8),
        weights: Weights::linears(),
        model,
    }
}

/// Blocks have a mask besides.
fn encoder() -> Problem<Encoder> {
    let _random = seeded(22);
    let device = Device::flex();
    let model = Encoder::new(&device);
    let set = |count| samples(count, &|x| model.forward(x), &device);
    Problem {
        train: loader(&set(20), 8),
        valid: loader(&set(12), 8),
        weights: Weights::under(model.blocks()),
        model,
    }
}

impl<M: Blockwise<Batch = Batch>> Problem<M> {
    fn run(
        &self,
        cache: CacheConfig,
        on_event: &mut dyn FnMut(TrainEvent) -> Result<(), TrainError>,
    ) -> Result<M, TrainError> {
        let phase = BlockApConfig::new("w2g12".parse().unwrap(), self.weights.clone())
            .with_early_stopping(Some(1))
            .with_cache(cache)
            .init();
        let (train, valid) = (self.train.clone(), self.valid.clone());
        phase.run(self.model.clone(), train, valid, on_event)
    }

    fn packed(&self, cache: CacheConfig) -> Vec<(String, Vec<u8>)> {
        tensors(&self.run(cache, &mut |_| Ok(())).unwrap())
    }
}

/// All tensors of a model as it is saved, to the bit.
fn tensors<M: Module>(model: &M) -> Vec<(String, Vec<u8>)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    model.save(file.path()).unwrap();
    let bytes = fs::read(file.path()).unwrap();
    let saved = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = saved.iter();
    let mut tensors: Vec<(String, Vec<u8>)> = tensors
        .map(|(name, tensor)| (name.to_string(), tensor.data().to_vec()))
        .collect();
    tensors.sort();
    assert!(!tensors.is_empty());
    tensors
}

fn on_disk(dir: &Path, memory: u64, dtype: CacheDType) -> CacheConfig {
    CacheConfig::new()
        .with_memory(Some(memory))
        .with_dtype(dtype)
        .with_dir(Some(dir.to_path_buf()))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// From disk in 32 bits, wherever the budget ends, as from memory.
fn disk_is_exact<M: Blockwise<Batch = Batch>>(problem: &Problem<M>) {
    let dir = tempfile::tempdir().unwrap();
    let expected = problem.packed(CacheConfig::new());
    // A batch of 8 samples takes 2 * 3840 bytes, besides its mask: nothing in memory, the first batches for a while,
    // validation data for good.
    for (memory, in_files) in [(0, 4), (9_000, 4), (16_500, 2), (1 << 30, 0)] {
        let cache = on_disk(dir.path(), memory, CacheDType::F32);
        let mut seen = 0;
        let result = problem.run(cache.clone(), &mut |event| {
            if let TrainEvent::PhaseStart { .. } = event {
                seen = files(dir.path()).len();
            }
            Ok(())
        });
        result.unwrap();
        assert_eq!(seen, in_files, "{memory}");
        assert!(problem.packed(cache) == expected, "{memory}");
        assert!(files(dir.path()).is_empty());
    }
}

#[test]
fn from_disk_as_from_memory() {
    disk_is_exact(&mlp());
    disk_is_exact(&encoder());
}

#[test]
fn without_a_budget_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let cache = CacheConfig::new().with_dir(Some(dir.path().join("none")));
    mlp().packed(cache);
    assert!(files(dir.path()).is_empty());
}

/// Rounded activations change the outcome, and not by much.
#[test]
fn rounded_activations_end_near() {
    let problem = mlp();
    let dir = tempfile::tempdir().unwrap();
    let run = |cache| problem.run(cache, &mut |_| Ok(())).unwrap();
    let exact = run(CacheConfig::new());
    let rounded = run(on_disk(dir.path(), 0, CacheDType::Bf16));
    let batch = problem.valid.iter().next().unwrap().unwrap();
    let loss = |model: &Mlp| -> f64 {
        let output = model.forward(batch.input.clone());
        error(&output, batch.target.clone()).into_scalar()
    };
    let (exact, rounded) = (loss(&exact), loss(&rounded));
    assert_ne!(exact, rounded);
    assert!((rounded / exact - 1.0).abs() < 0.02, "{exact} {rounded}");
}

/// A file that is damaged while a block is trained is an error that names it, whichever of the four it is, and the disk is given
/// back.
#[test]
fn a_damaged_file_is_an_error() {
    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    fn cut(path: &Path) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
    type Damage = fn(&Path);
    let problem = encoder();
    let damages: [(Damage, &str); 2] = [(flip, "checksum"), (cut, "the file has")];
    for (damage, expected) in damages {
        for which in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let mut damaged = PathBuf::new();
            let cache = on_disk(dir.path(), 0, CacheDType::Bf16);
            let result = problem.run(cache, &mut |event| {
                if let TrainEvent::BlockEnd { block: 0 } = event {
                    damaged = files(dir.path()).swap_remove(which);
                    damage(&damaged);
                }
                Ok(())
            });
            let Err(TrainError::Cache { path, message }) = result else {
                panic!("{:?}", result.map(|_| ()));
            };
            assert_eq!(path, damaged);
            assert!(
                message.contains("record 1 of ") && message.contains(expected),
                "{message}"
            );
            assert!(files(dir.path()).is_empty());
        }
    }
}

/// Cut while it is read, with records to come.
#[test]
fn a_file_that_is_cut_short_under_way_is_an_error() {
    let mut problem = mlp();
    let items = {
        let _random = seeded(23);
        samples(24, &|x| problem.model.forward(x), &Device::flex())
    };
    problem.train = loader(&items, 1);
    let dir = tempfile::tempdir().unwrap();
    let cache = on_disk(dir.path(), 0, CacheDType::F32);
    let result = problem.run(cache, &mut |event| {
        if let TrainEvent::Batch {
            split: DataSplit::Train,
            done: 3,
            ..
        } = event
        {
            for path in files(dir.path()) {
                fs::File::create(path).unwrap();
            }
        }
        Ok(())
    });
    let Err(TrainError::Cache { message, .. }) = result else {
        panic!("{:?}", result.map(|_| ()));
    };
    assert!(
        message.contains(" of 24: the file has 0 bytes"),
        "{message}"
    );
    assert!(files(dir.path()).is_empty());
}

/// A phase that ends with another error gives the disk back, too.
#[test]
fn any_error_gives_the_disk_back() {
    let dir = tempfile::tempdir().unwrap();
    let cache = on_disk(dir.path(), 0, CacheDType::Bf16);
    let result = mlp().run(cache, &mut |event| match event {
        TrainEvent::Batch { done: 2, .. } => {
            assert_eq!(files(dir.path()).len(), 4);
            Err(TrainError::Interrupted)
        }
        _ => Ok(()),
    });
    assert!(matches!(result, Err(TrainError::Interrupted)));
    assert!(files(dir.path()).is_empty());
}

/// A file system of its own, for as long as it is held.
#[cfg(target_os = "linux")]
struct Mounted(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl Mounted {
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Mounted(dir));
        }
        println!("skipped: a small file system cannot be mounted here");
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

/// No room is said before training, where the batches are as many as the loader says; where a later block needs more, then.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let problem = mlp();
    // Two caches of 3 records of 3840 bytes for training and two of 2 for validation; the first block makes twice as much of them.
    for (size, starts) in [("16k", false), ("48k", true)] {
        let Some(disk) = Mounted::new(size) else {
            return;
        };
        let mut started = false;
        let cache = on_disk(disk.0.path(), 0, CacheDType::F32);
        let result = problem.run(cache, &mut |event| {
            started |= matches!(event, TrainEvent::PhaseStart { .. });
            Ok(())
        });
        let Err(TrainError::Cache { path, message }) = result else {
            panic!("{:?}", result.map(|_| ()));
        };
        assert!(path.starts_with(disk.0.path()));
        assert!(message.starts_with("needs "), "{message}");
        assert_eq!(started, starts);
        assert!(files(disk.0.path()).is_empty());
    }
}

/// A hidden state whose parts are of every kind goes to disk and comes back.
#[test]
fn hidden_states_of_several_tensors() {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Bool, Int};
    use burn_eqat::train::ModelError;
    use burn_eqat_tests::batches;

    /// Adds what a linear layer makes of the rows that are kept, at their positions.
    #[derive(Module, Debug)]
    struct Rows {
        layers: Vec<Linear>,
    }
    type Context = (Tensor<2, Int>, Option<Vec<Tensor<2, Bool>>>);
    impl Blockwise for Rows {
        type Batch = Tensor<2>;
        type Hidden = (Tensor<2>, Tensor<2>);
        type Context = Context;

        fn blocks(&self) -> Vec<String> {
            (0..self.layers.len())
                .map(|index| format!("layers.{index}"))
                .collect()
        }
        fn embed(&self, x: Tensor<2>) -> Result<(Self::Hidden, Context), ModelError> {
            // Positions that 16 bits would not tell from each other.
            let positions = Tensor::<1, Int>::arange(0..x.dims()[0] as i64, &x.device());
            let positions = positions.add_scalar(16_777_217).unsqueeze_dim(1);
            let keep = x.clone().slice_dim(1, 0..1).greater_elem(0.5);
            Ok(((x.clone(), x), (positions, Some(vec![keep]))))
        }
        fn run_block(
            &self,
            index: usize,
            (x, sum): Self::Hidden,
            (positions, keep): &Context,
        ) -> Result<Self::Hidden, ModelError> {
            let first: i64 = positions.clone().slice([0..1, 0..1]).into_scalar();
            assert_eq!(first, 16_777_217);
            let keep = Tensor::cat(keep.clone().ok_or("no mask")?, 1);
            let y = self.layers[index].forward(x.clone());
            let y = y.mask_fill(keep.expand(x.dims()).bool_not(), 0.0);
            Ok((x + y.clone(), sum + y))
        }
    }

    let _random = seeded(24);
    let device = Device::flex();
    let layers = (0..2).map(|_| LinearConfig::new(12, 12).init(&device));
    let model = Rows {
        layers: layers.collect(),
    };
    let rows = |count| Tensor::random([count, 12], burn::tensor::Distribution::Default, &device);
    let train = [6, 8, 9, 3].map(rows).to_vec();
    let dir = tempfile::tempdir().unwrap();
    let run = |cache| {
        let phase = BlockApConfig::new("w2g12".parse().unwrap(), Weights::linears())
            .with_cache(cache)
            .init();
        let (train, valid) = (batches(train.clone()), batches(vec![]));
        let packed = phase.run(model.clone(), train, valid, &mut |_| Ok(()));
        tensors(&packed.unwrap())
    };
    let expected = run(CacheConfig::new());
    for memory in [0, 1000, 2000] {
        let disk = run(on_disk(dir.path(), memory, CacheDType::F32));
        assert!(disk == expected, "{memory}");
    }
}
