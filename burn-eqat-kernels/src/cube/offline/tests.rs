#[cfg(feature = "offline-amd")]
use super::amd;
use super::gpu::{self, Gpu};
use super::kernels::{Kernel, Uses, kernels};
use super::{cpp, nvidia};
use crate::Bits;
use burn::tensor::DType;
use std::path::Path;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Those for AMD: in f16 only the names of instructions differ from those in bf16.
const AMD_TYPES: [DType; 2] = [DType::F32, DType::BF16];

/// Writes what a kernel was compiled to, where `EQAT_PTX` says, for `tests/scripts/assemble_kernels.py`.
fn keep(name: &str, extension: &str, text: &str) {
    if let Some(dir) = std::env::var_os("EQAT_PTX") {
        let file = format!("{}.{extension}", file_stem(name));
        std::fs::write(Path::new(&dir).join(file), text).unwrap();
    }
}

fn file_stem(name: &str) -> String {
    let kept = |letter: char| letter.is_alphanumeric() || letter == '_';
    let words: Vec<&str> = name
        .split(|letter| !kept(letter))
        .filter(|word| !word.is_empty())
        .collect();
    words.join("-")
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

    /// Notes what a kernel is to use and does not, or the other way round.
    fn unless_used(&mut self, name: &str, expected: Uses, found: Uses) {
        let wide = !expected.wide_loads || found.wide_loads;
        self.unless(wide, name, "loads words one by one");
        let same = expected.matrix == found.matrix;
        self.unless(same, name, "matrix units do not multiply");
        let same = expected.shuffles == found.shuffles;
        self.unless(same, name, "planes do not shuffle");
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// Each kernel of a GPU for all bits and these types of activations, with its name; with `EQAT_KERNELS`, those that have it in their names.
fn for_each(gpu: &Gpu, compiler: &str, types: &[DType], mut run: impl FnMut(&str, Kernel)) {
    let only = std::env::var("EQAT_KERNELS").ok();
    for bits in Bits::ALL {
        for dtype in types {
            for kernel in kernels(gpu, bits, *dtype) {
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
    let mut wrong = Wrong::default();
    for gpu in gpu::NVIDIA {
        for_each(&gpu, gpu.arch, &TYPES, |name, kernel| {
            let ptx = nvidia::compile(&gpu, kernel.definition);
            keep(name, "ptx", &ptx.with_facts());
            let in_local = ptx.has_local_memory();
            wrong.unless(!in_local, name, "something is in local memory");
            let found = Uses {
                wide_loads: ptx.wide_loads() > 0,
                matrix: ptx.matrix() > 0,
                shuffles: ptx.count("shfl.sync", "") > 0,
            };
            wrong.unless_used(name, kernel.uses, found);
        });
    }
    wrong.none();
}

/// The same by CubeCL's C++ compiler for CUDA, for one GPU: what it writes does not depend on which.
#[test]
fn every_kernel_is_so_in_cuda() {
    let mut wrong = Wrong::default();
    for_each(&gpu::SM_90, "cpp", &TYPES, |name, kernel| {
        let source = cpp::cuda(kernel.definition);
        keep(name, "cu", &source);
        let matrix = ["wmma::mma_sync", "mma.sync.aligned"];
        wrong.unless_used(name, kernel.uses, uses_of(&source, matrix));
    });
    wrong.none();
}

/// The same by its C++ compiler for HIP.
#[test]
fn every_kernel_is_so_in_hip() {
    let mut wrong = Wrong::default();
    for gpu in gpu::AMD {
        let compiler = format!("hip {}", gpu.arch);
        for_each(&gpu, &compiler, &AMD_TYPES, |name, kernel| {
            let source = cpp::hip(&gpu, kernel.definition);
            keep(name, "hip", &source);
            let matrix = ["wmma::mma_sync", "__builtin_amdgcn_wmma"];
            wrong.unless_used(name, kernel.uses, uses_of(&source, matrix));
        });
    }
    wrong.none();
}

/// What C++ source uses; `matrix` are the names of what multiplies by matrix units.
fn uses_of(source: &str, matrix: [&str; 2]) -> Uses {
    let has = |part: &str| source.contains(part);
    Uses {
        wide_loads: has("uint32_t_4 const* const __restrict__"),
        matrix: matrix.into_iter().any(has),
        shuffles: has("__shfl"),
    }
}

/// The same by CubeCL's compiler for AMD. It keeps the assembly if it finds a variable, so a process of its own has that.
#[cfg(feature = "offline-amd")]
#[test]
fn every_kernel_is_so_for_amd() {
    if std::env::var_os(amd::KEEP_ASSEMBLY).is_none() {
        let (_, module) = module_path!()
            .split_once("::")
            .expect("the crate's name comes first");
        let name = format!("{module}::every_kernel_is_so_for_amd");
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &name])
            .env(amd::KEEP_ASSEMBLY, std::env::temp_dir())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("1 passed"), "{said}{errors}");
        return;
    }
    let mut wrong = Wrong::default();
    for gpu in gpu::AMD {
        for_each(&gpu, gpu.arch, &AMD_TYPES, |name, kernel| {
            let gcn = amd::compile(&gpu, kernel.definition);
            keep(name, "s", &gcn.text);
            let most = if name.contains("by Units") {
                amd::SPILLED
            } else {
                0
            };
            let little = gcn.private_memory() <= most;
            wrong.unless(little, name, "too much is in private memory");
            let found = Uses {
                wide_loads: gcn.wide_loads() > 0,
                matrix: gcn.matrix() > 0,
                shuffles: gcn.shuffles(),
            };
            wrong.unless_used(name, kernel.uses, found);
        });
    }
    wrong.none();
}
