//! The whole of EfficientQAT in one call: round to nearest, Block-AP and E2E-QP, with a callback after each.
//!
//! [`EfficientQatConfig`] has the settings, [`EfficientQat::run`] runs it, and an [`Observer`] gets each [`Stage`].

mod comparison;
mod config;
mod data;
mod efficient_qat;
mod observer;
mod rtn;
mod stage;

pub use comparison::Comparison;
pub use config::{EfficientQatConfig, Method, MethodError};
pub use data::PhaseLoaders;
pub use efficient_qat::EfficientQat;
pub use observer::{Observer, StageResult};
pub use stage::{Stage, StageName};
