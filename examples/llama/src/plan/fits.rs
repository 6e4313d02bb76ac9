//! Whether a run fits on a machine.

use super::caches::{ACTIVATIONS, EVALUATED};
use super::machine::lacks_room;
use super::phases::PACKED_MODEL;
use super::relief::Relief;
use super::shape::sum;
use super::table::size;
use super::{Disk, Machine, PhasePlan, Place, Plan, PlanInputs, plan};
use crate::error::Error;
use std::fmt;

/// A run that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{phase} would take {needed} of {what}, and there is {there}{help}", needed = size(*.needed), what = name(*.place), there = size(*.there), help = Help(*.place, .with))]
pub struct Lacking {
    /// The phase that takes the most.
    pub phase: &'static str,
    /// What there is too little of.
    pub place: Place,
    /// Bytes that the phase takes.
    pub needed: u64,
    /// Bytes that there are.
    pub there: u64,
    /// Options with which the run would fit; none where no options help.
    pub with: Vec<Relief>,
}

fn name(place: Place) -> &'static str {
    match place {
        Place::Device => "the device's memory",
        Place::Host => "memory",
        Place::Disk => "room on disk",
    }
}

/// What would help.
struct Help<'a>(Place, &'a [Relief]);

impl fmt::Display for Help<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Place::Disk, []) => return f.write_str("; --cache-dir names a place on another disk"),
            (_, []) => return f.write_str("; no option makes it fit"),
            _ => f.write_str("; it would fit with")?,
        }
        self.1.iter().try_for_each(|relief| write!(f, " {relief}"))
    }
}

/// What a run has too little of on a machine; `None` where it fits. Room for the packed model is looked for where that is saved. Options that make it fit
/// are found by planning again: one if one is enough, else as many as it takes. `offered` tells which flags there are, by their names.
///
/// # Errors
///
/// As [`plan`].
pub fn check(
    inputs: &PlanInputs,
    machine: Machine<'_>,
    offered: &dyn Fn(&str) -> bool,
) -> Result<Option<Lacking>, Error> {
    let lacking =
        |inputs: &PlanInputs| -> Result<_, Error> { Ok(lacking(&plan(inputs)?, machine)) };
    let Some(mut found) = lacking(inputs)? else {
        return Ok(None);
    };
    let reliefs = Relief::all(inputs, offered);
    for relief in &reliefs {
        if lacking(&relief.on(inputs.clone()))?.is_none() {
            found.with = vec![*relief];
            return Ok(Some(found));
        }
    }
    let (mut with, mut changed, mut worst) = (Vec::new(), inputs.clone(), found.clone());
    for relief in reliefs {
        let relief = relief.after(&changed);
        let next = relief.on(changed.clone());
        match lacking(&next)? {
            None => {
                with.push(relief);
                found.with = with;
                break;
            }
            // It is of no use here.
            Some(lacks) if lacks == worst => {}
            Some(lacks) => {
                with.push(relief);
                (changed, worst) = (next, lacks);
            }
        }
    }
    Ok(Some(found))
}

/// What a plan has too little of.
fn lacking(plan: &Plan, machine: Machine<'_>) -> Option<Lacking> {
    let memory = [(Place::Device, machine.device), (Place::Host, machine.host)];
    for (place, there) in memory {
        let (Some(phase), Some(there)) = (plan.most(place), there) else {
            continue;
        };
        let needed = plan.bytes(phase, place);
        if needed > there {
            return Some(Lacking {
                phase: phase.name,
                place,
                needed,
                there,
                with: Vec::new(),
            });
        }
    }
    let disk = machine.disk?;
    let needs = |phase: &PhasePlan| needs_of_disk(phase, disk);
    let phase = plan.phases.iter().max_by_key(|phase| needs(phase))?;
    let needed = needs(phase);
    let there = lacks_room(disk.directory, needed)?;
    Some(Lacking {
        phase: phase.name,
        place: Place::Disk,
        needed,
        there,
        with: Vec::new(),
    })
}

/// What a phase needs of the disk where activations go. Room for the packed model is looked for where that is saved.
fn needs_of_disk(phase: &PhasePlan, disk: Disk<'_>) -> u64 {
    let counted = phase.disk.iter().filter(|term| match term.what {
        ACTIVATIONS | EVALUATED => true,
        PACKED_MODEL => false,
        _ => disk.run_dir,
    });
    sum(counted.map(|term| term.bytes))
}
