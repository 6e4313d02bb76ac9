//! Start values of step sizes and zero points.

mod min_max;

pub use burn_eqat_kernels::quantize_codes;
pub use min_max::min_max_start;
