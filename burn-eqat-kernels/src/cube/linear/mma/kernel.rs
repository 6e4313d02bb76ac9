//! The matmul of an input of a few to some dozen rows, on matrix units that are fed from registers.
//!
//! - Supports: up to 64 rows; 2, 3 and 4 bits, and 8 with f16; groups of whole steps of 64 rows; inputs in f16 and bf16 on devices whose
//!   planes multiply 16x8x16 in registers of known places (NVIDIA's); sums in f32.
//! - Refuses: everything else (there is no plan then).
//! - Work: see [`MmaPlan`]. The weight is the left side, with its columns as rows, so a column's codes stay in the unit that loaded
//!   them. Which row of the weight is which place of the summed dimension does not matter, as long as the input has the same order:
//!   it is staged as the codes come. Codes are exact in 16 bits, and step sizes and zero points are applied to sums in f32:
//!   `s (sum q x - z sum x)`, once a step.

use super::codes::{Lane, first_word_row, pair, pair_words, zero_bits, zero_numbers};
use crate::cube::plan::mma::{CODES, MmaPlan, PLANE, STEP, TILE_ROWS, VECTORS};
use crate::cube::words::WeightSizes;
use burn_cubecl::cubecl;
use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;

/// Fragments of 16 columns side by side in a plane. Of its column vector, a unit has two columns in each.
const SIDES: usize = 2;
/// Halves of a unit's input of a step, each a vector.
const HALVES: usize = 2;

/// What a unit loads of a run, as it is in memory, where it takes the fewest registers.
#[derive(CubeType)]
struct Ahead<S: Float, N: Size> {
    words: Array<Vector<u32, N>>,
    scales: Array<Vector<S, N>>,
    zero_points: Array<Vector<S, N>>,
    zero_bits: Array<u32>,
}

