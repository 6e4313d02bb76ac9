//! The matmul of an input of a few to some dozen rows, on matrix units that are fed from registers.
//!
//! - Supports: up to 128 rows; 2, 3 and 4 bits, and 8 with f16; groups of whole steps of 64 rows; inputs in f16 and bf16 on devices
//!   whose planes multiply 16x8x16 in registers of known places (NVIDIA's); sums in f32.
//! - Refuses: everything else (there is no plan then).
//! - Work: see [`MmaPlan`]. The weight is the left side, with its columns as rows, so a column's codes stay in the unit that loaded
//!   them. Which row of the weight is which place of the summed dimension does not matter, as long as the input has the same order:
//!   it is staged as the codes come. What the matrix units get is `2^e + q`, exact in 16 bits, and their sums begin at
//!   `-sum 2^e x`, so that they end at `sum q x`. Step sizes and zero points are applied to these in f32, once a step:
//!   `s (sum q x - z sum x)`.

use super::codes::{Lane, ZeroPlace, first_word_row, pair, pair_words};
use crate::cube::plan::mma::{CODES, MmaPlan, PLANE, PairCodes, STEP, TILE_ROWS, VECTORS};
use crate::cube::words::WeightSizes;
use burn_cubecl::cubecl;
use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;

/// Fragments of 16 columns side by side in a plane. Of its column vector, a unit has two columns in each.
const SIDES: usize = 2;
/// Halves of a unit's input of a step, each a vector.
const HALVES: usize = 2;
/// Units that share a column, or a row of the input.
const PARTS: usize = STEP / CODES;

/// Two numbers in a register, or of a row: of a unit's fragments.
type Two = Const<2>;

/// What a unit loads of a run, as it is in memory: so it takes the fewest registers, and nothing waits for it before it is needed.
#[derive(CubeType)]
struct Ahead<S: Float, N: Size> {
    words: Array<Vector<u32, N>>,
    scales: Array<Vector<S, N>>,
    zero_points: Array<Vector<S, N>>,
    zero_words: Array<u32>,
}

#[cube]
impl<S: Float, N: Size> Ahead<S, N> {
    fn new(#[comptime] plan: MmaPlan) -> Ahead<S, N> {
        Ahead::<S, N> {
            words: Array::new(comptime!(plan.run * plan.codes.words())),
            scales: Array::new(plan.run),
            zero_points: Array::new(plan.run),
            zero_words: Array::new(comptime!(plan.run * plan.codes.zero_words())),
        }
    }
}

/// The input of a chunk. For each step, tile of rows and half of a unit's codes, `input` has what the units of a plane read; for each
/// step and row, `sums` has the sum, and `exponents` that of what the codes' exponents add.
#[derive(CubeType)]
struct Staged<N: Size> {
    input: Shared<[Vector<u32, N>]>,
    sums: Shared<[f32]>,
    exponents: Shared<[f32]>,
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
    let rows = comptime!(plan.chunk_room() * plan.rows());
    let mut staged = Staged::<N> {
        input: Shared::new_slice(comptime!(rows * HALVES * PARTS)),
        sums: Shared::new_slice(rows),
        exponents: Shared::new_slice(rows),
    };

    let lane = Lane::new();
    let plane = PLANE_POS as usize;
    let slice = plane / plan.across;
    // Cubes run over tiles of rows first, which read the same words.
    let down = m.div_ceil(comptime!(plan.rows()));
    let across = weight.vectors.div_ceil(comptime!(VECTORS * plan.across));
    let first_row = CUBE_POS % down * comptime!(plan.rows());
    let column = CUBE_POS / down % across * comptime!(VECTORS * plan.across)
        + plane % plan.across * VECTORS
        + lane.column;
    let split = CUBE_POS / down / across;
    let first = split * chunks * chunk;

