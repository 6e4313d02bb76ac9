//! Plan of the kernel that feeds matrix units from registers, for inputs of few to some dozen rows.

use super::limits::Limits;
use crate::Bits;
use crate::problem::Problem;
use burn::tensor::DType;

/// Rows of a weight that a plane multiplies in a step: four units of a plane share a column, and take 16 codes each.
pub(crate) const STEP: usize = 64;

/// Codes of a column that a unit takes in a step.
pub(crate) const CODES: usize = 16;

/// Column vectors of a plane.
pub(crate) const VECTORS: usize = 8;

/// Columns of a vector.
pub(crate) const WIDTH: usize = 4;

/// Rows of the input that matrix units multiply at a time.
pub(crate) const TILE_ROWS: usize = 8;

/// Units of a plane.
pub(crate) const PLANE: usize = 32;

/// The most tiles of rows of a cube: more take too many registers.
const MAX_TILES: usize = 4;

/// The most rows of a launch. With more, words are unpacked so often that staging them is better.
pub(crate) const MAX_ROWS: usize = 128;

/// The most bytes of staged input of a cube, and the most steps.
const STAGED: usize = 32 << 10;
const MOST_STAGED: usize = 128;

/// The work of a cube in a matmul of up to [`MAX_ROWS`] rows. A kernel is compiled for each.
///
/// A plane takes [`VECTORS`] column vectors, and steps along `k`. Its units unpack codes into the registers that the matrix units
/// read, so weights are never staged. A cube has `across` planes side by side and `slices` planes along `k`, which share the input
/// that it stages, a chunk at a time. Slices are added up through shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MmaPlan {
    /// Times [`TILE_ROWS`] rows of the input.
    pub tiles: usize,
    /// Planes side by side.
    pub across: usize,
    /// Planes that share columns.
    pub slices: usize,
    /// Steps whose words are in registers. Those of the next run take the place of each that is multiplied.
    pub run: usize,
    /// Rows of a tile that are staged: all eight, or fewer if there are no more.
    pub tile_rows: usize,
    /// Steps of a group, as a power of two; `None` if they are none.
    pub group_shift: Option<usize>,
    /// How the codes of a unit become floats.
    pub codes: PairCodes,
}

/// The ranges of such a matmul along `k`, which a second kernel adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MmaSplit {
    /// Runs of a slice in a chunk of staged input.
    pub runs: usize,
    /// Chunks of a range.
    pub chunks: usize,
    /// Ranges.
    pub splits: usize,
}

impl MmaPlan {
    /// A plan for an input of type `dtype`, columns in vectors of `width`, and `across` planes side by side. `None` if the device has
    /// no such matrix units for this type, for more than [`MAX_ROWS`] rows, and where groups, columns or codes do not fit the
    /// registers.
    pub fn new(
        problem: &Problem,
        dtype: DType,
        width: usize,
        across: usize,
        limits: &Limits,
    ) -> Option<(MmaPlan, MmaSplit)> {
        let fits = limits.mma
            && (1..=MAX_ROWS).contains(&problem.m)
            && width == WIDTH
            && problem.k > 0
            && problem.group().is_multiple_of(STEP);
        if !fits {
            return None;
        }
        let codes = PairCodes::new(problem.bits, dtype)?;
        let tiles = problem
            .m
            .div_ceil(TILE_ROWS)
            .next_power_of_two()
            .min(MAX_TILES);
        let tile_rows = problem.m.next_power_of_two().min(TILE_ROWS);
        let planes = if tiles <= 2 { 8 } else { 4 }.max(across);
        let steps = problem.k / STEP;
        let slices = planes / across;
        // Vectors of words that are on their way. On an H200, with 32 bytes a single row leaves room for twice the cubes, and sums of
        // many rows for one more; in between, 64 bytes are worth their registers.
        let run = match problem.m {
            1..TILE_ROWS => 2,
            TILE_ROWS..=16 => 4,
            _ => 1,
        };
        let room = STAGED / (tiles * tile_rows * STEP * 2 * slices);
        let run = (run / codes.words()).min(room).max(1);
        // A run is whole, so its places need one comparison.
        let run = run.min(1 << steps.trailing_zeros());
        let group_steps = problem.group() / STEP;
        let plan = MmaPlan {
            tiles,
            across,
            slices,
            run,
            tile_rows,
            group_shift: group_steps
                .is_power_of_two()
                .then(|| group_steps.ilog2() as usize),
            codes,
        };
        // Ranges: enough to keep the device busy, each of one run or more.
        let wanted = limits
            .busy
            .div_ceil(plan.cubes(problem.m, problem.n / width));
        let runs = steps.div_ceil(slices * run);
        let range = runs.div_ceil(wanted.min(runs));
        let chunks = range.div_ceil(plan.chunk_room() / (slices * run));
        let split = MmaSplit {
            runs: range.div_ceil(chunks),
            chunks,
            splits: 0,
        };
        let splits = runs.div_ceil(split.runs * chunks);
        Some((plan, MmaSplit { splits, ..split }))
    }

