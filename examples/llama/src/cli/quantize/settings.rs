//! From flags to settings. A flag without effect is an error that names it.

use super::Args;
use super::preset::{ChosenPreset, PresetSizes, RatesFrom};
use crate::cli::numbers::{check_counts, check_rates, check_seq_len};
use crate::error::Error;
use crate::quantize::{BlockApSettings, E2eApSettings, E2eQpSettings, QuantizeSettings, Rates};
use burn_eqat::files::PackedSchemes;
use burn_eqat::train::{CacheConfig, DistillationConfig};
use burn_eqat::{ComputeType, Method, Scheme};

/// The flags of the phases: their use, and whether they are given.
fn given(args: &Args) -> [(&'static str, bool, Use); 27] {
    use Use::*;
    [
        ("--train-size", args.train_size.is_some(), BlockAp),
        ("--batch-size", args.batch_size.is_some(), BlockAp),
        ("--epochs", args.epochs.is_some(), BlockAp),
        ("--bits-budget", args.bits_budget.is_some(), BlockAp),
        ("--start", args.start.is_some(), BlockAp),
        ("--block-loss", args.block_loss.is_some(), BlockAp),
        ("--lookahead", args.lookahead.is_some(), BlockAp),
        ("--rates", args.rates.is_some(), BlockAp),
        ("--quant-lr", args.quant_lr.is_some(), BlockAp),
        ("--weight-lr", args.weight_lr.is_some(), BlockAp),
        ("--cache-memory", args.cache_memory.is_some(), BlockAp),
        ("--cache-dtype", args.cache_dtype.is_some(), BlockAp),
        ("--cache-dir", args.cache_dir.is_some(), ByBlock),
        ("--override", !args.overrides.is_empty(), FullPrecision),
        ("--val-size", args.val_size.is_some(), Training),
        ("--e2e-size", args.e2e_size.is_some(), E2eQp),
        ("--e2e-batch", args.e2e_batch.is_some(), E2eQp),
        ("--e2e-epochs", args.e2e_epochs.is_some(), E2eQp),
        ("--e2e-lr", args.e2e_lr.is_some(), E2eQp),
        ("--grad-accum", args.grad_accum.is_some(), E2eQp),
        ("--distillation", args.distillation.is_some(), Original),
        ("--e2e-ap-epochs", args.e2e_ap_epochs.is_some(), Original),
        ("--e2e-ap-lr", args.e2e_ap_lr.is_some(), Original),
        (
            "--e2e-ap-quant-lr",
            args.e2e_ap_quant_lr.is_some(),
            Original,
        ),
        (
            "--distillation-temperature",
            args.distillation_temperature.is_some(),
            Original,
        ),
        ("--recompute", args.recompute.is_some(), E2eQp),
        ("--offload", args.offload, E2eQp),
    ]
}

/// What a flag is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Models that are not packed.
    FullPrecision,
    /// Models that are measured block by block.
    ByBlock,
    /// Block-AP.
    BlockAp,
    /// Either phase.
    Training,
    /// E2E-QP.
    E2eQp,
    /// E2E-QP of a model whose original is there.
    Original,
}

/// Fails for flags that have no effect with the method.
pub(super) fn check_method(args: &Args) -> Result<(), Error> {
    let method = args.method();
    let refuse = |what: &str, why: &str| {
        let message = format!("{what} has no effect with --method {method}: {why}");
        Err(Error::Setting(message))
    };
    for (flag, given, used) in given(args) {
        match used {
            Use::BlockAp | Use::Training | Use::E2eQp | Use::Original
                if given && method == Method::Rtn =>
            {
                return refuse(flag, "nothing is trained");
            }
            Use::E2eQp | Use::Original if given && method == Method::BlockAp => {
                return refuse(flag, "E2E-QP does not run");
            }
            _ => {}
        }
    }
    if args.device.count() > 1 && method == Method::Rtn {
        return refuse("--device with several devices", "nothing is trained");
    }
    let devices = args.device.count();
    if args.offload && devices > 1 {
        let message =
            format!("--offload is for a single device: --device names {devices}, expected one");
        return Err(Error::Setting(message));
    }
    if args.offload && args.run.is_none() && args.resume.is_none() && args.output.is_none() {
        let message = "--offload needs a run directory to read blocks from: give --run or --output";
        return Err(Error::Setting(message.to_string()));
    }
    if args.calibration.is_some() && !args.needs_calibration() {
        return refuse(
            "--calibration",
            "nothing is trained, and there is a text to measure perplexity on",
        );
    }
    Ok(())
}

