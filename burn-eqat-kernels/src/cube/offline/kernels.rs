//! Every kernel, with the arguments of its launch.

use super::gpu::Gpu;
use crate::Bits;
use crate::cube::dequantize::kernel::{
    PartCompilationArg, dequantize_backward_kernel, dequantize_kernel,
};
use crate::cube::fake_quantize::kernel::{fake_quantize_backward_kernel, fake_quantize_kernel};
use crate::cube::group::ChunksCompilationArg;
use crate::cube::limits::elem;
use crate::cube::linear::gemv::kernel::gemv_kernel;
use crate::cube::linear::mma::INPUT_WIDTH;
use crate::cube::linear::mma::kernel::mma_kernel;
use crate::cube::linear::tile::forward::{forward_matrix_kernel, forward_units_kernel};
use crate::cube::linear::tile::input::{input_matrix_kernel, input_units_kernel};
use crate::cube::linear::tile::load_width;
use crate::cube::linear::tile::scale::{scale_matrix_kernel, scale_units_kernel};
use crate::cube::plan::gemv::GemvPlan;
use crate::cube::plan::group::GroupPlan;
use crate::cube::plan::limits::Limits;
use crate::cube::plan::mma::MmaPlan;
use crate::cube::plan::sizes::vector_width;
use crate::cube::plan::strategy::{Strategy, strategies};
use crate::cube::plan::tile::{Engine, MatmulKind, TilePlan};
use crate::cube::reduce::kernel::reduce_kernel;
use crate::cube::unpack::kernel::{unpack_columns_kernel, unpack_kernel};
use crate::cube::words::WeightSizesCompilationArg;
use crate::problem::Problem;
use burn::tensor::DType;
use burn_cubecl::cubecl::ir::{DeviceProperties, TargetProperties};
use burn_cubecl::cubecl::prelude::*;
use std::sync::Arc;

/// A kernel, ready to be compiled.
pub(super) struct Kernel {
    pub name: String,
    pub definition: KernelDefinition,
    pub uses: Uses,
}

/// What a kernel is to use, or was found to use.
#[derive(Clone, Copy)]
pub(super) struct Uses {
    /// Loads of 16 bytes; one that reads words needs them, others may have them.
    pub wide_loads: bool,
    /// Whether matrix units multiply.
    pub matrix: bool,
    /// Whether planes add up.
    pub shuffles: bool,
}

/// Rows of the inputs: of the matrix-vector kernel, of tiles, and of matrix units fed from registers.
const ROWS: [usize; 4] = [1, 2, 4, 8];
const TILE_ROWS: [usize; 3] = [16, 64, 2048];
const MMA_ROWS: [usize; 4] = [1, 16, 32, 64];

const K: usize = 8192;
const N: usize = 28672;
const GROUP: usize = 64;

/// Those that a weight of `bits` and activations of type `dtype` can take on a GPU; step sizes are in f16, as files have them.
pub(super) fn kernels(gpu: &Gpu, bits: Bits, dtype: DType) -> Vec<Kernel> {
    Kernels {
        lanes: gpu.lanes(),
        limits: gpu.limits(dtype),
        properties: gpu.properties(),
        problem: Problem {
            m: 1,
            k: K,
            n: N,
            groups: K / GROUP,
            bits,
        },
        dtype,
        made: Vec::new(),
    }
    .all()
}

struct Kernels {
    lanes: usize,
    limits: Limits,
    properties: Arc<DeviceProperties>,
    problem: Problem,
    dtype: DType,
    made: Vec<Kernel>,
}

fn buffer() -> BufferCompilationArg {
    BufferCompilationArg { inplace: None }
}

fn sizes() -> WeightSizesCompilationArg {
    WeightSizesCompilationArg {
        rows: (),
        word_rows: (),
        vectors: (),
        group: (),
        exponent: (),
    }
}

fn chunks() -> ChunksCompilationArg {
    ChunksCompilationArg {
        rows: (),
        count: (),
    }
}

/// Units of a cube of an elementwise kernel.
const ELEMENTWISE: usize = 256;

/// Columns of a vector.
const WIDTH: usize = 4;

/// Makes a kernel of the module that `#[cube]` makes.
macro_rules! kernel {
    ($self:ident, $units:expr, $module:ident :: $kernel:ident, ($($argument:expr),* $(,)?)) => {
        $module::$kernel::new(
            KernelSettings::new(
                *CubeDim::new_1d($units as u32),
                ExecutionMode::Unchecked,
                AddressType::U32,
            ),
            $self.properties.clone(),
            Arc::new(TargetProperties::default()),
            $($argument),*
        )
        .define()
    };
}

