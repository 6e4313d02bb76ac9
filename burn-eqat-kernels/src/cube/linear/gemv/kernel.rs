//! The matrix-vector kernel: a few rows of input times a packed weight, bound by memory.
//!
//! - Supports: 1 to 8 rows; 2, 3, 4 and 8 bits; every group size; any float types of the device;
//!   sums in f32.
//! - Refuses: more rows, and an input whose shortest range does not fit in shared memory (there is no plan
//!   then).
//! - Work: see [`GemvPlan`]. The words are read in vectors of columns, each once. The input of a
//!   cube's range is staged in shared memory, divided by the power of two of each code's position in its
//!   window, so that a code costs a mask, a subtraction and a multiply-add, but no shift.

use crate::block::Block;
use crate::cube::plan::gemv::GemvPlan;
use crate::cube::words::{WeightSizes, block_weights, column_codes, scaled_code, window};
use burn_cubecl::cubecl;
use cubecl::prelude::*;

#[cube(launch_unchecked)]
pub(crate) fn gemv_kernel<X: Float, S: Float, O: Float, N: Size>(
    x: &[X],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: ComptimeOption<&[Vector<S, N>]>,
    zero_words: ComptimeOption<&[u32]>,
    bias: ComptimeOption<&[Vector<O, N>]>,
    out: &mut [Vector<O, N>],
    weight: WeightSizes,
    m: usize,
    cubes: usize,
    #[comptime] plan: GemvPlan,
    #[comptime] block: Block,
    #[define(X, S, O)] _dtypes: [ElemType; 3],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let run_rows = comptime!(plan.run * block.fields);
    let range_rows = comptime!(plan.range * run_rows);
    let run_stride = comptime!(plan.run_stride(run_rows));
    let units = comptime!(plan.units());
    let mut input = Shared::<[f32]>::new_slice(comptime!(plan.rows * plan.range * run_stride));
    let mut input_sums = Shared::<[f32]>::new_slice(plan.rows * plan.range);
    let mut sums = Shared::<[Vector<f32, N>]>::new_slice(units);

    let tiles = weight.vectors.div_ceil(plan.lanes);
    let split = CUBE_POS / tiles;
    let unit = UNIT_POS as usize;
    let mut place = unit;
    if comptime!(plan.plane > 0) {
        place = (PLANE_POS as usize) * plan.plane + UNIT_POS_PLANE as usize;
    }
    let column = CUBE_POS % tiles * plan.lanes + place % plan.lanes;
    let slice = place / plan.lanes;
    let first_row = split * range_rows;

    // The words of the unit's first run are on their way while the input is staged, and each further run's while the one before it
    // is computed: a load that is made where its words are needed is waited for, and the compiler moves loads there.
    let mut ahead = Array::<Vector<u32, N>>::new(comptime!(plan.run * block.words));
    if comptime!(plan.aligned) {
        load_run::<N>(
            words,
            &mut ahead,
            &weight,
            first_row + slice * run_rows,
            column,
            plan,
            block,
        );
    }

    // Stage the input, each value divided by the power of two at which its code stands.
    let total = comptime!(plan.rows * range_rows);
    let steps = comptime!(total.div_ceil(units));
    #[unroll(steps <= 16)]
    for step in 0..steps {
        let at = step * units + unit;
        let row = at / range_rows;
        let i = at % range_rows;
        let k = first_row + i;
        let mut value = 0.0f32;
        if row < m && k < weight.rows {
            value = f32::cast_from(x[row * weight.rows + k]);
        }
        if comptime!(plan.aligned) {
            let shift = u32::cast_from(i % block.fields % block.window * block.bits);
            // 2^-shift, by its exponent.
            value *= f32::reinterpret((127u32 - shift) << 23u32);
        }
        if at < total {
            input[(row * plan.range + i / run_rows) * run_stride + i % run_rows] = value;
        }
    }
    sync_cube();
    // And the plain sum of each run, for the zero points.
    if comptime!(plan.aligned) {
        for at in range_stepped(unit, plan.rows * plan.range, units) {
            let mut sum = 0.0f32;
            for b in 0..plan.run {
                #[unroll]
                for i in 0..block.fields {
                    let back = comptime!((1u32 << block.shift(i)) as f32);
                    sum += input[at * run_stride + b * block.fields + i] * back;
                }
            }
            input_sums[at] = sum;
        }
        sync_cube();
    }

    let mut totals = Array::<Vector<f32, N>>::new(plan.rows);
    #[unroll]
    for row in 0..plan.rows {
        totals[row] = Vector::new(0.0f32);
    }
    if column < weight.vectors {
        for run in range_stepped(slice, plan.range, plan.slices) {
            let run_row = first_row + run * run_rows;
            if run_row < weight.rows {
                if comptime!(plan.aligned) {
                    let loaded = copy::<N>(&ahead, comptime!(plan.run * block.words));
                    let next_row = run_row + comptime!(plan.slices * run_rows);
                    if run + plan.slices < plan.range && next_row < weight.rows {
                        load_run::<N>(words, &mut ahead, &weight, next_row, column, plan, block);
                    }
                    let group = run_row / weight.group;
                    let mut zero = Vector::<f32, N>::new(0.0f32);
                    #[comptime]
                    if let ComptimeOption::Some(zero_points) = zero_points {
                        zero = Vector::cast_from(zero_points[group * weight.vectors + column]);
                    }
                    #[comptime]
                    if let ComptimeOption::Some(zero_words) = zero_words {
                        zero = column_codes::<N>(zero_words, group, weight.vectors, column, block);
                    }
                    add_run::<S, N>(
                        &loaded,
                        scales,
                        zero,
                        &input,
                        &input_sums,
                        &mut totals,
                        &weight,
                        run,
                        run_row,
                        column,
                        plan,
                        block,
                    );
                } else {
                    #[comptime]
                    if let ComptimeOption::Some(zero_points) = zero_points {
                        add_block::<S, N>(
                            words,
                            scales,
                            zero_points,
                            &input,
                            &mut totals,
                            &weight,
                            run,
                            run_row,
                            column,
                            plan,
                            block,
                        );
                    }
                }
            }
        }
    }

    // All units of a plane are to take part in what follows.
    sync_cube();
    // Add the slices up, row by row.
    #[unroll]
    for row in 0..plan.rows {
        let mut total = totals[row];
        if comptime!(plan.plane > 0) {
            #[unroll]
            for step in 0..comptime!((plan.plane / plan.lanes).ilog2() as usize) {
                #[unroll]
                for i in 0..N::value() {
                    let mask = comptime!((plan.lanes << step) as u32);
                    let other = plane_shuffle_xor(total.extract(i), mask);
                    total.insert(i, total.extract(i) + other);
                }
            }
        }
        sums[place] = total;
        sync_cube();
        if slice == 0 && column < weight.vectors && row < m {
            // With planes, the first slice of each plane holds the sum of all of its slices.
            let stride = comptime!(if plan.plane > 0 {
                plan.plane
            } else {
                plan.lanes
            });
            #[unroll]
            for part in 1..comptime!(units / stride) {
                total += sums[place + part * stride];
            }
            #[comptime]
            if let ComptimeOption::Some(bias) = &bias {
                total += Vector::<f32, N>::cast_from(bias[column]);
            }
            out[(split * m + row) * weight.vectors + column] = Vector::cast_from(total);
        }
        sync_cube();
    }
}

