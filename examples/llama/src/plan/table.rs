//! A plan for people.

use super::{Moment, PhasePlan, Place, Plan};
use std::fmt;

/// A number of bytes for people: `8.5 GB`.
pub fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", bytes / unit),
        None => format!("{bytes:.0} B"),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.bytes_before as f64 / self.bytes_after.max(1) as f64;
        writeln!(
            f,
            "{} blocks, {:.3} billion parameters; {} in files, {} packed, {ratio:.2} times smaller",
            self.blocks,
            self.params as f64 / 1e9,
            size(self.bytes_before),
            size(self.bytes_after),
        )?;
        let places: &[(&str, Place)] = match self.separate_device {
            true => &[
                ("device", Place::Device),
                ("host", Place::Host),
                ("disk", Place::Disk),
            ],
            false => &[("memory", Place::Host), ("disk", Place::Disk)],
        };
        write!(f, "{:<16}", "phase")?;
        for (name, _) in places {
            write!(f, "{name:>12}")?;
        }
        writeln!(f, "{:>12}", "steps")?;
        let width = 16 + 12 * (places.len() + 1);
        writeln!(f, "{}", "-".repeat(width))?;
        for phase in &self.phases {
            write!(f, "{:<16}", phase.name)?;
            for (_, place) in places {
                write!(f, "{:>12}", size(self.bytes(phase, *place)))?;
            }
            writeln!(f, "{:>12}", phase.steps)?;
        }
        for phase in &self.phases {
            if phase.steps > 0 {
                self.peak(phase, f)?;
            }
        }
        Ok(())
    }
}

impl Plan {
    /// What a phase has in memory when it has the most.
    fn peak(&self, phase: &PhasePlan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measure = |moment: &&Moment| match self.separate_device {
            true => moment.bytes(Place::Device),
            false => moment.all(),
        };
        let Some(peak) = phase.moments.iter().max_by_key(measure) else {
            return Ok(());
        };
        writeln!(f, "\nmost in {}: {}", phase.name, peak.when)?;
        let mut terms = peak.terms.clone();
        terms.extend(phase.disk.iter().filter(|term| term.bytes > 0));
        for term in terms {
            let place = match (term.place, self.separate_device) {
                (Place::Disk, _) => "disk",
                (Place::Host, true) => "host",
                (Place::Device, true) => "device",
                (_, false) => "memory",
            };
            writeln!(f, "{:>12}  {place:<7} {}", size(term.bytes), term.what)?;
        }
        Ok(())
    }
}