/// Makes the kernel of an engine. The kernels of both engines have the same arguments.
macro_rules! kernel_by {
    ($self:ident, $engine:expr, $units:expr, $by_units:ident :: $units_kernel:ident,
        $by_matrix:ident :: $matrix_kernel:ident, $arguments:tt) => {
        match $engine {
            Engine::Units => kernel!($self, $units, $by_units::$units_kernel, $arguments),
            Engine::Matrix => kernel!($self, $units, $by_matrix::$matrix_kernel, $arguments),
        }
    };
}

impl Kernels {
    fn all(mut self) -> Vec<Kernel> {
        for m in ROWS {
            self.gemv(m);
        }
        for m in MMA_ROWS {
            self.mma(m);
        }
        for engine in [Engine::Units, Engine::Matrix] {
            for m in TILE_ROWS {
                self.forward(engine, m);
                self.input(engine, m);
            }
            self.scale(engine);
        }
        self.dequantize();
        self.unpack();
        self.fake_quantize();
        self.reduce();
        self.made
    }

    /// Types of activations and step sizes.
    fn types(&self) -> [ElemType; 2] {
        [elem(self.dtype), elem(DType::F16)]
    }

    /// The type of outputs: sums of ranges stay in f32.
    fn output(&self, splits: usize) -> ElemType {
        match splits {
            1 => elem(self.dtype),
            _ => elem(DType::F32),
        }
    }

    fn add(&mut self, name: impl Into<String>, reads_words: bool, definition: KernelDefinition) {
        self.made.push(Kernel {
            name: name.into(),
            definition,
            uses: Uses {
                wide_loads: reads_words,
                matrix: false,
                shuffles: false,
            },
        });
    }

    fn last(&mut self) -> &mut Kernel {
        self.made.last_mut().expect("one was made")
    }

