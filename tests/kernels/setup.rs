//! A case in the memory of a machine, as a launcher lays it out, and the launches.

use std::sync::Arc;

use fused_lora::Strategy;
use fused_lora_kernels::{
    Global, counters,
    params::{Adapter, Epilogue, Lora, Params},
    table::{Kernel, Operation, Target},
    tensor_map::TensorParams,
};
use fused_lora_simt::{Launch, Machine, Report, Schedule, Stats};
use half::f16;
use ndarray::Array2;

use fused_lora_tests::shipped;

use crate::{
    case::{Case, Rows, rank16},
    maps::maps,
    operands::{Matrices, padded, row_tiles, slabs, widened},
    tried::note,
};

/// A machine with a case in it.
pub(crate) fn set_up(case: &Case, kernel: &Kernel) -> (Machine, Setup) {
    let mut machine = Machine::new();
    let setup = Setup::new(&mut machine, case, kernel);
    (machine, setup)
}

/// Who caught it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The machine.
    Machine(Report),
    /// The reference, or a counter.
    Numbers(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Machine(report) => write!(f, "machine: {report}"),
            Failure::Numbers(what) => write!(f, "reference: {what}"),
        }
    }
}

/// What the caller of `fused` owns: h, and the counters.
#[derive(Clone, Copy)]
pub(crate) struct Workspace {
    pub(crate) h: u64,
    /// Rows and row stride of h.
    rows: usize,
    pitch: usize,
    counters: u64,
    words: usize,
}

impl Workspace {
    /// For so many tokens, in so many row tiles, of ranks up to `pitch`; zeroed as before the first launch.
    pub(crate) fn new(machine: &mut Machine, tokens: usize, row_tiles: u32, pitch: usize) -> Self {
        let words = counters::words(row_tiles) as usize;
        let (h, counters) = (machine.buffer(2 * tokens * pitch), machine.buffer(4 * words));
        machine.name(h, "h");
        machine.name(counters, "counters");
        let workspace = Self { h, rows: tokens, pitch, counters, words };
        workspace.reset(machine);
        workspace
    }

    /// Counters to zero: what is due after a launch that did not end.
    pub(crate) fn reset(&self, machine: &mut Machine) {
        machine.write(self.counters, &vec![0u32; self.words]).unwrap();
    }

    /// Holds the counters to zero.
    pub(crate) fn check(&self, machine: &Machine) -> Result<(), String> {
        let words: Vec<u32> = machine.read(self.counters, self.words).map_err(|report| report.to_string())?;
        match words.iter().position(|&word| word != 0) {
            Some(word) => Err(format!("counter {word} is left at {}", words[word])),
            None => Ok(()),
        }
    }
}

/// A case laid out in a machine's memory.
pub(crate) struct Setup {
    pub(crate) case: Case,
    pub(crate) matrices: Arc<Matrices>,
    pub(crate) params: Params,
    pub(crate) workspace: Workspace,
    /// Rows of a tile of y.
    block_m: u32,
    /// Columns that are told apart by adapter: those of a tile, or of a cluster's tiles.
    pub(crate) block_n: usize,
    /// Rows of the slab A, columns of the slab B.
    slab_rows: u32,
    /// Where y's buffer starts, and its elements; `params.y` is `shift_y` elements further.
    pub(crate) y: u64,
    y_elements: usize,
}

impl Setup {
    /// Lays a case out for a kernel, and others with its target and tiles.
    pub(crate) fn new(machine: &mut Machine, case: &Case, kernel: &Kernel) -> Self {
        Self::with(machine, case, kernel, Arc::new(Matrices::new(case)))
    }