    /// Cubes of a range.
    pub fn cubes(&self, m: usize, vectors: usize) -> usize {
        m.div_ceil(self.rows()) * vectors.div_ceil(VECTORS * self.across)
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.across * self.slices * PLANE
    }

    /// The most steps of a chunk of staged input.
    pub fn chunk_room(&self) -> usize {
        let turn = self.slices * self.run;
        let room = (STAGED / (self.rows() * STEP * 2)).min(MOST_STAGED);
        (room / turn).max(1) * turn
    }

    /// Bytes of shared memory of a cube: the staged input, its sums, and the sums of all slices but one.
    #[cfg(test)]
    fn shared(&self) -> usize {
        let step = self.rows() * (STEP * 2 + 8);
        let sums = self.across * PLANE * self.sums() * WIDTH * 4;
        self.chunk_room() * step + (self.slices - 1) * sums
    }

    /// Sums of column vectors that a unit has.
    pub fn sums(&self) -> usize {
        self.tiles * self.unit_rows()
    }

    /// Loads of the input that a unit makes together.
    pub fn stage_turns(&self) -> usize {
        let all = self.chunk_room() * self.rows() * (STEP / CODES);
        all.div_ceil(self.units()).min(4)
    }

    /// Rows of each tile that a unit has sums of.
    pub fn unit_rows(&self) -> usize {
        self.tile_rows.min(2)
    }

    /// Rows of the input that are staged; those past the last are zeros.
    pub fn rows(&self) -> usize {
        self.tiles * self.tile_rows
    }
}

/// How a unit's 16 codes of a column become eight pairs of floats: code `i` beside code `i + 8`.
///
/// The codes come as words whose lower half has some of the first eight codes, and whose upper half has their partners at the same
/// bits. A field that is masked in both halves, under the exponent of a float that has room for it in its mantissa, is a pair of floats
/// `2^e + q`. The sums of these lose what they have of `2^e` later, and with it some bits: as many as it is larger than the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PairCodes {
    /// Bits of a code.
    pub bits: usize,
    /// Bits of the mantissa.
    pub mantissa: usize,
    /// The exponent's bias.
    bias: usize,
}

/// A pair of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairField {
    /// The word that has it.
    pub word: usize,
    /// By how many bits the word is moved up first.
    pub up: usize,
    /// Or down.
    pub down: usize,
    /// The field's place after that.
    pub place: usize,
}

impl PairCodes {
    /// `None` if a code has no room in the mantissa of `dtype`, or if it has more than 16 bits.
    pub fn new(bits: Bits, dtype: DType) -> Option<Self> {
        let (mantissa, bias) = match dtype {
            DType::F16 => (10, 15),
            DType::BF16 => (7, 127),
            _ => return None,
        };
        let bits = bits.get();
        (bits <= mantissa).then_some(PairCodes {
            bits,
            mantissa,
            bias,
        })
    }

    /// Words of packed codes that hold a unit's codes, and as many with pairs. With 3 bits, a packed word is shared with a neighbour.
    pub fn words(&self) -> usize {
        (CODES * self.bits).div_ceil(32)
    }

    /// Words of a column in a step.
    pub fn step_words(&self) -> usize {
        STEP * self.bits / 32
    }

    /// Words with the zero points of a column vector: fields of 3 bits may lie in two.
    pub fn zero_words(&self) -> usize {
        if self.bits == 3 { 2 } else { 1 }
    }

    /// The first of those words in the column of a step, for unit `lane` of four.
    #[cfg(test)]
    fn first_word(&self, lane: usize) -> usize {
        match self.bits {
            3 => lane / 2 * 3 + lane % 2,
            _ => lane * self.words(),
        }
    }

    /// Where pair `i` is.
    pub fn field(&self, i: usize) -> PairField {
        let (word, bit) = match self.bits {
            // Bits 0 to 15 and bits 8 to 23 of each half's 24.
            3 if i < 5 => (0, i * 3),
            3 => (1, i * 3 - 8),
            bits => (i * bits / 16, i * bits % 16),
        };
        // 2^10 in f16 would be so much larger than a code of two bits that its sums, too, are below what f16 has.
        let lowest = if self.mantissa > 8 && self.bits == 2 {
            2
        } else {
            0
        };
        let room = self.mantissa - lowest;
        // Fields that have room beside each other are moved together.
        let together = room / self.bits * self.bits;
        let first = if bit + self.bits <= room {
            0
        } else {
            bit - bit % together
        };
        PairField {
            word,
            up: lowest.saturating_sub(first),
            down: first.saturating_sub(lowest),
            place: lowest + bit - first,
        }
    }

