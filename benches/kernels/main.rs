//! Compares the packed ops on a device with Burn's dense linear layer and the bandwidth of a copy, in one run.
//!
//! Prints a table and saves it as JSON and Markdown. It runs on Burn's default device of the compiled backend, or on
//! the device that `BURN_DEVICE` names.

mod dense;
mod measure;
mod report;
mod work;

use burn::tensor::{DType, Device, FloatDType};
use burn_eqat::kernels::{Bits, supports};
use clap::Parser;
use report::{Report, Row};
use std::path::PathBuf;
use work::{Op, Work};

/// Compares the packed ops with Burn's dense linear layer on one device.
#[derive(Parser, Debug)]
struct Options {
    /// Sizes of weights, d_output x d_input as in papers
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "4096x4096,11008x4096,8192x8192,28672x8192",
        value_parser = parse_shape
    )]
    shapes: Vec<Shape>,
    /// Bits of a code
    #[arg(long, value_delimiter = ',', default_value = "2,3,4", value_parser = parse_bits)]
    bits: Vec<Bits>,
    /// Rows of a group
    #[arg(long, default_value_t = 64)]
    group_size: usize,
    /// Rows of the input
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,2,4,8,16,32,64,256,2048",
        value_parser = at_least_one
    )]
    rows: Vec<usize>,
    /// Parts to measure: packed (inference), forward, input (its gradient), scale (its gradient), fake (quantization)
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "packed,forward,input,scale,fake"
    )]
    ops: Vec<Op>,
    /// Bytes that a copy moves to measure the bandwidth, in MiB
    #[arg(long, default_value_t = 1024, value_parser = at_least_one)]
    copy_mib: usize,
    /// Seconds that each measurement may take
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// A JSON file from torch_baseline.py, with times of PyTorch and GemLite on the same device
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Name of the tables: NAME.json and NAME.md
    #[arg(long, default_value = "kernels")]
    output: PathBuf,
}

/// Columns and rows of a weight.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n: usize,
    k: usize,
}

fn parse_shape(text: &str) -> Result<Shape, String> {
    let parsed = text.split_once('x').and_then(|(n, k)| {
        let (n, k) = (n.parse().ok()?, k.parse().ok()?);
        Some(Shape { n, k }).filter(|shape| shape.n > 0 && shape.k > 0)
    });
    parsed.ok_or_else(|| format!("{text:?} is not a shape like 11008x4096"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

fn parse_bits(text: &str) -> Result<Bits, String> {
    let bits: usize = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    Bits::try_from(bits).map_err(|error| error.to_string())
}

/// The half precision of the device: bf16 if it has it, else f16, else f32.
fn activations(device: &Device) -> FloatDType {
    [
        (DType::BF16, FloatDType::BF16),
        (DType::F16, FloatDType::F16),
    ]
    .into_iter()
    .find(|(dtype, _)| supports(device, *dtype))
    .map_or(FloatDType::F32, |(_, float)| float)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let group = options.group_size;
    if let Some(Shape { k, .. }) = options
        .shapes
        .iter()
        .find(|shape| group == 0 || !shape.k.is_multiple_of(group))
    {
        return Err(format!("groups of {group} rows do not divide {k} rows").into());
    }
    let device = Device::default();
    let dtype = activations(&device);
    let copy = measure::copy_bandwidth(&device, options.copy_mib << 20, options.seconds);
    let mut report = Report::new(&device, dtype, copy, options.beside.as_deref())?;
    report.save(&options.output)?;
    println!("{}", report.heading());

    for Shape { n, k } in options.shapes.iter().copied() {
        for op in options.ops.iter().copied() {
            // Fake quantization has no input.
            let rows = if op == Op::Fake {
                &[0][..]
            } else {
                &options.rows
            };
            for m in rows.iter().copied() {
                let dense = dense::time(op, [m, k, n], dtype, &device, options.seconds);
                for bits in options.bits.iter().copied() {
                    let work = Work {
                        op,
                        bits,
                        m,
                        k,
                        n,
                        groups: k / options.group_size,
                        dtype,
                    };
                    for (part, bytes, seconds) in work.measure(&device, options.seconds) {
                        report.add(Row::new(part, &work, bytes, seconds, dense));
                        // What took long is not lost to what comes after it.
                        report.save(&options.output)?;
                    }
                }
            }
        }
    }
    Ok(())
}