    /// The same with the case's matrices, made before.
    pub(crate) fn with(machine: &mut Machine, case: &Case, kernel: &Kernel, matrices: Arc<Matrices>) -> Self {
        let Case { m, n, k, .. } = *case;
        let Kernel { block_m, block_n, h_columns, target, .. } = *kernel;
        let input = |machine: &mut Machine, values: &[u16], name: &str| {
            if values.is_empty() {
                return Global::NULL;
            }
            let address = machine.input(values);
            machine.name(address, name);
            Global::<u16>::from_address(address)
        };
        let words = |machine: &mut Machine, values: &[u32]| machine.input(values);

        let (ldx, ldy) = (k + case.pad_x, n + case.pad_y);
        let k8 = k.next_multiple_of(8);
        // Strides that differ, so that none can stand in for another.
        let (ldw, lda) = (k8 + case.pad_operands, k8 + 2 * case.pad_operands);
        let x = input(machine, &padded(&matrices.x, ldx, case.shift_x), "x");
        let w = input(machine, &padded(&widened(&matrices.w, k8), ldw, 0), "W");
        let (slab_a, slab_b, entries) = slabs(case, &matrices, target == Target::Sm90a);
        let ldb = slab_b.ncols() + case.pad_operands;
        let (mut a, mut b) = (Global::NULL, Global::NULL);
        if slab_a.nrows() > 0 {
            a = input(machine, &padded(&slab_a, lda, 0), "A");
            b = input(machine, &padded(&slab_b, ldb, 0), "B");
        }
        let mut epilogue = Epilogue::default();
        let shift = case.shift_epilogue;
        if case.bias {
            let bias = matrices.bias.clone().insert_axis(ndarray::Axis(0));
            epilogue.bias = input(machine, &padded(&bias, n, shift), "bias").offset(shift as u64);
        }
        if case.activation.is_some() {
            epilogue.activation = Epilogue::GELU_TANH;
        }
        let mut residual = |matrix: &Array2<f16>, pitch: usize, name: &str| {
            (input(machine, &padded(matrix, pitch, shift), name).offset(shift as u64), pitch as u32)
        };
        if case.residual {
            let pitch = n + case.pad_residual;
            (epilogue.residual, epilogue.ld_residual) = residual(&matrices.residual, pitch, "residual");
        }
        if case.second_residual {
            let pitch = n + 3 * case.pad_residual;
            (epilogue.second_residual, epilogue.ld_second_residual) =
                residual(&matrices.second_residual, pitch, "second residual");
        }

        let y_elements = case.shift_y + (m - 1) * ldy + n;
        let y = y_buffer(machine, y_elements);
        let columns = match target {
            // Every row has the columns of its adapter,
            Target::Sm80 => entries.iter().map(|e| rank16(e.rank as usize)).max().unwrap_or(0),
            // or those of its row tile.
            Target::Sm90a => case.most_ranks(block_m),
        };
        let pitch = columns + case.pad_operands;
        let workspace = Workspace::new(machine, m, count_row_tiles(m, block_m), pitch);

        let mut lora =
            Lora { a, b, lda: lda as u32, ldb: ldb as u32, uniform: entries[0], ..Lora::default() };
        match &case.rows {
            Rows::Uniform => {
                let chunks = rank16(case.adapters[0].rank).div_ceil(h_columns as usize);
                lora.h_items = count_row_tiles(m, block_m) * chunks as u32;
            }
            Rows::Table(rows) => {
                // Whoever reads it nevertheless reads nonsense.
                lora.uniform =
                    Adapter { offset: 1 << 20, rank: 1, last_column: u32::MAX, ..Adapter::default() };
                let tiles = row_tiles(case, rows, block_m as usize, h_columns as usize);
                lora.h_items = tiles.last().map_or(0, |tile| tile.first_item);
                lora.segment_count = rows.len() as u32;
                let segments: Vec<u32> = rows
                    .iter()
                    .flat_map(|(rows, adapter)| [rows.start as u32, rows.end as u32, *adapter as u32, 0])
                    .collect();
                let adapters: Vec<u32> = entries
                    .iter()
                    .flat_map(|e| {
                        [e.offset, e.rank, e.scale.to_bits(), e.first_column, e.last_column, 0, 0, 0]
                    })
                    .collect();
                let tiles: Vec<u32> = tiles.iter().flat_map(|t| [t.first_segment, t.first_item]).collect();
                // Behind them one that nobody may read: it names an adapter that is not there.
                let behind = [0, u32::MAX, 1 << 20, 0];
                lora.segments = Global::from_address(words(machine, &[&*segments, &behind].concat()));
                lora.adapters = Global::from_address(words(machine, &adapters));
                lora.row_tiles = Global::from_address(words(machine, &tiles));
            }
        }
        let params = Params {
            x: x.offset(case.shift_x as u64),
            w,
            y: Global::NULL,
            m: m as u32,
            n: n as u32,
            k: k as u32,
            ldx: ldx as u32,
            ldw: ldw as u32,
            ldy: ldy as u32,
            epilogue,
            lora,
        };
        let setup = Self {
            case: case.clone(),
            matrices,
            params,
            workspace,
            block_m,
            block_n: (block_n * case.cluster_for(kernel)) as usize,
            slab_rows: slab_a.nrows() as u32,
            y,
            y_elements,
        };
        setup.on(workspace).to(y)
    }

