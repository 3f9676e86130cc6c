//! What a kernel is checked on, and how. K goes round the kernel's ring at least twice, and where a kernel
//! takes tile after tile there are more tiles than CTAs.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/cuda.rs"]
mod on_device;

use std::fmt;

use fused_lora::{
    Epilogue, Strategy,
    cuda::{
        AdapterTable, Buffer, Device, Error, KERNELS, Kernel, Launch, Layer, MatrixMut, Operation,
        SM90_KERNELS, Segments, Stream, TableEntry, Target, Workspace, workspace_size,
    },
    reference::{self, Expected, Inputs, LoraView},
};
use half::f16;
use ndarray::{Array1, Array2, Axis};

use common::Operands;
use on_device::{Memory, Placed, device};

/// Rows of x, and of W, that differ; the others repeat them. So the reference is small however large the
/// product is, and every element of y is compared. Both are prime: a tile in the place of a near one is
/// wrong.
const PERIOD_M: usize = 61;
const PERIOD_N: usize = 67;
/// Elements behind y that are watched.
const AROUND: usize = 64;
/// The least K.
const LEAST_K: u32 = 1024;
/// The most columns of h that meet in a row tile here.
const MOST_COLUMNS: u32 = 256;

/// See the crate's documentation.
pub(crate) fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((device, _alone)) = device() else { return };
    let known = kernels(&device);
    if arguments.iter().any(|argument| argument == "--list") {
        known.iter().for_each(|kernel| println!("{kernel}: test"));
        return;
    }
    // The options are libtest's, which `cargo test` hands to every test.
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for name in &names {
        let kernel = known.iter().find(|kernel| kernel.to_string() == **name);
        agrees(&device, *kernel.unwrap_or_else(|| panic!("{name}: this device runs no such kernel")));
        println!("test {name} ... ok");
    }
    println!("test result: ok. {} passed of {}", names.len(), known.len());
}

/// A kernel in clusters of so many CTAs; shown as `sm90_gemm_128x256/2`, as `FUSED_LORA_PLAN` has it.
#[derive(Clone, Copy)]
struct InClusters {
    kernel: &'static Kernel,
    cluster: u32,
}

impl fmt::Display for InClusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kernel.name, self.cluster)
    }
}

/// All that a device runs; those for 8.0 first, which others fall back to.
fn kernels(device: &Device) -> Vec<InClusters> {
    let in_clusters = |kernel| {
        let sizes = [1, 2, 4, 8].into_iter().filter(move |&size| device.gpu().clusters(kernel, size) > 0);
        sizes.map(move |cluster| InClusters { kernel, cluster })
    };
    KERNELS.iter().chain(SM90_KERNELS).flat_map(in_clusters).collect()
}

impl InClusters {
    /// M, N and K: tails in all three, more work than the device holds at a time, and a K that goes round the
    /// ring.
    fn shape(self, device: &Device, rank: u32) -> [usize; 3] {
        let Self { kernel, cluster } = self;
        let clusters = device.gpu().clusters(kernel, cluster);
        let (row_tiles, column_tiles) = match kernel.operation {
            // As many clusters as there are tiles.
            Operation::GemmSplitK => (2, 2),
            // Its tiles are those of h.
            Operation::Shrink => (clusters / rank.next_multiple_of(16).div_ceil(kernel.h_columns) + 1, 1),
            _ => {
                let row_tiles = (clusters + 1).isqrt() + 1;
                // A cluster takes neighbouring tiles of a row.
                (row_tiles, (clusters + 1).div_ceil(row_tiles) * cluster)
            }
        };
        let shares = if kernel.operation == Operation::GemmSplitK { cluster } else { 1 };
        let round = kernel.block_k * kernel.stages * shares;
        // Of the kernels that read x element by element not even that is a multiple of 8.
        let tail = if kernel.aligned { 40 } else { 37 };
        [
            (row_tiles - 1) * kernel.block_m + 3,
            (column_tiles - 1) * kernel.block_n + 8,
            LEAST_K.max(2 * round) + tail,
        ]
        .map(|size| size as usize)
    }

    /// The strategy that launches it.
    fn strategy(self) -> Strategy {
        match self.kernel.operation {
            Operation::Gemm | Operation::GemmSplitK => Strategy::Base,
            Operation::Fused | Operation::FusedRecompute | Operation::FusedCooperative => Strategy::Fused,
            Operation::Shrink | Operation::Expand => Strategy::Unfused,
        }
    }