/// Loads the words of the run that begins at row `row`, or of the last one where there is none, of a column that is there.
#[cube]
fn load_run<N: Size>(
    words: &[Vector<u32, N>],
    loaded: &mut Array<Vector<u32, N>>,
    weight: &WeightSizes,
    row: usize,
    column: usize,
    #[comptime] plan: GemvPlan,
    #[comptime] block: Block,
) {
    let run_rows = comptime!(plan.run * block.fields);
    let first = row.min(weight.rows - run_rows) / block.fields * block.words;
    let column = column.min(weight.vectors - 1);
    #[unroll]
    for i in 0..comptime!(plan.run * block.words) {
        loaded[i] = words[(first + i) * weight.vectors + column];
    }
}

/// The first `len` words.
#[cube]
fn copy<N: Size>(words: &Array<Vector<u32, N>>, #[comptime] len: usize) -> Array<Vector<u32, N>> {
    let mut copied = Array::<Vector<u32, N>>::new(len);
    #[unroll]
    for i in 0..len {
        copied[i] = words[i];
    }
    copied
}

/// Adds a run of blocks of one group, whose words are loaded: `s * (sum q x - z sum x)`.
#[cube]
#[allow(clippy::too_many_arguments)]
fn add_run<S: Float, N: Size>(
    loaded: &Array<Vector<u32, N>>,
    scales: &[Vector<S, N>],
    zero: Vector<f32, N>,
    input: &Shared<[f32]>,
    input_sums: &Shared<[f32]>,
    totals: &mut Array<Vector<f32, N>>,
    weight: &WeightSizes,
    run: usize,
    run_row: usize,
    column: usize,
    #[comptime] plan: GemvPlan,
    #[comptime] block: Block,
) {
    let run_rows = comptime!(plan.run * block.fields);
    let run_stride = comptime!(plan.run_stride(run_rows));
    let place = run_row / weight.group * weight.vectors + column;
    let scale = Vector::<f32, N>::cast_from(scales[place]);
    let mut products = Array::<Vector<f32, N>>::new(plan.rows);
    #[unroll]
    for row in 0..plan.rows {
        products[row] = Vector::new(0.0f32);
    }
    #[unroll]
    for at in 0..plan.run {
        #[unroll]
        for w in 0..block.windows() {
            let bits = window::<N>(loaded, comptime!(at * block.words), w, block);
            #[unroll]
            for i in 0..block.window_fields(w) {
                let code = scaled_code::<N>(bits, weight.exponent, i, block);
                let k = comptime!(at * block.fields + w * block.window + i);
                #[unroll]
                for row in 0..plan.rows {
                    products[row] +=
                        code * Vector::new(input[(row * plan.range + run) * run_stride + k]);
                }
            }
        }
    }
    #[unroll]
    for row in 0..plan.rows {
        let sum = Vector::new(input_sums[row * plan.range + run]);
        totals[row] += (products[row] - zero * sum) * scale;
    }
}

/// Adds one block whose rows may lie in several groups.
#[cube]
#[allow(clippy::too_many_arguments)]
fn add_block<S: Float, N: Size>(
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: &[Vector<S, N>],
    input: &Shared<[f32]>,
    totals: &mut Array<Vector<f32, N>>,
    weight: &WeightSizes,
    run: usize,
    run_row: usize,
    column: usize,
    #[comptime] plan: GemvPlan,
    #[comptime] block: Block,
) {
    let run_stride = comptime!(plan.run_stride(block.fields));
    let at = run_row / block.fields;
    let weights =
        block_weights::<S, N>(words, scales, zero_points, weight, at, column, block, false);
    #[unroll]
    for i in 0..block.fields {
        #[unroll]
        for row in 0..plan.rows {
            // The input is zero past the last row of the weight.
            let value = input[(row * plan.range + run) * run_stride + i];
            totals[row] += weights[i] * Vector::new(value);
        }
    }
}
