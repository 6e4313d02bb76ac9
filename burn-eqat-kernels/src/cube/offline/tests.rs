use super::cpp;
use super::gpu::Gpu;
use super::kernels::{Kernel, kernels};
use crate::Bits;
use burn::tensor::DType;
use std::path::PathBuf;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Where what was compiled goes, for `tests/scripts/assemble_kernels.py`.
fn dir() -> Option<PathBuf> {
    std::env::var_os("EQAT_PTX").map(PathBuf::from)
}

fn file_name(name: &str, extension: &str) -> String {
    let kept = |letter: char| letter.is_alphanumeric() || letter == '_';
    let words: Vec<&str> = name
        .split(|letter| !kept(letter))
        .filter(|word| !word.is_empty())
        .collect();
    format!("{}.{extension}", words.join("-"))
}

/// What is wrong with kernels.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, is: bool, name: &str, what: &str) {
        if !is {
            self.0.push(format!("{name}: {what}"));
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// Each kernel of a GPU for all bits and types of activations, with its name; with `EQAT_KERNELS`, those that have it in their names.
fn for_each(gpu: &Gpu, compiler: &str, mut run: impl FnMut(&str, Kernel)) {
    let only = std::env::var("EQAT_KERNELS").ok();
    for bits in Bits::ALL {
        for dtype in TYPES {
            for kernel in kernels(gpu, bits, dtype) {
                let name = format!("{compiler} w{} {dtype:?} {}", bits.get(), kernel.name);
                if only.as_ref().is_none_or(|only| name.contains(only)) {
                    run(&name, kernel);
                }
            }
        }
    }
}

#[test]
fn every_kernel_is_what_it_should_be() {
    let (dir, mut wrong) = (dir(), Wrong::default());
    for gpu in Gpu::ALL {
        for_each(&gpu, &format!("sm_{}", gpu.arch), |name, kernel| {
            let ptx = gpu.compile(kernel.definition);
            if let Some(dir) = &dir {
                ptx.write(&dir.join(file_name(name, "ptx"))).unwrap();
            }
            let mut must = |what: &str, is: bool| wrong.unless(is, name, what);
            must("something is in local memory", !ptx.has_local_memory());
            must(
                "loads words one by one",
                !kernel.reads_words || ptx.wide_loads() > 0,
            );
            must(
                "matrix units do not multiply",
                kernel.matrix == (ptx.matrix() > 0),
            );
            must(
                "planes do not shuffle",
                kernel.shuffles == (ptx.count("shfl.sync", "") > 0),
            );
        });
    }
    wrong.none();
}

/// The same by CubeCL's C++ compiler, for one GPU: what it writes does not depend on which.
#[test]
fn every_kernel_is_so_in_cpp() {
    let (dir, mut wrong) = (dir(), Wrong::default());
    for_each(&Gpu::SM_90, "cpp", |name, kernel| {
        let source = cpp::source(kernel.definition);
        if let Some(dir) = &dir {
            std::fs::write(dir.join(file_name(name, "cu")), &source).unwrap();
        }
        let has = |part: &str| source.contains(part);
        let mut must = |what: &str, is: bool| wrong.unless(is, name, what);
        must(
            "words are no vectors of 16 bytes",
            !kernel.reads_words || has("uint32_t_4 const* const __restrict__"),
        );
        must(
            "matrix units do not multiply",
            kernel.matrix == (has("wmma::mma_sync") || has("mma.sync.aligned")),
        );
        must("planes do not shuffle", kernel.shuffles == has("__shfl"));
    });
    wrong.none();
}