    let mut totals = Array::<Vector<f32, N>>::new(comptime!(plan.sums()));
    #[unroll]
    for i in 0..comptime!(plan.sums()) {
        totals[i] = Vector::new(0.0f32);
    }
    // The words of a run are there before it begins. Those of a step are replaced once it is multiplied, so that there are the other
    // steps of the run for them to come.
    let zeros = ZeroPlace::new::<N>(&weight, column, plan.codes);
    let mut ahead = Ahead::<S, N>::new(plan);
    #[unroll]
    for step in 0..plan.run {
        load_step::<S, N>(
            &mut ahead,
            words,
            scales,
            zero_points,
            zero_words,
            &zeros,
            &weight,
            first + slice * plan.run,
            column,
            &lane,
            step,
            plan,
        );
    }
    let steps = weight.rows / STEP;
    for at in 0..chunks {
        let start = first + at * chunk;
        // The chunk before is done with.
        sync_cube();
        stage::<E, NX, N>(x, &mut staged, &weight, m, first_row, start, chunk, plan);
        sync_cube();
        for i in 0..runs {
            let local = (i * plan.slices + slice) * plan.run;
            #[unroll]
            for step in 0..plan.run {
                // Without this branch, NVIDIA's assembler moves the loads below to where their words are needed, to save registers,
                // and every run waits for them.
                if start + local + step < steps {
                    add_step::<E, S, N>(
                        &ahead,
                        &staged,
                        &mut totals,
                        &zeros,
                        weight.exponent,
                        exponents,
                        &lane,
                        local,
                        step,
                        plan,
                        zero_words.is_some(),
                    );
                }
                load_step::<S, N>(
                    &mut ahead,
                    words,
                    scales,
                    zero_points,
                    zero_words,
                    &zeros,
                    &weight,
                    start + local + comptime!(plan.slices * plan.run),
                    column,
                    &lane,
                    step,
                    plan,
                );
            }
        }
    }

    if comptime!(plan.slices > 1) {
        add_slices::<N>(&mut totals, slice, plane % plan.across, plan);
    }
    if slice == 0 && column < weight.vectors {
        let each = comptime!(plan.unit_rows());
        #[unroll]
        for i in 0..comptime!(plan.sums()) {
            // A unit has two neighbouring rows of each tile.
            let row = comptime!(i / each * TILE_ROWS + i % each) + 2 * lane.part;
            // Past the rows of a tile, units have those of others once more.
            if row < comptime!(plan.rows()) && first_row + row < m {
                let mut total = totals[i];
                #[comptime]
                if let ComptimeOption::Some(bias) = &bias {
                    total += Vector::<f32, N>::cast_from(bias[column]);
                }
                out[(split * m + first_row + row) * weight.vectors + column] =
                    Vector::cast_from(total);
            }
        }
    }
}

/// Adds the totals of all slices of a cube to those of the first.
#[cube]
fn add_slices<N: Size>(
    totals: &mut Array<Vector<f32, N>>,
    slice: usize,
    plane_across: usize,
    #[comptime] plan: MmaPlan,
) {
    let units = comptime!(plan.across * PLANE);
    let each = comptime!(plan.sums());
    let mut sums =
        Shared::<[Vector<f32, N>]>::new_slice(comptime!((plan.slices - 1) * units * each));
    let unit = plane_across * PLANE + UNIT_POS_PLANE as usize;
    if slice > 0 {
        #[unroll]
        for i in 0..each {
            sums[((slice - 1) * each + i) * units + unit] = totals[i];
        }
    }
    sync_cube();
    if slice == 0 {
        #[unroll]
        for other in 0..comptime!(plan.slices - 1) {
            #[unroll]
            for i in 0..each {
                totals[i] += sums[(other * each + i) * units + unit];
            }
        }
    }
}

/// Loads step `step` of the run that begins at step `first`; past the weight, what is loaded is multiplied by zeros.
#[cube]
#[allow(clippy::too_many_arguments)]
fn load_step<S: Float, N: Size>(
    ahead: &mut Ahead<S, N>,
    words: &[Vector<u32, N>],
    scales: &[Vector<S, N>],
    zero_points: ComptimeOption<&[Vector<S, N>]>,
    zero_words: ComptimeOption<&[u32]>,
    zeros: &ZeroPlace,
    weight: &WeightSizes,
    first: usize,
    column: usize,
    lane: &Lane,
    #[comptime] step: usize,
    #[comptime] plan: MmaPlan,
) {
    // Runs divide the steps of a weight.
    let first = first.min(weight.rows / STEP - plan.run);
    let column = column.min(weight.vectors - 1);
    let loads = comptime!(plan.codes.words());
    let place = first_word_row(first, lane, plan.codes) * weight.vectors + column;
    #[unroll]
    for word in 0..loads {
        let row = comptime!(step * plan.codes.step_words() + word);
        ahead.words[comptime!(step * loads + word)] = words[place + row * weight.vectors];
    }
    let group = if comptime!(plan.group_shift.is_some()) {
        (first + step) >> comptime!(plan.group_shift.unwrap())
    } else {
        (first + step) * STEP / weight.group
    };
    let place = group * weight.vectors + column;
    ahead.scales[step] = scales[place];
    #[comptime]
    if let ComptimeOption::Some(zero_points) = zero_points {
        ahead.zero_points[step] = zero_points[place];
    }
    #[comptime]
    if let ComptimeOption::Some(zero_words) = zero_words {
        let place = group * zeros.row_words + zeros.word;
        let loads = comptime!(plan.codes.zero_words());
        ahead.zero_words[comptime!(step * loads)] = zero_words[place];
        if comptime!(loads > 1) {
            ahead.zero_words[comptime!(step * loads + 1)] = zero_words[place + zeros.next];
        }
    }
}

