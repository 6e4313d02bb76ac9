//! A teacher that keeps what it made of its data teaches what one that computes it does.

use super::by_blocks::assert_same_gradients;
use super::distillation::{batch, loader, loss, original, packed};
use burn::tensor::{Device, Tensor};
use burn_eqat::lm::{TokenBatch, TokenWindows};
use burn_eqat::train::{
    CacheConfig, CacheDType, DistillationConfig, Pass, Student, Teacher, TrainError, TrainEvent,
};
use burn_eqat::{Quantize, Scheme};
use burn_eqat_tests::seeded;
use llama::LoadedLlama;
use llama::model::Llama;
use std::fs;
use std::path::Path;

fn student(model: &Llama, teacher: &Teacher<Llama>) -> Student<Llama> {
    Student::new(model.clone(), teacher.clone(), DistillationConfig::new()).unwrap()
}

/// All batches of a loader in one, from the last sample to the first.
fn backwards(count: i32, device: &Device) -> TokenBatch {
    let batches = loader(count, device);
    let tokens = batches.iter().map(|batch| batch.unwrap().tokens);
    TokenBatch::from(Tensor::cat(tokens.collect(), 0).flip([0]))
}

fn keep(teacher: Teacher<Llama>, dtype: CacheDType, dir: &Path, device: &Device) -> Teacher<Llama> {
    let cache = CacheConfig::new().with_dtype(dtype);
    let cache = cache.with_dir(Some(dir.to_path_buf()));
    let data = [loader(5, device), loader(3, device)];
    teacher.keep(&data, &cache, &mut |_| Ok(())).unwrap()
}

#[test]
fn what_it_kept_is_what_it_would_compute() {
    let (_random, device) = (seeded(51), Device::flex());
    let (original, dir) = (original(&device), tempfile::tempdir().unwrap());
    let (computes, model) = (Teacher::new(original.clone()), packed(&original));
    let exact = keep(computes.clone(), CacheDType::F32, dir.path(), &device);
    let rounded = keep(computes.clone(), CacheDType::Bf16, dir.path(), &device);
    // Files that are open.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    let [expected, exact, rounded] =
        [computes, exact, rounded].map(|teacher| student(&model, &teacher));
    let known = backwards(5, &device);
    let [all, kept, short] = [&expected, &exact, &rounded].map(|s| loss(s, known.clone()));
    assert!((kept / all - 1.0).abs() < 1e-5, "{kept} {all}");
    // It is from the file: it has been rounded.
    assert!(
        short != all && (short / all - 1.0).abs() < 0.02,
        "{short} {all}"
    );
    // What is not known is computed.
    let unknown = batch(&device);
    assert_eq!(loss(&rounded, unknown.clone()), loss(&expected, unknown));
    drop((expected, exact));
    // Where gradients are recorded, too.
    assert_same_gradients(rounded, known, 3 * 7);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn windows(device: &Device) -> std::sync::Arc<dyn burn::data::dataloader::DataLoader<TokenBatch>> {
    let tokens = (0..11 * 7).map(|i| (i * i + 7 * i) % 509);
    TokenWindows::new(tokens.collect(), 11).loader(2, Some(5), device)
}

/// Blocks in files are read once, not for each batch: when the files are gone, what was kept is still there.
#[test]
fn blocks_in_files_are_read_once() {
    let device = Device::flex();
    let bundled =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/llama/assets/tiny-stories");
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(bundled).unwrap().flatten() {
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let in_files = LoadedLlama::open_by_block(dir.path(), &device)
        .unwrap()
        .model;
    let whole = LoadedLlama::open(dir.path(), &device).unwrap().model;
    let mut passes = Vec::new();
    let caches = tempfile::tempdir().unwrap();
    let cache = CacheConfig::new().with_dir(Some(caches.path().to_path_buf()));
    let cache = cache.with_dtype(CacheDType::F32);
    // What is on its way is on disk, too.
    for memory in [None, Some(0)] {
        let cache = cache.clone().with_memory(memory);
        passes.clear();
        let teacher = Teacher::new(in_files.clone());
        let teacher = teacher.keep(&[windows(&device)], &cache, &mut |event| {
            if let TrainEvent::Pass {
                pass: Pass::Lessons,
                block,
                done,
                total,
            } = event
            {
                passes.push((block, done, total));
            }
            Ok(())
        });
        let teacher = teacher.unwrap();
        // Four batches: embedded, and through six blocks.
        assert_eq!(passes.len(), 28);
        assert_eq!((passes[0], passes[27]), ((None, 1, 4), (Some(5), 4, 4)));
        // Seven samples of 11 tokens, 128 numbers each, and their heads.
        let file = fs::read_dir(caches.path())
            .unwrap()
            .flatten()
            .next()
            .unwrap();
        let bytes = file.metadata().unwrap().len();
        assert!(
            (7 * 11 * 128 * 4..8 * 11 * 128 * 4).contains(&bytes),
            "{bytes}"
        );
        let known = windows(&device).iter().next().unwrap().unwrap();
        let (weights, scheme) = (Llama::quantized_weights(), "w2g64".parse::<Scheme>());
        let model = whole
            .clone()
            .quantize_rtn(&weights, scheme.unwrap())
            .unwrap();
        let expected = loss(
            &student(&model, &Teacher::new(whole.clone())),
            known.clone(),
        );
        let hidden = dir.path().join("model.safetensors");
        let gone = dir.path().join("gone");
        fs::rename(&hidden, &gone).unwrap();
        let kept = loss(&student(&model, &teacher), known.clone());
        assert!((kept / expected - 1.0).abs() < 1e-5, "{kept} {expected}");
        fs::rename(&gone, &hidden).unwrap();
    }
    // It stops where it is told to.
    let teacher = Teacher::new(in_files);
    let stopped = teacher.keep(&[windows(&device)], &cache, &mut |_| {
        Err(TrainError::Interrupted)
    });
    assert!(matches!(stopped, Err(TrainError::Interrupted)));
}