/// Fails for settings that do not go together: E2E-AP with blocks in files and several batches a step, and the type of activations on
/// disk where none of Block-AP go there. (Those of an evaluation do, whatever their directory, and are not rounded.)
pub(super) fn check_together(args: &Args, settings: &QuantizeSettings) -> Result<(), Error> {
    if let Some(phase) = settings.e2e_qp
        && phase.e2e_ap.is_some()
        && phase.offload
        && phase.grad_accum > 1
    {
        let message = format!(
            "--offload has E2E-AP take a step with each batch: expected --grad-accum 1, or --e2e-ap-epochs 0, found {}",
            phase.grad_accum
        );
        return Err(Error::Setting(message));
    }
    if let Some(phase) = settings.e2e_qp
        && phase.e2e_epochs == 0
        && phase.e2e_ap.is_none()
    {
        let message = "--e2e-epochs is 0, expected 1 or more where E2E-AP does not run";
        return Err(Error::Setting(message.to_string()));
    }
    if args.cache_dtype.is_some() && settings.cache.memory.is_none() {
        let message =
            "--cache-dtype has no effect without --cache-memory: all activations are in memory";
        return Err(Error::Setting(message.to_string()));
    }
    Ok(())
}

/// Fails for flags that have no effect with a packed model.
pub(super) fn check_packed(args: &Args, packed: &PackedSchemes) -> Result<(), String> {
    if args.method() != Method::EfficientQat {
        let method = args.method();
        return Err(format!(
            "is packed already ({packed}), expected full precision for --method {method}"
        ));
    }
    if let Some(scheme) = args.scheme.filter(|scheme| *scheme != packed.scheme) {
        return Err(format!(
            "is packed in {packed}, expected full precision for {scheme}"
        ));
    }
    for (flag, given, used) in given(args) {
        // Its blocks are in memory, unless they take turns.
        let in_memory = used == Use::ByBlock && !args.offload;
        if given && (in_memory || matches!(used, Use::FullPrecision | Use::BlockAp | Use::Original))
        {
            return Err(format!(
                "is packed already ({packed}), expected full precision for {flag}"
            ));
        }
    }
    Ok(())
}

/// Fails for invalid numbers.
pub(super) fn check_numbers(args: &Args) -> Result<(), Error> {
    check_counts(&[
        ("--train-size", args.train_size),
        ("--batch-size", args.batch_size),
        ("--epochs", args.epochs),
        ("--e2e-size", args.e2e_size),
        ("--e2e-batch", args.e2e_batch),
        ("--grad-accum", args.grad_accum),
    ])?;
    check_rates(&[
        ("--quant-lr", args.quant_lr),
        ("--weight-lr", args.weight_lr),
        ("--e2e-lr", args.e2e_lr),
        ("--e2e-ap-lr", args.e2e_ap_lr),
        ("--e2e-ap-quant-lr", args.e2e_ap_quant_lr),
    ])?;
    check_distillation(args)?;
    if args.rates == Some(RatesFrom::Auto) && args.val_size == Some(0) {
        let message = "--rates auto needs validation windows, and --val-size is 0";
        return Err(Error::Setting(message.to_string()));
    }
    if let Some(budget) = args.bits_budget.filter(|bits| !(0.0..=16.0).contains(bits)) {
        let message = format!("--bits-budget is {budget}, expected bits per weight, such as 2.6");
        return Err(Error::Setting(message));
    }
    check_seq_len(args.seq_len)
}

/// Fails for a distillation that makes no sense.
fn check_distillation(args: &Args) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::Setting(message));
    if let Some(weight) = args.distillation.filter(|w| !(0.0..=1.0).contains(w)) {
        return refuse(format!("--distillation is {weight}, expected 0 to 1"));
    }
    let temperature = args.distillation_temperature;
    if let Some(temperature) = temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
        return refuse(format!(
            "--distillation-temperature is {temperature}, expected more than 0"
        ));
    }
    if temperature.is_some() && args.distillation == Some(0.0) {
        return refuse(
            "--distillation-temperature has no effect with --distillation 0".to_string(),
        );
    }
    Ok(())
}