#[cube]
impl<S: Float, N: Size> Ahead<S, N> {
    fn new(#[comptime] plan: MmaPlan) -> Ahead<S, N> {
        Ahead::<S, N> {
            words: Array::new(comptime!(plan.run * plan.codes.words())),
            scales: Array::new(plan.run),
            zero_points: Array::new(plan.run),
            zero_bits: Array::new(plan.run),
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn mma_kernel<E: Float, S: Float, O: Float, NX: Size, N: Size>(
    x: &[Vector<E, NX>],
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: ComptimeOption<&[Vector<S, N>]>,
    zero_words: ComptimeOption<&[u32]>,
    bias: ComptimeOption<&[Vector<O, N>]>,
    out: &mut [Vector<O, N>],
    weight: WeightSizes,
    m: usize,
    exponents: u32,
    runs: usize,
    chunks: usize,
    cubes: usize,
    #[comptime] plan: MmaPlan,
    #[define(E, S, O)] _dtypes: [ElemType; 3],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    // Steps of a chunk; there is room for the longest.
    let chunk = runs * comptime!(plan.slices * plan.run);
    let room = comptime!(plan.chunk_room());
    // For each step, tile of rows and half of a unit's codes: what the units of a plane read, side by side.
    let mut input =
        Shared::<[Vector<u32, N>]>::new_slice(comptime!(room * plan.tiles * HALVES * PLANE));
    let mut input_sums = Shared::<[f32]>::new_slice(comptime!(room * plan.rows()));

    let lane = Lane::new();
    let plane = PLANE_POS as usize;
    let slice = plane / plan.across;
    let across = weight.vectors.div_ceil(comptime!(VECTORS * plan.across));
    let down = m.div_ceil(comptime!(plan.rows()));
    let column = CUBE_POS / down % across * comptime!(VECTORS * plan.across)
        + plane % plan.across * VECTORS
        + lane.column;
    // Cubes run over tiles of rows first, which read the same words.
    let split = CUBE_POS / down / across;
    let first_row = CUBE_POS % down * comptime!(plan.rows());
    let first = split * chunks * chunk;

    let mut totals = Array::<Vector<f32, N>>::new(comptime!(plan.sums()));
    #[unroll]
    for i in 0..comptime!(plan.sums()) {
        totals[i] = Vector::new(0.0f32);
    }
    let zeros_in_words = zero_words.is_some();
    // A run is on its way while the one before it is multiplied.
    let mut ahead = Ahead::<S, N>::new(plan);
    let slice_first = first + slice * plan.run;
    load_run::<S, N>(
        &mut ahead,
        words,
        scales,
        zero_points,
        zero_words,
        &weight,
        slice_first,
        column,
        &lane,
        plan,
    );
    for at in 0..chunks {
        let start = first + at * chunk;
        // The chunk before is done with.
        sync_cube();
        stage::<E, NX, N>(
            x,
            &mut input,
            &mut input_sums,
            &weight,
            m,
            first_row,
            start,
            chunk,
            plan,
        );
        sync_cube();
        for i in 0..runs {
            let local = (i * plan.slices + slice) * plan.run;
            let run = copy::<S, N>(&ahead, plan, zeros_in_words);
            load_run::<S, N>(
                &mut ahead,
                words,
                scales,
                zero_points,
                zero_words,
                &weight,
                start + local + comptime!(plan.slices * plan.run),
                column,
                &lane,
                plan,
            );
            #[unroll]
            for step in 0..plan.run {
                add_step::<E, S, N>(
                    &run,
                    &input,
                    &input_sums,
                    &mut totals,
                    weight.exponent,
                    exponents,
                    &lane,
                    local,
                    step,
                    plan,
                    zeros_in_words,
                );
            }
        }
    }

    if comptime!(plan.slices > 1) {
        let others = comptime!((plan.slices - 1) * plan.across * PLANE * plan.sums());
        let mut sums = Shared::<[Vector<f32, N>]>::new_slice(others);
        let unit = plane % plan.across * PLANE + UNIT_POS_PLANE as usize;
        let units = comptime!(plan.across * PLANE);
        if slice > 0 {
            #[unroll]
            for i in 0..comptime!(plan.sums()) {
                sums[((slice - 1) * comptime!(plan.sums()) + i) * units + unit] = totals[i];
            }
        }
        sync_cube();
        if slice == 0 {
            #[unroll]
            for other in 0..comptime!(plan.slices - 1) {
                #[unroll]
                for i in 0..comptime!(plan.sums()) {
                    totals[i] += sums[(other * comptime!(plan.sums()) + i) * units + unit];
                }
            }
        }
    }
    if slice == 0 && column < weight.vectors {
        #[unroll]
        for i in 0..comptime!(plan.sums()) {
            // A unit has two neighbouring rows of each tile.
            let each = comptime!(plan.unit_rows());
            let row = first_row + comptime!(i / each * TILE_ROWS + i % each) + 2 * lane.part;
            if row < m {
                let mut total = totals[i];
                #[comptime]
                if let ComptimeOption::Some(bias) = &bias {
                    total += Vector::<f32, N>::cast_from(bias[column]);
                }
                out[(split * m + row) * weight.vectors + column] = Vector::cast_from(total);
            }
        }
    }
}

/// Loads the run that begins at step `first`; past the weight, what is loaded is multiplied by zeros.
#[cube]
#[allow(clippy::too_many_arguments)]
fn load_run<S: Float, N: Size>(
    ahead: &mut Ahead<S, N>,
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: ComptimeOption<&[Vector<S, N>]>,
    zero_words: ComptimeOption<&[u32]>,
    weight: &WeightSizes,
    first: usize,
    column: usize,
    lane: &Lane,
    #[comptime] plan: MmaPlan,
) {
    let last = weight.rows / STEP - 1;
    let column = column.min(weight.vectors - 1);
    let loads = comptime!(plan.codes.words());
    #[unroll]
    for i in 0..plan.run {
        let step = (first + i).min(last);
        let row = first_word_row(step, lane, plan.codes);
        #[unroll]
        for word in 0..loads {
            ahead.words[comptime!(i * loads + word)] = words[(row + word) * weight.vectors + column];
        }
        let group = step * STEP / weight.group;
        let place = group * weight.vectors + column;
        ahead.scales[i] = scales[place];
        #[comptime]
        if let ComptimeOption::Some(zero_points) = zero_points {
            ahead.zero_points[i] = zero_points[place];
        }
        #[comptime]
        if let ComptimeOption::Some(zero_words) = zero_words {
            ahead.zero_bits[i] =
                zero_bits::<N>(zero_words, group, weight.vectors, column, plan.codes);
        }
    }
}

#[cube]
fn copy<S: Float, N: Size>(
    ahead: &Ahead<S, N>,
    #[comptime] plan: MmaPlan,
    #[comptime] zeros_in_words: bool,
) -> Ahead<S, N> {
    let mut copied = Ahead::<S, N>::new(plan);
    #[unroll]
    for i in 0..comptime!(plan.run * plan.codes.words()) {
        copied.words[i] = ahead.words[i];
    }
    #[unroll]
    for i in 0..plan.run {
        copied.scales[i] = ahead.scales[i];
        if comptime!(zeros_in_words) {
            copied.zero_bits[i] = ahead.zero_bits[i];
        } else {
            copied.zero_points[i] = ahead.zero_points[i];
        }
    }
    copied
}

/// Stages the input of a chunk, in the order of the codes, and its sum over each step; zeros past the input.
#[cube]
#[allow(clippy::too_many_arguments)]
fn stage<E: Float, NX: Size, N: Size>(
    x: &[Vector<E, NX>],
    input: &mut Shared<[Vector<u32, N>]>,
    input_sums: &mut Shared<[f32]>,
    weight: &WeightSizes,
    m: usize,
    first_row: usize,
    start: usize,
    chunk: usize,
    #[comptime] plan: MmaPlan,
) {
    let planes = comptime!(plan.across * plan.slices);
    let lane = Lane::new();
    let vectors = weight.rows / NX::value();
    // A plane takes eight rows of a step at a time.
    for at in range_stepped(PLANE_POS as usize, chunk * plan.tiles, planes) {
        let row = first_row + at % plan.tiles * TILE_ROWS + lane.column;
        let k = (start + at / plan.tiles) * STEP + lane.part * CODES;
        let mut first = Vector::<E, NX>::new(E::from_int(0));
        let mut second = Vector::<E, NX>::new(E::from_int(0));
        if row < m && k < weight.rows {
            let place = row * vectors + k / NX::value();
            first = x[place];
            second = x[place + 1];
        }
        let mut sum = 0.0f32;
        let mut low = Vector::<E, NX>::new(E::from_int(0));
        let mut high = Vector::<E, NX>::new(E::from_int(0));
        #[unroll]
        for i in 0..comptime!(CODES / 4) {
            low.insert(comptime!(2 * i), first.extract(i));
            low.insert(comptime!(2 * i + 1), second.extract(i));
            let j = comptime!(i + CODES / 4);
            high.insert(comptime!(2 * i), first.extract(j));
            high.insert(comptime!(2 * i + 1), second.extract(j));
        }
        #[unroll]
        for i in 0..comptime!(CODES / 2) {
            sum += f32::cast_from(first.extract(i)) + f32::cast_from(second.extract(i));
        }
        let unit = UNIT_POS_PLANE as usize;
        input[at * comptime!(HALVES * PLANE) + unit] = Vector::<u32, N>::reinterpret(low);
        input[at * comptime!(HALVES * PLANE) + PLANE + unit] = Vector::<u32, N>::reinterpret(high);
        // Four units have a row.
        sum += plane_shuffle_xor(sum, 1u32);
        sum += plane_shuffle_xor(sum, 2u32);
        if lane.part == 0 {
            input_sums[at * TILE_ROWS + lane.column] = sum;
        }
    }
}

/// Adds one step: `step` of a run that begins at step `local` of the chunk.
#[cube]
#[allow(clippy::too_many_arguments)]
fn add_step<E: Float, S: Float, N: Size>(
    run: &Ahead<S, N>,
    input: &Shared<[Vector<u32, N>]>,
    input_sums: &Shared<[f32]>,
    totals: &mut Array<Vector<f32, N>>,
    exponent: u32,
    exponents: u32,
    lane: &Lane,
    local: usize,
    #[comptime] step: usize,
    #[comptime] plan: MmaPlan,
    #[comptime] zeros_in_words: bool,
) {
    let size!(N2) = 2usize;
    let units = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let codes = comptime!(plan.codes);
    let pairs = pair_words::<N>(&run.words, comptime!(step * codes.words()), lane, codes);
    // Two fragments of 16 columns each (a column vector has two of each), for each tile of rows.
    let mut products = Sequence::<Array<Vector<f32, N2>>>::new();
    #[unroll]
    for _ in 0..comptime!(plan.tiles * SIDES) {
        let mut zero = Array::<Vector<f32, N2>>::new(2usize);
        zero[0] = Vector::new(0.0f32);
        zero[1] = Vector::new(0.0f32);
        products.push(zero);
    }
    let staged = (local + step) * plan.tiles;
    #[unroll]
    for half in 0..HALVES {
        let mut lefts = Sequence::<Array<Vector<E, N2>>>::new();
        #[unroll]
        for i in 0..2usize {
            let at = comptime!(half * 4 + i * 2);
            let first = pair::<E, N, N2>(&pairs, exponents, at, codes);
            let second = pair::<E, N, N2>(&pairs, exponents, comptime!(at + 1), codes);
            #[unroll]
            for side in 0..SIDES {
                let mut left = Array::<Vector<E, N2>>::new(4usize);
                left[0] = first[comptime!(2 * side)];
                left[1] = first[comptime!(2 * side + 1)];
                left[2] = second[comptime!(2 * side)];
                left[3] = second[comptime!(2 * side + 1)];
                lefts.push(left);
            }
        }
        #[unroll]
        for tile in 0..plan.tiles {
            let place = ((staged + tile) * HALVES + half) * PLANE + UNIT_POS_PLANE as usize;
            let values = input[place];
            #[unroll]
            for i in 0..2usize {
                let mut right = Array::<Vector<E, N2>>::new(2usize);
                right[0] = Vector::<E, N2>::reinterpret(values.extract(comptime!(2 * i)));
                right[1] = Vector::<E, N2>::reinterpret(values.extract(comptime!(2 * i + 1)));
                #[unroll]
                for side in 0..SIDES {
                    let sums = products.index_mut(comptime!(tile * SIDES + side));
                    units.execute_inplace(
                        lefts.index(comptime!(i * SIDES + side)),
                        &right,
                        sums,
                    );
                }
            }
        }
    }
    let scale = Vector::<f32, N>::cast_from(run.scales[step]);
    let zero = if comptime!(zeros_in_words) {
        zero_numbers::<N>(run.zero_bits[step], exponent, plan.codes)
    } else {
        Vector::cast_from(run.zero_points[step])
    };
    #[unroll]
    for tile in 0..plan.tiles {
        #[unroll]
        for odd in 0..comptime!(plan.unit_rows()) {
            let row = (staged + tile) * TILE_ROWS + 2 * lane.part + odd;
            let sum = Vector::<f32, N>::new(input_sums[row]);
            let mut product = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for side in 0..SIDES {
                let sums = products.index(comptime!(tile * SIDES + side));
                product.insert(comptime!(2 * side), sums[0].extract(odd));
                product.insert(comptime!(2 * side + 1), sums[1].extract(odd));
            }
            totals[comptime!(tile * plan.unit_rows() + odd)] += (product - zero * sum) * scale;
        }
    }
}
