//! Options that make a run take less.

use super::PlanInputs;
use super::table::size;
use burn_eqat::ComputeType;
use std::fmt;

/// An option that makes a run take less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// `--cache-memory`: activations on disk.
    CacheMemory(u64),
    /// `--output` or `--run`: finished blocks in a run directory.
    RunDir,
    /// `--recompute`: activations of one block in E2E-QP.
    Recompute,
    /// `--batch-size`: fewer windows of a step in Block-AP.
    BatchSize(usize),
    /// `--e2e-batch` and `--grad-accum`: fewer windows at a time in E2E-QP, and as many of a step.
    E2eBatch(usize, usize),
    /// `--dtype`: activations in 16 bits.
    HalfPrecision,
    /// `--offload`: one block at a time on the device in E2E-QP; also `--run` where there is no run directory to read blocks from.
    Offload {
        /// Whether it needs `--run`, too.
        run: bool,
    },
    /// `--cache-dtype`: activations on disk in 16 bits.
    CacheDType,
    /// `--calibration`: text that the model need not write.
    Calibration,
    /// `--distillation 0`: no original beside the model in E2E-QP.
    NoDistillation,
}

impl Relief {
    /// What may help, what costs least first. `offered` tells which flags there are.
    pub(super) fn all(inputs: &PlanInputs, offered: &dyn Fn(&str) -> bool) -> Vec<Self> {
        let (settings, devices) = (&inputs.settings, inputs.devices.max(1));
        let mut all = Vec::new();
        if inputs.writes_calibration {
            all.push(Relief::Calibration);
        }
        // Rounded blocks go there, too.
        if !inputs.run_dir && !inputs.packed {
            all.push(Relief::RunDir);
        }
        if settings.block_ap.is_some() {
            if settings.cache.memory.is_none_or(|bytes| bytes > 0) {
                all.push(Relief::CacheMemory(0));
            }
            if settings.cache.dtype == burn_eqat::train::CacheDType::F32 {
                all.push(Relief::CacheDType);
            }
        }
        if settings.e2e_qp.is_some_and(|phase| !phase.recompute) {
            all.push(Relief::Recompute);
        }
        if inputs.bf16 && inputs.settings.dtype == ComputeType::F32 {
            all.push(Relief::HalfPrecision);
        }
        if let Some(phase) = settings.e2e_qp
            && phase.e2e_batch > 1
        {
            let accumulation = phase.grad_accum.saturating_mul(phase.e2e_batch);
            all.push(Relief::E2eBatch(1, accumulation));
        }
        if settings.e2e_qp.is_some() && !inputs.offloads() && devices == 1 {
            let run = !inputs.run_dir;
            all.push(Relief::Offload { run });
        }
        if settings
            .block_ap
            .is_some_and(|phase| phase.batch_size > devices)
        {
            all.push(Relief::BatchSize(devices));
        }
        // It costs accuracy.
        let taught = settings.e2e_qp.and_then(|phase| phase.distillation);
        if taught.is_some() && !inputs.packed {
            all.push(Relief::NoDistillation);
        }
        let divides = |inputs: PlanInputs| inputs.settings.share(inputs.devices).is_ok();
        all.retain(|relief| offered(relief.flag()) && divides(relief.on(inputs.clone())));
        all
    }

    /// The flag's name.
    fn flag(self) -> &'static str {
        match self {
            Relief::CacheMemory(_) => "cache-memory",
            Relief::RunDir => "run",
            Relief::Recompute => "recompute",
            Relief::BatchSize(_) => "batch-size",
            Relief::E2eBatch(..) => "e2e-batch",
            Relief::HalfPrecision => "dtype",
            Relief::Offload { .. } => "offload",
            Relief::CacheDType => "cache-dtype",
            Relief::Calibration => "calibration",
            Relief::NoDistillation => "distillation",
        }
    }

    /// The option for a run that has others by now.
    pub(super) fn after(self, inputs: &PlanInputs) -> Self {
        match self {
            Relief::Offload { .. } => Relief::Offload {
                run: !inputs.run_dir,
            },
            other => other,
        }
    }

    /// The run with this option.
    pub(super) fn on(self, mut inputs: PlanInputs) -> PlanInputs {
        let settings = &mut inputs.settings;
        match self {
            Relief::CacheMemory(bytes) => settings.cache.memory = Some(bytes),
            Relief::RunDir => inputs.run_dir = true,
            Relief::Recompute => {
                if let Some(phase) = &mut settings.e2e_qp {
                    phase.recompute = true;
                }
            }
            Relief::BatchSize(windows) => {
                if let Some(phase) = &mut settings.block_ap {
                    phase.batch_size = windows;
                }
            }
            Relief::E2eBatch(windows, accumulation) => {
                if let Some(phase) = &mut settings.e2e_qp {
                    (phase.e2e_batch, phase.grad_accum) = (windows, accumulation);
                }
            }
            Relief::HalfPrecision => settings.dtype = ComputeType::Bf16,
            Relief::Offload { run } => {
                inputs.run_dir |= run;
                if let Some(phase) = &mut settings.e2e_qp {
                    (phase.recompute, phase.offload) = (true, true);
                }
            }
            Relief::Calibration => inputs.writes_calibration = false,
            Relief::NoDistillation => {
                if let Some(phase) = &mut settings.e2e_qp {
                    phase.distillation = None;
                }
            }
            Relief::CacheDType => settings.cache.dtype = burn_eqat::train::CacheDType::Bf16,
        }
        inputs
    }
}

impl fmt::Display for Relief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relief::CacheMemory(0) => f.write_str("--cache-memory 0"),
            Relief::CacheMemory(bytes) => write!(f, "--cache-memory \"{}\"", size(*bytes)),
            Relief::RunDir => f.write_str("--run DIR"),
            Relief::Recompute => f.write_str("--recompute"),
            Relief::BatchSize(windows) => write!(f, "--batch-size {windows}"),
            Relief::E2eBatch(windows, accumulation) => {
                write!(f, "--e2e-batch {windows} --grad-accum {accumulation}")
            }
            Relief::HalfPrecision => f.write_str("--dtype bf16"),
            Relief::Offload { run: false } => f.write_str("--offload"),
            Relief::Offload { run: true } => f.write_str("--offload --run DIR"),
            Relief::CacheDType => f.write_str("--cache-dtype bf16"),
            Relief::Calibration => f.write_str("--calibration FILE"),
            Relief::NoDistillation => f.write_str("--distillation 0"),
        }
    }
}