    /// The same with another workspace.
    pub(crate) fn on(mut self, workspace: Workspace) -> Self {
        self.params.lora.h = Global::from_address(workspace.h);
        self.params.lora.counters = Global::from_address(workspace.counters);
        self.params.lora.ldh = workspace.pitch as u32;
        self.workspace = workspace;
        self
    }

    /// The same with x where `before` has its y, and with the values that this has now.
    pub(crate) fn behind(mut self, machine: &Machine, before: &Self) -> Self {
        let matrices = Arc::get_mut(&mut self.matrices).expect("nobody else has these matrices yet");
        matrices.replace_x(before.y_bits(machine).mapv(f16::from_bits));
        self.params.x = before.params.y;
        self.params.ldx = before.params.ldy;
        self
    }

    fn to(mut self, y: u64) -> Self {
        self.y = y;
        self.params.y = Global::from_address(y).offset(self.case.shift_y as u64);
        if self.case.in_place {
            self.params.epilogue.residual = self.params.y;
            self.params.epilogue.ld_residual = self.params.ldy;
        }
        self
    }

    /// The same inputs with a workspace and a y of their own: another stream.
    pub(crate) fn beside(&self, machine: &mut Machine) -> Self {
        let Workspace { rows, pitch, .. } = self.workspace;
        let workspace = Workspace::new(machine, rows, count_row_tiles(self.case.m, self.block_m), pitch);
        let y = y_buffer(machine, self.y_elements);
        let copy = Self { case: self.case.clone(), matrices: Arc::clone(&self.matrices), ..*self };
        copy.on(workspace).to(y)
    }

    /// Forgets y and h, as if nobody had written them; but y holds the residual where that is its place.
    pub(crate) fn poison(&self, machine: &mut Machine) {
        machine.poison(self.y, 2 * self.y_elements).unwrap();
        let Workspace { h, rows, pitch, .. } = self.workspace;
        machine.poison(h, 2 * rows * pitch).unwrap();
        if self.case.in_place {
            for (i, row) in self.matrices.residual.rows().into_iter().enumerate() {
                let bits: Vec<u16> = row.iter().map(|v| v.to_bits()).collect();
                machine.write(self.y_row(i), &bits).unwrap();
            }
        }
    }

    /// Where row `i` of y starts.
    pub(crate) fn y_row(&self, i: usize) -> u64 {
        self.params.y.offset(i as u64 * u64::from(self.params.ldy)).address()
    }