/// Stages the input of a chunk in the order of the codes, with zeros past it.
#[cube]
#[allow(clippy::too_many_arguments)]
fn stage<E: Float, NX: Size, N: Size>(
    x: &[Vector<E, NX>],
    staged: &mut Staged<N>,
    weight: &WeightSizes,
    m: usize,
    first_row: usize,
    start: usize,
    chunk: usize,
    #[comptime] plan: MmaPlan,
) {
    let units = comptime!(plan.units());
    let vectors = weight.rows / NX::value();
    let tile_units = comptime!(plan.tile_rows * PARTS);
    let total = chunk * comptime!(plan.tiles * tile_units);
    // Several turns are loaded together. All units of a plane take part in each, as they add up.
    let turns = comptime!(plan.stage_turns());
    for round in 0..total.div_ceil(units * turns) {
        let mut values = Array::<Vector<E, NX>>::new(comptime!(2 * turns));
        #[unroll]
        for turn in 0..turns {
            let at = (round * turns + turn) * units + UNIT_POS as usize;
            let tile = at / tile_units;
            let row = first_row
                + tile % plan.tiles * comptime!(plan.tile_rows)
                + at / PARTS % comptime!(plan.tile_rows);
            let k = (start + tile / plan.tiles) * STEP + at % PARTS * CODES;
            let mut first = Vector::<E, NX>::new(E::from_int(0));
            let mut second = Vector::<E, NX>::new(E::from_int(0));
            if at < total && row < m && k < weight.rows {
                let place = row * vectors + k / NX::value();
                first = x[place];
                second = x[place + 1];
            }
            values[comptime!(2 * turn)] = first;
            values[comptime!(2 * turn + 1)] = second;
        }
        #[unroll]
        for turn in 0..turns {
            let at = (round * turns + turn) * units + UNIT_POS as usize;
            put::<E, NX, N>(
                values[comptime!(2 * turn)],
                values[comptime!(2 * turn + 1)],
                staged,
                at,
                at < total,
                plan,
            );
        }
    }
}

/// Puts the two halves of a unit's 16 values where matrix units want them, and adds them up.
#[cube]
fn put<E: Float, NX: Size, N: Size>(
    first: Vector<E, NX>,
    second: Vector<E, NX>,
    staged: &mut Staged<N>,
    at: usize,
    is_there: bool,
    #[comptime] plan: MmaPlan,
) {
    let mut low = Vector::<E, NX>::new(E::from_int(0));
    let mut high = Vector::<E, NX>::new(E::from_int(0));
    let quarter = comptime!(CODES / 4);
    #[unroll]
    for i in 0..quarter {
        low.insert(comptime!(2 * i), first.extract(i));
        low.insert(comptime!(2 * i + 1), second.extract(i));
        high.insert(comptime!(2 * i), first.extract(comptime!(i + quarter)));
        high.insert(comptime!(2 * i + 1), second.extract(comptime!(i + quarter)));
    }
    let mut sum = 0.0f32;
    let mut exponents = 0.0f32;
    #[unroll]
    for i in 0..comptime!(CODES / 2) {
        let both = f32::cast_from(first.extract(i)) + f32::cast_from(second.extract(i));
        sum += both;
        exponents += both * comptime!(one(plan.codes, i));
    }
    // Four units have a row.
    #[unroll]
    for bit in 0..2u32 {
        sum += plane_shuffle_xor(sum, comptime!(1u32 << bit));
        exponents += plane_shuffle_xor(exponents, comptime!(1u32 << bit));
    }
    if is_there {
        let tile_units = comptime!(plan.tile_rows * PARTS);
        let place = at / tile_units * comptime!(HALVES * tile_units) + at % tile_units;
        staged.input[place] = Vector::<u32, N>::reinterpret(low);
        staged.input[place + tile_units] = Vector::<u32, N>::reinterpret(high);
        let part = at % PARTS;
        if part == 0 {
            staged.sums[at / PARTS] = sum;
            staged.exponents[at / PARTS] = exponents;
        }
    }
}

