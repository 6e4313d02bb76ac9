use burn::optim::{AdamWConfig, ModuleOptimizer};

/// The optimizer of both phases: AdamW without weight decay and with PyTorch's epsilon, which matters because
/// gradients of a reconstruction are small.
pub(super) fn adamw() -> ModuleOptimizer {
    AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.0)
        .init()
}