    /// Elements of y's buffer that are not y: before the first row, and between rows.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = u64> {
        let Case { n, m, shift_y, pad_y, .. } = self.case;
        let between =
            (0..m - 1).flat_map(move |i| (0..pad_y).map(move |j| shift_y + i * (n + pad_y) + n + j));
        (0..shift_y).chain(between).map(|element| self.y + 2 * element as u64)
    }

    /// Where row `i` of h starts.
    pub(crate) fn h_row(&self, i: usize) -> u64 {
        self.workspace.h + 2 * (i * self.workspace.pitch) as u64
    }

    /// A launch of a kernel with these parameters; what the kernel does not touch is null.
    pub(crate) fn launch(&self, kernel: &'static Kernel, mut params: Params) -> Launch {
        let cluster = self.case.cluster_for(kernel);
        let (row_tiles, column_tiles) =
            (params.m.div_ceil(kernel.block_m), params.n.div_ceil(kernel.block_n));
        let tiles = row_tiles * column_tiles.next_multiple_of(cluster);
        let h_items = params.lora.h_items;
        let items = match kernel.operation {
            Operation::Gemm => {
                params.lora = Lora::default();
                tiles
            }
            Operation::GemmSplitK => {
                params.lora = Lora::default();
                row_tiles * column_tiles * cluster
            }
            Operation::Fused => tiles + h_items,
            Operation::FusedRecompute | Operation::FusedCooperative => {
                (params.lora.h, params.lora.counters) = (Global::NULL, Global::NULL);
                tiles
            }
            Operation::Shrink => {
                (params.w, params.y, params.lora.b) = (Global::NULL, Global::NULL, Global::NULL);
                params.lora.counters = Global::NULL;
                h_items.max(1)
            }
            Operation::Expand => {
                (params.x, params.w, params.lora.a) = (Global::NULL, Global::NULL, Global::NULL);
                params.lora.counters = Global::NULL;
                tiles
            }
        };
        let persistent = kernel.operation != Operation::GemmSplitK;
        let grid = self.case.grid.filter(|_| persistent).unwrap_or(items).next_multiple_of(cluster);
        let Kernel { name, threads, shared_bytes, .. } = *kernel;
        let shape = [grid, threads, shared_bytes];
        if kernel.target == Target::Sm80 {
            return shipped::launch(name, &params, shape);
        }
        let maps = maps(kernel, &params, self.slab_rows, cluster);
        // What is in the maps is not here; but partial sums leave without the copy engine.
        let Params { x, w, y, lora, .. } = &mut params;
        for address in [x, w, &mut lora.a, &mut lora.b] {
            *address = Global::NULL;
        }
        if persistent {
            *y = Global::NULL;
        }
        let params = TensorParams { maps, params };
        shipped::launch(name, &params, shape).cluster(cluster).registers(launch_registers(threads))
    }

    /// The launches of `unfused`, one after another, on a y and an h that nobody wrote. The base product
    /// waits in y for the expand, or elsewhere if y holds a residual.
    pub(crate) fn run_unfused(
        &self,
        machine: &mut Machine,
        kernels: [&'static Kernel; 3],
        schedule: &Schedule,
    ) -> Result<(), Report> {
        let [base, shrink, expand] = kernels;
        self.poison(machine);
        if self.params.lora.h_items == 0 {
            note(base.name, &machine.run(&[self.launch(base, self.params)], schedule)?);
            return Ok(());
        }
        let Params { y, ldy, epilogue, .. } = self.params;
        let (addend, ld_addend) = if self.case.in_place {
            let pitch = (self.case.n + 3).next_multiple_of(8);
            let buffer = machine.buffer(2 * self.case.m * pitch);
            (Global::from_address(buffer), pitch as u32)
        } else {
            (y, ldy)
        };
        let of_base = Epilogue { bias: epilogue.bias, ..Epilogue::default() };
        let of_expand = Epilogue { addend, ld_addend, bias: Global::NULL, ..epilogue };
        let base_params = Params { y: addend, ldy: ld_addend, epilogue: of_base, ..self.params };
        let expand_params = Params { epilogue: of_expand, ..self.params };
        for (kernel, params) in [(base, base_params), (shrink, self.params), (expand, expand_params)] {
            note(kernel.name, &machine.run(&[self.launch(kernel, params)], schedule)?);
        }
        Ok(())
    }

    /// Runs one kernel on a y and an h that nobody wrote (`expand`: on an h from the host), and checks what
    /// it computed.
    pub(crate) fn run(
        &self,
        machine: &mut Machine,
        kernel: &'static Kernel,
        schedule: &Schedule,
    ) -> Result<Stats, Failure> {
        self.poison(machine);
        if kernel.operation == Operation::Expand {
            self.provide_h(machine);
        }
        let stats = machine.run(&[self.launch(kernel, self.params)], schedule).map_err(Failure::Machine)?;
        match kernel.operation {
            Operation::Gemm | Operation::GemmSplitK => self.check(machine, Strategy::Base),
            Operation::Fused | Operation::FusedRecompute | Operation::FusedCooperative => {
                self.check(machine, Strategy::Fused)
            }
            Operation::Shrink => self.check_h(machine),
            Operation::Expand => self.check_expand(machine),
        }
        .map_err(Failure::Numbers)?;
        Ok(stats)
    }
}

/// Registers of a thread when a CTA with an SM for itself starts: ptxas gives as many as `maxntid` allows, in
/// steps of 8.
const fn launch_registers(threads: u32) -> u32 {
    let all = 64 * 1024 / threads / 8 * 8;
    if all > 248 { 248 } else { all }
}

fn y_buffer(machine: &mut Machine, elements: usize) -> u64 {
    let y = machine.buffer(2 * elements);
    machine.name(y, "y");
    y
}

fn count_row_tiles(m: usize, block_m: u32) -> u32 {
    (m as u32).div_ceil(block_m)
}
