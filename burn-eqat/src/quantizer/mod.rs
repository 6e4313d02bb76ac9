//! Start values of step sizes and zero points.

mod min_max;
mod search;
mod start;

pub use burn_eqat_kernels::quantize_codes;
pub use min_max::min_max_start;
pub use search::searched_start;
pub use start::{StartValues, StartValuesError};
