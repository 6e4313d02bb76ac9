//! Memory, as a list of what takes it.

use super::shape::sum;
use serde::Serialize;

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The device that computes; on a CPU that is the host.
    Device,
    /// The host's memory.
    Host,
    /// Files.
    Disk,
}

/// Something that takes memory, or room on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// What it is.
    pub what: &'static str,
    /// Where it is.
    pub place: Place,
    /// Its size.
    pub bytes: u64,
}

impl Term {
    pub(super) fn device(what: &'static str, bytes: u64) -> Self {
        let place = Place::Device;
        Self { what, place, bytes }
    }

    pub(super) fn host(what: &'static str, bytes: u64) -> Self {
        let place = Place::Host;
        Self { what, place, bytes }
    }

    /// As many of them.
    pub(super) fn times(mut self, count: u64) -> Self {
        self.bytes = self.bytes.saturating_mul(count);
        self
    }

    pub(super) fn disk(what: &'static str, bytes: u64) -> Self {
        let place = Place::Disk;
        Self { what, place, bytes }
    }
}

/// A moment of a phase, and what is in memory then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// When that is.
    pub when: &'static str,
    /// What is in memory.
    pub terms: Vec<Term>,
}

impl Moment {
    pub(super) fn new(when: &'static str, terms: impl IntoIterator<Item = Term>) -> Self {
        let mut terms: Vec<Term> = terms.into_iter().collect();
        terms.retain(|term| term.bytes > 0);
        Self { when, terms }
    }

    /// Bytes at a place.
    pub fn bytes(&self, place: Place) -> u64 {
        bytes(&self.terms, place)
    }

    /// Bytes of device and host together.
    pub fn all(&self) -> u64 {
        sum(self.terms.iter().map(|term| term.bytes))
    }
}

/// The bytes of the terms at a place.
pub(super) fn bytes(terms: &[Term], place: Place) -> u64 {
    let there = terms.iter().filter(|term| term.place == place);
    sum(there.map(|term| term.bytes))
}