    /// Columns of h that a row tile may have.
    fn columns(self) -> u32 {
        let Kernel { operation, h, max_rank, .. } = *self.kernel;
        match operation {
            Operation::Gemm | Operation::GemmSplitK => 0,
            Operation::FusedRecompute => h,
            Operation::FusedCooperative => max_rank.min(h * self.cluster),
            _ => MOST_COLUMNS,
        }
    }

    /// Whether a plan may have this launch: of what an unfused call launches beside it, the smallest kernels
    /// for 8.0.
    fn allows(self, launch: &Launch) -> bool {
        let Self { kernel, cluster } = self;
        let other = launch.kernel;
        other.name == kernel.name && launch.cluster == cluster
            || self.strategy() == Strategy::Unfused
                && other.operation != kernel.operation
                && other.target == Target::Sm80
                && (other.name.ends_with("_64x64") || other.name.ends_with("_64x64_any"))
    }
}

/// Fails unless the kernel computes what the reference does: with one adapter, and with two of a table where
/// it takes any.
#[track_caller]
fn agrees(device: &Device, kernel: InClusters) {
    let columns = kernel.columns();
    // One column less than there is room for, since h is made in whole vectors.
    let rank = columns.saturating_sub(1);
    let case = Case::new(device, kernel, kernel.shape(device, rank));
    case.one_adapter(rank as usize);
    if columns > 0 {
        case.two_adapters(columns);
    }
}

/// A kernel and what it computes on.
struct Case<'a> {
    device: &'a Device,
    kernel: InClusters,
    stream: Stream,
    shape: [usize; 3],
}

impl<'a> Case<'a> {
    fn new(device: &'a Device, kernel: InClusters, shape: [usize; 3]) -> Self {
        Self { device, kernel, stream: Stream::new(device).unwrap(), shape }
    }

    /// The rows of x and W that differ, and an adapter.
    fn operands(&self, seed: u64, rank: usize) -> Operands {
        let [m, n, k] = self.shape;
        Operands::random(seed, PERIOD_M.min(m), PERIOD_N.min(n), k, rank)
    }

    #[track_caller]
    fn one_adapter(&self, rank: usize) {
        let [m, n, _] = self.shape;
        let strategy = self.kernel.strategy();
        let small = self.operands(1, rank);
        let expected = on_device::expected(&small, strategy, true);
        let large = Operands {
            w: repeated(&small.w, n),
            b: repeated(&small.b, n),
            bias: Array1::from_shape_fn(n, |j| small.bias[j % small.bias.len()]),
            ..small.clone()
        };
        let layer = on_device::layer(self.device, &large, true);
        let mut workspace = Workspace::new(self.device, layer.workspace_size(m)).unwrap();
        let x = Placed::copy_of(self.device, &repeated(&small.x, m), Memory::default());
        let of_row = vec![&expected; m];
        self.twice(&of_row, n, &format!("r {rank}"), |y| {
            let allow = |launch: &Launch| self.kernel.allows(launch);
            layer.call(x.view()).strategy(strategy).among(&allow).run(y, &mut workspace, &self.stream)
        });
    }

