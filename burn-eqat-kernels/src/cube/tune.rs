//! Autotuning: every way to a product is tried once for each kind of problem, and the fastest kept.

use super::choose::{Forward, Input, Operands, Scale};
use super::weight::PackedWeight;
use crate::cube::plan::{Fragment, Limits, Route, routes};
use burn_cubecl::CubeTuneId;
use burn_cubecl::cubecl::tune::{
    AutotuneKey, AutotuneOutput, LocalTuner, Tunable, TunableSet, local_tuner,
};
use burn_cubecl::tensor::CubeTensor;
use serde::{Deserialize, Serialize};

/// What makes two problems the same to the tuner.
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
    fn new(weight: &PackedWeight, activations: &CubeTensor) -> Self {
        let problem = &weight.problem;
        Key {
            m: problem.m.next_power_of_two(),
            k: problem.k,
            n: problem.n,
            group: problem.group(),
            bits: problem.bits.into(),
            activations: format!("{:?}", activations.dtype),
            scales: format!("{:?}", weight.s.dtype),
        }
    }
}

impl core::fmt::Display for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl AutotuneKey for Key {}

/// The gradients by step sizes and zero points, as the tuner hands them on.
struct Pair(CubeTensor, CubeTensor);

impl AutotuneOutput for Pair {}

/// Every way that this kind of product has on a device, for any number of rows.
fn ways<T: Operands>(limits: &Limits) -> Vec<Route> {
    // The tuner keeps one set for a device, and whether its matrix units take part is a question of the
    // type: `worth_trying` answers it for each problem. Any fragment will do for the list.
    let limits = &Limits {
        matrix: Some(Fragment::COMMON),
        ..*limits
    };
    let mut ways: Vec<Route> = Vec::new();
    for m in [1, usize::MAX] {
        for route in routes(T::PRODUCT, m, limits) {
            if !ways.contains(&route) {
                ways.push(route);
            }
        }
    }
    // The first is what the tuner falls back on: one that is open for every problem.
    ways.sort_by_key(|route| *route != Route::Slab);
    ways
}

/// Whether a way is worth a trial: slabs are not for single rows, the matrix-vector kernel not for
/// many.
fn worth_trying<T: Operands>(operands: &T, route: Route) -> Result<(), String> {
    let weight = operands.weight();
    match routes(T::PRODUCT, weight.problem.m, &weight.limits).contains(&route) {
        true => Ok(()),
        false => Err(format!("{route:?} is not for {} rows", weight.problem.m)),
    }
}

fn tunables<T: Operands, Out: AutotuneOutput>(
    limits: &Limits,
    key: fn(&T) -> Key,
    output: fn(T::Output) -> Out,
) -> TunableSet<Key, T, Out> {
    let mut set = TunableSet::new(key, |_key: &Key, operands: &T| operands.clone());
    for route in ways::<T>(limits) {
        set = set.with(Tunable::new(&format!("{route:?}"), move |operands: T| {
            worth_trying(&operands, route)?;
            operands.make(route).map(output)
        }));
    }
    set
}

/// The fastest way to the forward product.
pub(crate) fn forward(operands: Forward) -> CubeTensor {
    static TUNER: LocalTuner<Key, CubeTuneId> = local_tuner!("eqat-forward");
    let (client, limits) = (operands.x.client.clone(), operands.weight.limits);
    let id = CubeTuneId::new(&client, &operands.x.device);
    let set = TUNER.init(&id, move || {
        tunables::<Forward, _>(&limits, |o| Key::new(&o.weight, &o.x), |y| y)
    });
    TUNER.execute(&id, &client, set, operands)
}

/// The fastest way to the gradient by the input.
pub(crate) fn input(operands: Input) -> CubeTensor {
    static TUNER: LocalTuner<Key, CubeTuneId> = local_tuner!("eqat-input");
    let (client, limits) = (operands.grad.client.clone(), operands.weight.limits);
    let id = CubeTuneId::new(&client, &operands.grad.device);
    let set = TUNER.init(&id, move || {
        tunables::<Input, _>(&limits, |o| Key::new(&o.weight, &o.grad), |dx| dx)
    });
    TUNER.execute(&id, &client, set, operands)
}

/// The fastest way to the gradients by step sizes and zero points.
pub(crate) fn scale(operands: Scale) -> (CubeTensor, CubeTensor) {
    static TUNER: LocalTuner<Key, CubeTuneId> = local_tuner!("eqat-scale");
    let (client, limits) = (operands.x.client.clone(), operands.weight.limits);
    let id = CubeTuneId::new(&client, &operands.x.device);
    let set = TUNER.init(&id, move || {
        tunables::<Scale, _>(
            &limits,
            |o| Key::new(&o.weight, &o.x),
            |(ds, dz)| Pair(ds, dz),
        )
    });
    let Pair(ds, dz) = TUNER.execute(&id, &client, set, operands);
    (ds, dz)
}
