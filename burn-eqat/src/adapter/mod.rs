//! Step-size adapters: one packed model, several sets of step sizes.
//!
//! E2E-QP trains nothing but the step sizes of packed weights. So two models that were tuned from the same packed one, on a
//! story and on a recipe say, have the same codes and zero points: what differs is a few percent of the bytes. An [`Adapter`]
//! is that part, in a small file of its own, and [`Adapted`] is a model in memory that goes from one adapter to another
//! without reading its codes again.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_eqat::adapter::{Adapted, Adapter};
//! use burn_eqat::{QuantLinearConfig, Quantize, Scheme, Weights};
//!
//! let device = Device::flex();
//! let scheme: Scheme = "w4g64".parse()?;
//! let base = QuantLinearConfig::new(128, 32).init(&device).quantize_rtn(&Weights::linears(), scheme)?;
//! # let tuned = base.clone();
//! // ... `tuned` is what E2E-QP makes of `base` ...
//! let dir = tempfile::tempdir()?;
//! let file = dir.path().join("stories.safetensors");
//! Adapter::of(&tuned)?.save(&file)?;
//!
//! let mut model = Adapted::new(base)?;
//! model.switch(&Adapter::load(&file)?)?;
//! let x = Tensor::<2>::random([1, 128], Distribution::Default, &device);
//! assert_eq!(model.model().forward(x.clone()).into_data(), tuned.forward(x).into_data());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An adapter fits the packed weights that it was made of, and no others: it has a checksum of each ([`PackedBase`]). The step
//! sizes of the base are not in it, and neither is what is not packed (embeddings, norms), so a base may be saved, exported and
//! loaded in any way that keeps its codes.

mod adapted;
mod base;
mod difference;
mod error;
mod file;
mod set;

pub use adapted::Adapted;
pub use base::PackedBase;
pub use difference::{BaseDifference, Difference};
pub use error::AdapterError;
pub use set::Adapter;
