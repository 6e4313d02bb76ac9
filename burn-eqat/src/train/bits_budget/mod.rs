//! Bits of each weight by a budget for all.

mod assign;
mod config;
mod errors;
mod sensitivity;

pub use config::BitsBudgetConfig;