    /// Rows with one adapter, with the other, and without.
    #[track_caller]
    fn two_adapters(&self, columns: u32) {
        let [m, n, k] = self.shape;
        let Kernel { block_m, operation, .. } = *self.kernel.kernel;
        // Where both have room in a row tile, three segments meet in some.
        let meet = operation != Operation::FusedRecompute && columns >= 32;
        let length = if meet { block_m - 20 } else { block_m } as usize;
        let first = if meet { columns / 2 } else { columns }.min(112) - 3;
        let small = [(2, first as usize), (3, 10)].map(|(seed, rank)| self.operands(seed, rank));
        let b = small.each_ref().map(|adapter| repeated(&adapter.b, n));
        let entries: Vec<_> = small
            .iter()
            .zip(&b)
            .map(|(Operands { a, scale, .. }, b)| TableEntry {
                a: a.view(),
                b: b.view(),
                scale: *scale,
                columns: 0..n,
            })
            .collect();
        let table = AdapterTable::new(self.device, k, n, &entries).unwrap();
        // All of them on one x and one W, with no adapter last.
        let Operands { x, w, .. } = &small[0];
        let strategy = self.kernel.strategy();
        let expected = |adapter: Option<&Operands>| {
            let adapter = adapter.map(|of| LoraView { a: of.a.view(), b: of.b.view(), scale: of.scale });
            let inputs = Inputs { x: x.view(), w: w.view(), adapter, epilogue: Epilogue::NONE };
            reference::forward(&inputs, strategy).unwrap()
        };
        let expected = [expected(Some(&small[0])), expected(Some(&small[1])), expected(None)];
        let of_row: Vec<&Expected> = (0..m).map(|row| &expected[row / length % 3]).collect();
        let rows: Vec<_> = (0..m.div_ceil(length))
            .map(|i| (i * length..m.min((i + 1) * length), [Some(0), Some(1), None][i % 3]))
            .collect();
        let segments = Segments::new(&table, m, &rows).unwrap();
        let layer = Layer::new(self.device, repeated(w, n).view()).unwrap();
        let bytes = workspace_size(m, MOST_COLUMNS as usize);
        let mut workspace = Workspace::new(self.device, bytes).unwrap();
        let x = Placed::copy_of(self.device, &repeated(x, m), Memory::default());
        self.twice(&of_row, n, &format!("r {first} and 10"), |y| {
            let allow = |launch: &Launch| self.kernel.allows(launch);
            let x = x.view();
            layer.call(x).segments(&segments).strategy(strategy).among(&allow).run(
                y,
                &mut workspace,
                &self.stream,
            )
        });
    }

    /// Runs it on a y that nobody wrote, and again, which finds a workspace in use; `of_row` holds what each
    /// row of y should be a repetition of.
    #[track_caller]
    fn twice(
        &self,
        of_row: &[&Expected],
        n: usize,
        case: &str,
        mut run: impl FnMut(MatrixMut<'_>) -> Result<(), Error>,
    ) {
        let [m, _, k] = self.shape;
        for call in 1..=2 {
            let case = format!("{} m {m} n {n} k {k} {case} call {call}", self.kernel);
            let mut y = Buffer::poisoned(self.device, m * n + AROUND).unwrap();
            run(MatrixMut::new(&mut y, m, n).unwrap()).unwrap_or_else(|error| panic!("{case}: {error}"));
            let values = y.to_vec().unwrap();
            let (values, around) = values.split_at(m * n);
            assert!(around.iter().all(|value| value.is_nan()), "{case}: wrote behind y");
            is_repetition(values, of_row, n, &case);
        }
    }
}

/// Fails unless each row of y is a repetition of what it should be, within the reference's tolerance. In
/// place: `Expected` of all of y would take longer to make than the kernels take.
#[track_caller]
fn is_repetition(y: &[f16], of_row: &[&Expected], n: usize, case: &str) {
    let (mut first, mut bad) = (None, 0);
    let (mut error, mut norm) = (0.0, 0.0);
    for (i, (row, of)) in y.chunks_exact(n).zip(of_row).enumerate() {
        let at = i % of.y.nrows();
        let (expected, tolerance) = (of.y.row(at), of.tolerance.row(at));
        for (block, found) in row.chunks(expected.len()).enumerate() {
            for (j, ((found, expected), tolerance)) in found.iter().zip(expected).zip(tolerance).enumerate() {
                let off = found.to_f64() - expected;
                error += off * off;
                norm += expected * expected;
                if off.is_nan() || off.abs() > *tolerance {
                    bad += 1;
                    let column = block * of.y.ncols() + j;
                    first.get_or_insert_with(|| {
                        format!("row {i}, column {column} is {found}, should be {expected} ± {tolerance}")
                    });
                }
            }
        }
    }
    if let Some(first) = first {
        panic!("{case}: {first}; {bad} of {} elements are wrong", y.len());
    }
    assert!(error.sqrt() <= norm.sqrt() / 1024.0, "{case}: all of y together is off by {error} of {norm}");
}

/// So many rows, round and round those of a matrix.
fn repeated(matrix: &Array2<f16>, rows: usize) -> Array2<f16> {
    let numbers: Vec<usize> = (0..rows).map(|row| row % matrix.nrows()).collect();
    matrix.select(Axis(0), &numbers)
}
