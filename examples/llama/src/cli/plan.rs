use super::progress::say;
use super::quantize::{self, Planned, main_device};
use crate::error::Error;
use crate::plan::{Machine, Place, Plan, PlannedTimes, measure, plan};
use burn_eqat::train::TimeLeft;
use serde_json::{Value, json};
use std::time::Duration;

/// Say what quantizing a model takes, before it is done
///
/// Takes the flags of `llama quantize` and the same settings, and prints memory, room on disk and optimizer steps of each phase, and
/// the sizes before and after. Only config.json and the headers of the files are read; where there are no weights yet, config.json
/// is enough. The sizes of a calibration text are those asked for, since it is not read.
///
/// A run that does not fit is said, and is no failure: the exit code is 0. It is 1 where there is no plan, such as for flags that make
/// no sense.
#[derive(clap::Args, Debug)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    run: quantize::Args,
    /// Run a step of each phase on one block with random weights, and reckon how long the phases take, on a single device
    #[arg(long)]
    measure: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: PlanArgs) -> Result<(), Error> {
    args.run.check_plan()?;
    let (flags, planned) = Planned::of(args.run)?;
    let plan = plan(&planned.inputs)?;
    let fits = planned.check(&flags, Machine::look());
    let times = if args.measure {
        Some(measure(&planned.inputs, &main_device(&flags)?)?)
    } else {
        None
    };
    if args.json {
        let fits = fits.as_ref().err().map(ToString::to_string);
        let value = as_json(&plan, times, fits);
        say(&format!("{value:#}\n"));
        return Ok(());
    }
    let inputs = &planned.inputs;
    let scheme = inputs.settings.scheme;
    say(&format!("{}  {scheme}\n", planned.dir.display()));
    say(&format!(
        "{}: {}\n",
        planned.chosen,
        quantize::sizes(&inputs.settings)
    ));
    if !planned.counted {
        say("these are the sizes asked for: a text that is shorter has fewer windows\n");
    }
    if inputs.file_bytes.is_none() {
        say("there are no weights: sizes are those of config.json\n");
    }
    say(&plan.to_string());
    if let Some(times) = times {
        let left = |seconds: f64| match Duration::try_from_secs_f64(seconds) {
            Ok(duration) => TimeLeft(duration).to_string(),
            Err(_) => "more than can be said".to_string(),
        };
        let steps = times.steps;
        say(&format!(
            "\ntime{}: block-ap {} (a step {:.3} s), e2e-ap {}, e2e-qp {} (a batch through a block {:.3} s, through the output layer {:.3} s)\n",
            match inputs.devices {
                1 => "",
                _ => " on one device alone",
            },
            left(times.block_ap),
            steps.block_ap_step,
            left(times.e2e_ap),
            left(times.e2e_qp),
            steps.e2e_qp_step,
            steps.e2e_qp_head
        ));
    }
    if let Err(error) = fits {
        say(&format!("\nit does not fit here: {error}\n"));
    }
    Ok(())
}

/// The plan, and the sums of its phases.
fn as_json(plan: &Plan, times: Option<PlannedTimes>, lacking: Option<String>) -> Value {
    let totals = plan.phases.iter().map(|phase| {
        json!({
            "phase": phase.name,
            "device": plan.bytes(phase, Place::Device),
            "host": plan.bytes(phase, Place::Host),
            "disk": plan.bytes(phase, Place::Disk),
            "steps": phase.steps,
        })
    });
    json!({
        "totals": totals.collect::<Vec<_>>(),
        "plan": plan,
        "seconds": times,
        "does_not_fit": lacking,
    })
}
