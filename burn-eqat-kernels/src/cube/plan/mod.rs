//! How work is split over a device, worked out on the host before anything is launched.
//!
//! Nothing here touches a device or names CubeCL: a plan is made from a problem's sizes and a device's
//! [`Limits`](limits::Limits), so every choice is tested without one. What a device cannot do shows here, as a plan that is not made.

pub(crate) mod column;
pub(crate) mod fragment;
pub(crate) mod gemv;
pub(crate) mod group;
pub(crate) mod limits;
pub(crate) mod sizes;
pub(crate) mod slab;
pub(crate) mod strategy;
pub(crate) mod tile;
