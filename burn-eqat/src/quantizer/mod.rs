//! From weights to step sizes, zero points and codes.

mod codes;
mod min_max;

pub use codes::quantize_codes;
pub use min_max::min_max_start;