/// The exponent's value in pair `i`.
fn one(codes: PairCodes, i: usize) -> f32 {
    codes.one(codes.field(i).place)
}

/// Where the sum of a unit's row of a staged tile is: the first of its two, or the second. Where a tile has fewer rows, units have
/// those of others once more.
#[cube]
fn row_place(tile: usize, #[comptime] odd: usize, lane: &Lane, #[comptime] plan: MmaPlan) -> usize {
    tile * comptime!(plan.tile_rows) + (2 * lane.part + odd) % comptime!(plan.tile_rows)
}

/// Adds one step: `step` of a run that begins at step `local` of the chunk.
#[cube]
#[allow(clippy::too_many_arguments)]
fn add_step<E: Float, S: Float, N: Size>(
    run: &Ahead<S, N>,
    staged: &Staged<N>,
    totals: &mut Array<Vector<f32, N>>,
    zeros: &ZeroPlace,
    exponent: u32,
    exponents: u32,
    lane: &Lane,
    local: usize,
    #[comptime] step: usize,
    #[comptime] plan: MmaPlan,
    #[comptime] zeros_in_words: bool,
) {
    let units = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let codes = comptime!(plan.codes);
    let pairs = pair_words::<N>(&run.words, comptime!(step * codes.words()), lane, codes);
    let first_tile = (local + step) * plan.tiles;
    let tile_units = comptime!(plan.tile_rows * PARTS);
    let each = comptime!(plan.unit_rows());
    // Of each tile of rows, the products of each side, with two columns of each row.
    let mut products = Sequence::<Array<Vector<f32, Two>>>::new();
    #[unroll]
    for tile in 0..plan.tiles {
        let mut start = Vector::<f32, Two>::new(0.0f32);
        #[unroll]
        for odd in 0..each {
            start.insert(
                odd,
                -staged.exponents[row_place(first_tile + tile, odd, lane, plan)],
            );
        }
        #[unroll]
        for _ in 0..SIDES {
            let mut side = Array::<Vector<f32, Two>>::new(2usize);
            side[0] = start;
            side[1] = start;
            products.push(side);
        }
    }
    #[unroll]
    for half in 0..HALVES {
        let mut lefts = Sequence::<Array<Vector<E, Two>>>::new();
        #[unroll]
        for i in 0..2usize {
            let at = comptime!(half * 4 + i * 2);
            let first = pair::<E, N, Two>(&pairs, exponents, at, codes);
            let second = pair::<E, N, Two>(&pairs, exponents, comptime!(at + 1), codes);
            #[unroll]
            for side in 0..SIDES {
                let mut left = Array::<Vector<E, Two>>::new(4usize);
                left[0] = first[comptime!(2 * side)];
                left[1] = first[comptime!(2 * side + 1)];
                left[2] = second[comptime!(2 * side)];
                left[3] = second[comptime!(2 * side + 1)];
                lefts.push(left);
            }
        }
        #[unroll]
        for tile in 0..plan.tiles {
            let place = ((first_tile + tile) * HALVES + half) * tile_units;
            let values = staged.input[place + UNIT_POS_PLANE as usize % tile_units];
            #[unroll]
            for i in 0..2usize {
                let mut right = Array::<Vector<E, Two>>::new(2usize);
                right[0] = Vector::<E, Two>::reinterpret(values.extract(comptime!(2 * i)));
                right[1] = Vector::<E, Two>::reinterpret(values.extract(comptime!(2 * i + 1)));
                #[unroll]
                for side in 0..SIDES {
                    units.execute_inplace(
                        lefts.index(comptime!(i * SIDES + side)),
                        &right,
                        products.index_mut(comptime!(tile * SIDES + side)),
                    );
                }
            }
        }
    }
    let scale = Vector::<f32, N>::cast_from(run.scales[step]);
    let zero = if comptime!(zeros_in_words) {
        zeros.numbers::<N>(&run.zero_words, exponent, step, plan.codes)
    } else {
        Vector::cast_from(run.zero_points[step])
    };
    #[unroll]
    for tile in 0..plan.tiles {
        #[unroll]
        for odd in 0..each {
            let at = comptime!(tile * each + odd);
            let sum = staged.sums[row_place(first_tile + tile, odd, lane, plan)];
            let mut product = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for side in 0..SIDES {
                let columns = products.index(comptime!(tile * SIDES + side));
                product.insert(comptime!(2 * side), columns[0].extract(odd));
                product.insert(comptime!(2 * side + 1), columns[1].extract(odd));
            }
            totals[at] += (product - zero * Vector::new(sum)) * scale;
        }
    }
}
