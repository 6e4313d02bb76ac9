use super::gpu::Gpu;
use super::kernels::kernels;
use crate::Bits;
use burn::tensor::DType;
use std::path::PathBuf;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Where the assembly goes, for `tests/scripts/assemble_kernels.py`.
fn dir() -> Option<PathBuf> {
    std::env::var_os("EQAT_PTX").map(PathBuf::from)
}

fn file_name(name: &str) -> String {
    let kept = |letter: char| letter.is_alphanumeric() || letter == '_';
    let words: Vec<&str> = name
        .split(|letter| !kept(letter))
        .filter(|word| !word.is_empty())
        .collect();
    words.join("-") + ".ptx"
}

/// For each GPU, bits and type of activations.
#[test]
fn every_kernel_is_what_it_should_be() {
    let (dir, mut wrong) = (dir(), Vec::new());
    let only = std::env::var("EQAT_KERNELS").ok();
    for gpu in Gpu::ALL {
        for bits in Bits::ALL {
            for dtype in TYPES {
                for kernel in kernels(&gpu, bits, dtype) {
                    let bits = bits.get();
                    let name = format!("sm_{} w{bits} {dtype:?} {}", gpu.arch, kernel.name);
                    if !only.as_ref().is_none_or(|only| name.contains(only)) {
                        continue;
                    }
                    let ptx = gpu.compile(kernel.definition);
                    if let Some(dir) = &dir {
                        ptx.write(&dir.join(file_name(&name))).unwrap();
                    }
                    let mut must = |what: &str, is: bool| {
                        if !is {
                            wrong.push(format!("{name}: {what}"));
                        }
                    };
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
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
