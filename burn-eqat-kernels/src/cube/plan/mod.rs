//! Plans: the split of work over a device, computed on the host before a launch.
//!
//! Nothing here uses a device or CubeCL. A plan is made from a problem's sizes and a device's
//! [`Limits`](limits::Limits), so every choice is tested without a device. If a device cannot run a strategy, there is
//! no plan for it.

pub(crate) mod column;
pub(crate) mod fragment;
pub(crate) mod gemv;
pub(crate) mod group;
pub(crate) mod limits;
pub(crate) mod mma;
pub(crate) mod sizes;
pub(crate) mod slab;
pub(crate) mod strategy;
pub(crate) mod tile;
#[cfg(test)]
pub(crate) mod traffic;