    fn gemv(&mut self, m: usize) {
        let problem = Problem { m, ..self.problem };
        // The first that is tried, and what it reads of a packed model.
        let plan = GemvPlan::new(&problem, WIDTH, self.lanes, &self.limits).expect("it fits");
        let [x, s] = self.types();
        let out = self.output(plan.splits);
        let zero_words = ComptimeOptionCompilationArg::Some(buffer());
        let definition = kernel!(
            self,
            plan.units(),
            gemv_kernel::GemvKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                ComptimeOptionCompilationArg::None,
                zero_words,
                ComptimeOptionCompilationArg::None,
                buffer(),
                sizes(),
                (),
                (),
                WIDTH,
                plan,
                problem.block(),
                [x, s, out],
            )
        );
        self.add(format!("linear, {m} rows"), true, definition);
        self.last().uses.shuffles = plan.plane > 0;
    }

    fn mma(&mut self, m: usize) {
        let problem = Problem { m, ..self.problem };
        let Some(Strategy::Mma(across)) = strategies(MatmulKind::Forward, m, &self.limits)
            .first()
            .copied()
        else {
            return;
        };
        let Some((plan, split)) = MmaPlan::new(&problem, self.dtype, WIDTH, across, &self.limits)
        else {
            return;
        };
        let [x, s] = self.types();
        let out = self.output(split.splits);
        let zero_words = ComptimeOptionCompilationArg::Some(buffer());
        let definition = kernel!(
            self,
            plan.units(),
            mma_kernel::MmaKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                ComptimeOptionCompilationArg::None,
                zero_words,
                ComptimeOptionCompilationArg::None,
                buffer(),
                sizes(),
                (),
                (),
                (),
                (),
                (),
                INPUT_WIDTH,
                WIDTH,
                plan,
                [x, s, out],
            )
        );
        self.add(format!("linear from registers, {m} rows"), true, definition);
        self.last().uses.matrix = true;
        self.last().uses.shuffles = true;
    }

    fn tile(&self, engine: Engine, kind: MatmulKind, sizes: [usize; 3]) -> Option<TilePlan> {
        TilePlan::new(engine, kind, sizes, WIDTH, &self.limits)
    }

    fn forward(&mut self, engine: Engine, m: usize) {
        let Some(plan) = self.tile(engine, MatmulKind::Forward, [m, N, K]) else {
            return;
        };
        let x_width = vector_width(K, load_width(self.dtype, &self.limits));
        let (problem, [x, s]) = (self.problem, self.types());
        let out = self.output(plan.splits);
        let definition = kernel_by!(
            self,
            engine,
            plan.units(),
            forward_units_kernel::ForwardUnitsKernel,
            forward_matrix_kernel::ForwardMatrixKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                ComptimeOptionCompilationArg::None,
                buffer(),
                sizes(),
                (),
                (),
                (),
                x_width,
                WIDTH,
                plan,
                problem.block(),
                problem.aligned(),
                [x, s, out],
            )
        );
        self.add(format!("linear by {engine:?}, {m} rows"), true, definition);
        self.last().uses.matrix = engine == Engine::Matrix;
    }

    fn input(&mut self, engine: Engine, m: usize) {
        let Some(plan) = self.tile(engine, MatmulKind::InputGradient, [m, K, N]) else {
            return;
        };
        let (problem, [x, s]) = (self.problem, self.types());
        let out = self.output(plan.splits);
        let definition = kernel_by!(
            self,
            engine,
            plan.units(),
            input_units_kernel::InputUnitsKernel,
            input_matrix_kernel::InputMatrixKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                sizes(),
                (),
                (),
                (),
                WIDTH,
                plan,
                problem.block(),
                problem.aligned(),
                [x, s, out],
            )
        );
        let name = format!("gradient by the input by {engine:?}, {m} rows");
        self.add(name, true, definition);
        self.last().uses.matrix = engine == Engine::Matrix;
    }

    fn scale(&mut self, engine: Engine) {
        let Some(plan) = self.tile(engine, MatmulKind::ScaleGradient, [GROUP, N, 2048]) else {
            return;
        };
        let x_width = vector_width(GROUP, load_width(self.dtype, &self.limits));
        let (problem, [x, s]) = (self.problem, self.types());
        let definition = kernel_by!(
            self,
            engine,
            plan.units(),
            scale_units_kernel::ScaleUnitsKernel,
            scale_matrix_kernel::ScaleMatrixKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                sizes(),
                (),
                (),
                (),
                x_width,
                WIDTH,
                plan,
                problem.block(),
                [x, s],
            )
        );
        let name = format!("gradients by the step sizes by {engine:?}");
        self.add(name, true, definition);
        self.last().uses.matrix = engine == Engine::Matrix;
    }

    fn dequantize(&mut self) {
        let (problem, [x, s]) = (self.problem, self.types());
        let part = PartCompilationArg {
            first_block: (),
            rows: (),
            first_vector: (),
            vectors: (),
        };
        let definition = kernel!(
            self,
            ELEMENTWISE,
            dequantize_kernel::DequantizeKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                sizes(),
                part,
                (),
                WIDTH,
                problem.block(),
                problem.aligned(),
                [s, x],
            )
        );
        self.add("dequantize", true, definition);
        let plan = GroupPlan::new(GROUP, N / WIDTH, WIDTH, &self.limits);
        let definition = kernel!(
            self,
            plan.cube.units(),
            dequantize_backward_kernel::DequantizeBackwardKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                sizes(),
                sizes(),
                (),
                chunks(),
                (),
                WIDTH,
                plan.cube,
                problem.block(),
                [s, x],
            )
        );
        self.add("gradients of dequantize", true, definition);
    }

    fn unpack(&mut self) {
        let block = self.problem.block();
        let definition = kernel!(
            self,
            ELEMENTWISE,
            unpack_kernel::UnpackKernel,
            (
                buffer(),
                buffer(),
                sizes(),
                (),
                WIDTH,
                block,
                elem(DType::I32),
            )
        );
        self.add("unpack", true, definition);
        let definition = kernel!(
            self,
            ELEMENTWISE,
            unpack_columns_kernel::UnpackColumnsKernel,
            (
                buffer(),
                buffer(),
                (),
                (),
                (),
                (),
                1,
                block,
                elem(DType::F16)
            )
        );
        self.add("unpack along columns", false, definition);
    }

    fn fake_quantize(&mut self) {
        let (max_code, [x, s]) = (self.problem.bits.max_code(), self.types());
        let definition = kernel!(
            self,
            ELEMENTWISE,
            fake_quantize_kernel::FakeQuantizeKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                sizes(),
                (),
                (),
                WIDTH,
                max_code,
                [x, s],
            )
        );
        self.add("fake quantize", false, definition);
        let plan = GroupPlan::new(GROUP, N / WIDTH, WIDTH, &self.limits);
        let definition = kernel!(
            self,
            plan.cube.units(),
            fake_quantize_backward_kernel::FakeQuantizeBackwardKernel,
            (
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                buffer(),
                sizes(),
                chunks(),
                (),
                WIDTH,
                plan.cube,
                max_code,
                [x, s],
            )
        );
        self.add("gradients of fake quantize", false, definition);
    }

    fn reduce(&mut self) {
        let definition = kernel!(
            self,
            ELEMENTWISE,
            reduce_kernel::ReduceKernel,
            (
                buffer(),
                ComptimeOptionCompilationArg::None,
                buffer(),
                (),
                (),
                (),
                (),
                (),
                WIDTH,
                elem(self.dtype),
            )
        );
        self.add("add up", false, definition);
    }
}
