//! Autotuning: tries every strategy of a matmul once for each kind of problem, and keeps the fastest.

use super::matmul::{Forward, InputGradient, Matmul, ScaleGradient};
use crate::cube::plan::fragment::Fragment;
use crate::cube::plan::limits::Limits;
use crate::cube::plan::mma;
use crate::cube::plan::strategy::{Strategy, strategies};
use burn_cubecl::CubeTuneId;
use burn_cubecl::cubecl::tune::{
    AutotuneKey, AutotuneOutput, LocalTuner, Tunable, TunableSet, local_tuner,
};
use burn_cubecl::tensor::CubeTensor;
use serde::{Deserialize, Serialize};

/// The tuner's key: problems with the same key share a strategy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    /// Rows of the input, to the next power of two.
    m: usize,
    k: usize,
    n: usize,
    group: usize,
    bits: u8,
    activations: String,
    scales: String,
}

impl Key {
    fn new<M: Matmul>(matmul: &M) -> Self {
        let weight = matmul.weight();
        let problem = &weight.problem;
        Key {
            m: problem.m.next_power_of_two(),
            k: problem.k,
            n: problem.n,
            group: problem.group(),
            bits: problem.bits.into(),
            activations: format!("{:?}", matmul.activations().dtype),
            scales: format!("{:?}", weight.scales.dtype),
        }
    }
}

impl core::fmt::Display for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl AutotuneKey for Key {}

/// The gradients by step sizes and zero points, as an output of the tuner.
struct Pair(CubeTensor, CubeTensor);

impl AutotuneOutput for Pair {}

/// Every strategy of this kind of matmul on a device, for any number of rows.
fn all_strategies<M: Matmul>(limits: &Limits) -> Vec<Strategy> {
    // The tuner keeps one set for a device, and whether its matrix units take part is a question of the
    // type: `worth_trying` answers it for each problem. Any fragment will do for the list.
    let limits = &Limits {
        matrix: Some(Fragment::COMMON),
        mma: true,
        ..*limits
    };
    let mut all: Vec<Strategy> = Vec::new();
    for m in [1, mma::MAX_ROWS, usize::MAX] {
        for strategy in strategies(M::KIND, m, limits) {
            if !all.contains(&strategy) {
                all.push(strategy);
            }
        }
    }
    // The first is what the tuner falls back on: one that is available for every problem.
    all.sort_by_key(|strategy| *strategy != Strategy::Slab);
    all
}

/// Whether a strategy is worth a trial: slabs are not for single rows, and the matrix-vector kernel is not for
/// many rows.
fn worth_trying<M: Matmul>(matmul: &M, strategy: Strategy) -> Result<(), String> {
    let weight = matmul.weight();
    if strategies(M::KIND, weight.problem.m, &weight.limits).contains(&strategy) {
        Ok(())
    } else {
        Err(format!("{strategy:?} is not for {} rows", weight.problem.m))
    }
}

fn tunables<M: Matmul, Out: AutotuneOutput>(
    limits: &Limits,
    output: fn(M::Output) -> Out,
) -> TunableSet<Key, M, Out> {
    let mut set = TunableSet::new(Key::new::<M>, |_key: &Key, matmul: &M| matmul.clone());
    for strategy in all_strategies::<M>(limits) {
        let name = format!("{strategy:?}");
        set = set.with(Tunable::new(&name, move |matmul: M| {
            worth_trying(&matmul, strategy)?;
            let made = matmul.run(strategy).map_err(|why| why.to_string())?;
            Ok::<_, String>(output(made))
        }));
    }
    set
}

/// Runs a matmul by its fastest strategy.
fn fastest<M: Matmul, Out: AutotuneOutput>(
    tuner: &'static LocalTuner<Key, CubeTuneId>,
    matmul: M,
    output: fn(M::Output) -> Out,
) -> Out {
    let (client, limits) = (matmul.activations().client.clone(), matmul.weight().limits);
    let id = CubeTuneId::new(&client, &matmul.activations().device);
    let set = tuner.init(&id, move || tunables::<M, _>(&limits, output));
    tuner.execute(&id, &client, set, matmul)
}

/// The matmul of the layer itself, by its fastest strategy.
pub(crate) fn forward(matmul: Forward) -> CubeTensor {
    static TUNER: LocalTuner<Key, CubeTuneId> = local_tuner!("eqat-forward");
    fastest(&TUNER, matmul, |y| y)
}

/// The gradient by the input, by its fastest strategy.
pub(crate) fn input(matmul: InputGradient) -> CubeTensor {
    static TUNER: LocalTuner<Key, CubeTuneId> = local_tuner!("eqat-input");
    fastest(&TUNER, matmul, |dx| dx)
}

/// The gradients by step sizes and zero points, by their fastest strategy.
pub(crate) fn scale(matmul: ScaleGradient) -> (CubeTensor, CubeTensor) {
    static TUNER: LocalTuner<Key, CubeTuneId> = local_tuner!("eqat-scale");
    let Pair(ds, dz) = fastest(&TUNER, matmul, |(ds, dz)| Pair(ds, dz));
    (ds, dz)
}
