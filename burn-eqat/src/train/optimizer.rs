use burn::optim::{AdamWConfig, ModuleOptimizer};

/// The optimizer of both phases: AdamW without weight decay and with PyTorch's epsilon, since gradients
/// of a reconstruction are small enough for it to matter.
pub(super) fn adamw() -> ModuleOptimizer {
    AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.0)
        .init()
}
