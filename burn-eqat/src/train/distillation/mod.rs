//! E2E-QP that teaches a quantized model to predict what its original does, in place of what comes in the data.

mod config;
mod kept;
mod loss;
mod student;
mod teacher;

pub use config::DistillationConfig;
pub use loss::distillation_loss;
pub use student::Student;
pub use teacher::{Lesson, Teacher};