/// E2E-AP, if it runs. On the text alone it learns that text by heart, so by default it runs where the original teaches it.
fn e2e_ap(
    args: &Args,
    preset: &PresetSizes,
    distillation: Option<DistillationConfig>,
    packed: bool,
) -> Option<E2eApSettings> {
    let default = match distillation {
        Some(_) => preset.e2e_ap_epochs,
        None => 0,
    };
    let epochs = args.e2e_ap_epochs.unwrap_or(default);
    (!packed && epochs > 0).then_some(E2eApSettings { epochs })
}

/// How much is learned from the original; `None` for nothing.
fn distillation(args: &Args, preset: &PresetSizes, packed: bool) -> Option<DistillationConfig> {
    let weight = args.distillation.unwrap_or(preset.distillation);
    let config = DistillationConfig::new()
        .with_weight(weight)
        .with_temperature(args.distillation_temperature.unwrap_or(1.0));
    (!packed && weight > 0.0).then_some(config)
}

/// The settings for a full-precision model, or one that is `packed`: what is given, and the preset's for the rest.
pub(super) fn settings(
    args: &Args,
    chosen: &ChosenPreset,
    scheme: Scheme,
    packed: bool,
    dtype: ComputeType,
) -> QuantizeSettings {
    let trains = args.method() > Method::Rtn;
    let preset = chosen.preset.sizes();
    let block_ap = BlockApSettings {
        train_size: args.train_size.unwrap_or(preset.train_size),
        batch_size: args.batch_size.unwrap_or(preset.batch_size),
        epochs: args.epochs.unwrap_or(preset.epochs),
        start: args.start.unwrap_or(preset.start),
        loss: args.block_loss.unwrap_or(preset.loss),
        lookahead: args.lookahead.unwrap_or(preset.lookahead),
        probe_rates: args.rates == Some(RatesFrom::Auto),
    };
    let distillation = distillation(args, &preset, packed);
    let e2e_ap = e2e_ap(args, &preset, distillation, packed);
    let e2e_qp = E2eQpSettings {
        e2e_size: args.e2e_size.unwrap_or(preset.e2e_size),
        e2e_batch: args.e2e_batch.unwrap_or(preset.e2e_batch),
        // E2E-AP takes its place.
        e2e_epochs: args.e2e_epochs.unwrap_or(match e2e_ap {
            Some(_) => 0,
            None => preset.e2e_epochs,
        }),
        grad_accum: args.grad_accum.unwrap_or(match args.e2e_batch {
            // The preset's batches belong together with its size of them.
            Some(_) => 1,
            None => preset.grad_accum,
        }),
        recompute: args.offload || args.recompute.unwrap_or(preset.recompute),
        offload: args.offload,
        distillation,
        e2e_ap,
    };
    let rates = chosen.rates(scheme.bits);
    QuantizeSettings {
        scheme,
        overrides: args.overrides.clone(),
        method: args.method(),
        block_ap: (trains && !packed).then_some(block_ap),
        seq_len: chosen.seq_len(args),
        val_size: if trains {
            args.val_size.unwrap_or(preset.val_size)
        } else {
            0
        },
        cache: CacheConfig::new()
            .with_memory(args.cache_memory.map(|size| size.0).or(preset.cache_memory))
            .with_dtype(args.cache_dtype.unwrap_or_default())
            .with_dir(args.cache_dir.clone()),
        e2e_qp: (args.method() == Method::EfficientQat).then_some(e2e_qp),
        rates: Rates {
            quant: args.quant_lr.or(rates.map(|rates| rates.quantizer)),
            weight: args.weight_lr.or(rates.map(|rates| rates.weights)),
            e2e: args.e2e_lr.or(rates.map(|rates| rates.e2e)),
            e2e_ap_quant: (args.e2e_ap_quant_lr).or(rates.map(|rates| rates.e2e_ap_quantizer)),
            e2e_ap_weight: args.e2e_ap_lr.or(rates.map(|rates| rates.e2e_ap_weights)),
        },
        seed: args.seed(),
        dtype,
    }
}