    /// The bits of a pair of `2^mantissa`, under which a mantissa is an integer.
    pub fn exponents(&self) -> u32 {
        self.both(((self.mantissa + self.bias) << self.mantissa) as u32)
    }

    /// What is taken from [`exponents`](Self::exponents), to leave those of `2^(mantissa - place)`.
    pub fn less(&self, place: usize) -> u32 {
        self.both((place << self.mantissa) as u32)
    }

    /// The mask of a field.
    pub fn mask(&self, place: usize) -> u32 {
        self.both(((1u32 << self.bits) - 1) << place)
    }

    /// The value of the exponent of a field.
    pub fn one(&self, place: usize) -> f32 {
        (1u32 << (self.mantissa - place)) as f32
    }

    fn both(&self, half: u32) -> u32 {
        half | half << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, pack_codes};
    use proptest::prelude::*;

    /// The words with pairs of the 16 codes of unit `lane` of four, from the 64 codes of a column, as the kernel makes them.
    fn pair_words(packed: &[u32], codes: PairCodes, lane: usize) -> Vec<u32> {
        let loaded: Vec<u32> = (0..codes.words())
            .map(|i| packed[codes.first_word(lane) + i])
            .collect();
        let (low, high) = (0xffff, 0xffff_0000);
        if codes.bits == 3 {
            let both = (loaded[0] as u64 | (loaded[1] as u64) << 32) >> (16 * (lane % 2));
            let (first, second) = (both as u32, (both >> 24) as u32);
            return vec![
                first & low | second << 16,
                first >> 8 & low | second << 8 & high,
            ];
        }
        if codes.words() == 1 {
            return loaded;
        }
        let half = codes.words() / 2;
        (0..codes.words())
            .map(|i| match (loaded[i / 2], loaded[i / 2 + half]) {
                (a, b) if i % 2 == 0 => a & low | b << 16,
                (a, b) => a >> 16 | b & high,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn pairs_are_the_codes(which in 0usize..4, seed in any::<u64>(), wide in any::<bool>()) {
            let (bits, dtype) = (Bits::ALL[which], if wide { DType::F16 } else { DType::BF16 });
            let Some(codes) = PairCodes::new(bits, dtype) else {
                prop_assert_eq!((bits, dtype), (Bits::Eight, DType::BF16));
                return Ok(());
            };
            let mut state = seed;
            let column: Vec<i64> = (0..STEP)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 40) as i64 & bits.max_code() as i64
                })
                .collect();
            let packed = pack_codes(&column, [STEP, 1], 0, bits, Fields::Dense).unwrap();
            for lane in 0..STEP / CODES {
                let words = pair_words(&packed, codes, lane);
                for i in 0..CODES / 2 {
                    let PairField { word, up, down, place } = codes.field(i);
                    prop_assert!(place + codes.bits <= codes.mantissa);
                    let pair = words[word] << up >> down & codes.mask(place)
                        | (codes.exponents() - codes.less(place));
                    for (half, code) in [(pair as u16, i), ((pair >> 16) as u16, i + CODES / 2)] {
                        let value = match dtype {
                            DType::F16 => half::f16::from_bits(half).to_f32(),
                            _ => half::bf16::from_bits(half).to_f32(),
                        };
                        prop_assert_eq!(value - codes.one(place), column[lane * CODES + code] as f32);
                    }
                }
            }
        }

        #[test]
        fn ranges_cover_the_weight_and_fit(
            m in 0usize..150, steps in 1usize..40, groups in 1usize..20, vectors in 1usize..2000,
            which in 0usize..4, wide in any::<bool>(), across in 0usize..4,
        ) {
            let limits = Limits::GPU;
            let (k, n) = (steps * STEP * groups, vectors * WIDTH);
            let problem = Problem { m, k, n, groups, bits: Bits::ALL[which] };
            let dtype = if wide { DType::F16 } else { DType::BF16 };
            let Some((plan, split)) = MmaPlan::new(&problem, dtype, WIDTH, 1 << across, &limits) else {
                let eight = problem.bits == Bits::Eight && !wide;
                prop_assert!(m == 0 || m > MAX_ROWS || eight);
                return Ok(());
            };
            prop_assert!(plan.units() <= limits.units);
            let chunk = split.runs * plan.slices * plan.run;
            prop_assert!(chunk <= plan.chunk_room(), "{plan:?} {split:?}");
            let range = chunk * split.chunks * STEP;
            prop_assert!(split.splits * range >= k, "{plan:?} {split:?}");
            prop_assert!((split.splits - 1) * range < k, "{plan:?} {split:?}");
            prop_assert!(plan.shared() <= limits.shared, "{plan:?}");
        }
    }
}
