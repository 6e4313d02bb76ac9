//! What a run will take, before it begins: memory, room on disk, steps and sizes, from the configuration of a model and the
//! settings of the run alone.
//!
//! Each phase is a list of [moments](Moment), and each moment a list of what is in memory then, by its formula. The formulas follow
//! the code of the phases; where they cannot know better (what an allocator keeps, what an optimizer makes for the moment), they
//! have a constant that was measured. `docs/memory.md` has planned figures beside measured ones.

mod activations;
mod caches;
mod fits;
mod inputs;
mod machine;
mod measure;
mod memory;
mod passes;
mod phases;
mod relief;
mod shape;
mod table;

pub use fits::{Lacking, check};
pub use inputs::PlanInputs;
pub use machine::{Disk, Machine};
pub use measure::{MeasuredSteps, PlannedTimes, measure};
pub use memory::{Moment, Place, Term};
pub use phases::PhasePlan;
pub use relief::Relief;
pub use table::size;

use crate::LlamaConfig;
use crate::error::Error;
use burn_eqat::{Bits, GroupSize, Scheme, Schemes};
use phases::Phases;
use serde::Serialize;
use shape::ModelShape;

/// What a run takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Parameters of the model.
    pub params: u64,
    /// Blocks of the model.
    pub blocks: u64,
    /// Bytes of the full-precision model in its files; of a model that is packed already, what it would have.
    pub bytes_before: u64,
    /// Bytes of the packed model in its files.
    pub bytes_after: u64,
    /// Whether the device has a memory of its own. Else the host has to have what is on either.
    pub separate_device: bool,
    /// The phases in their order.
    pub phases: Vec<PhasePlan>,
}

/// Plans a run. With several devices that have a memory of their own, it is that of the first, which has the most.
///
/// # Errors
///
/// When the groups of a scheme do not divide a weight, or the windows of a step do not divide among the devices.
pub fn plan(inputs: &PlanInputs) -> Result<Plan, Error> {
    let share = PlanInputs {
        settings: inputs.settings.share(inputs.devices)?,
        ..inputs.clone()
    };
    let inputs = &share;
    let model = ModelShape::new(&inputs.config, &inputs.schemes)?;
    let model = match inputs.bits_budget.filter(|_| !inputs.packed) {
        Some(bits) => model.with_budget(bits),
        None => model,
    };
    let float = inputs.file.size();
    let dense = model.dense_file(float);
    Ok(Plan {
        params: model.params(),
        blocks: model.blocks.len() as u64,
        bytes_before: match (inputs.packed, inputs.file_bytes) {
            (false, Some(bytes)) => bytes,
            _ => dense,
        },
        bytes_after: model.packed_file(float),
        separate_device: inputs.separate_device,
        phases: Phases {
            inputs,
            model: &model,
        }
        .all(),
    })
}

/// The parameters of a model.
pub fn params(config: &LlamaConfig) -> u64 {
    // The scheme does not matter: one group a column always fits.
    let scheme = Scheme::new(Bits::Two, GroupSize::Column);
    ModelShape::new(config, &Schemes::new(scheme)).map_or(0, |model| model.params())
}

impl Plan {
    /// The most bytes that a phase takes at a place. Where the device has no memory of its own, the host's are all that there are.
    pub fn bytes(&self, phase: &PhasePlan, place: Place) -> u64 {
        match (place, self.separate_device) {
            (Place::Host, false) => phase.memory(),
            (Place::Device, false) => 0,
            (place, _) => phase.bytes(place),
        }
    }

    /// The phase that takes the most at a place.
    pub fn most(&self, place: Place) -> Option<&PhasePlan> {
        let phases = self.phases.iter();
        phases.max_by_key(|phase| self.bytes(phase, place))
    }

    /// A phase by its name, such as `block-ap`.
    pub fn phase(&self, name: &str) -> Option<&PhasePlan> {
        self.phases.iter().find(|phase| phase.name == name)
    }
}

#[cfg(test)]
mod tests;
