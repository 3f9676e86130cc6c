//! One product: its sizes, its adapters, how its operands lie in memory; and the kernels that it can be for.

use std::ops::Range;

use fused_lora::Activation;
use fused_lora_kernels::{
    table::{KERNELS, Kernel, Operation, SM90_KERNELS, Target},
    tile::RANK_GRANULE,
};

/// All kernels.
pub(crate) fn all_kernels() -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().chain(SM90_KERNELS)
}

/// A kernel by name.
pub(crate) fn kernel(name: &str) -> &'static Kernel {
    all_kernels().find(|kernel| kernel.name == name).unwrap_or_else(|| panic!("no kernel {name}"))
}

/// Whether a kernel is launched in clusters at all.
pub(crate) fn in_cluster(kernel: &Kernel) -> bool {
    kernel.clusters() || kernel.operation == Operation::GemmSplitK
}

/// r rounded up to the granule.
pub(crate) fn rank16(rank: usize) -> usize {
    rank.next_multiple_of(RANK_GRANULE as usize)
}

/// An adapter of a case.
#[derive(Clone, Debug)]
pub(crate) struct AdapterCase {
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// Columns of y that it adds to; all if None.
    pub(crate) columns: Option<Range<usize>>,
}

impl AdapterCase {
    pub(crate) fn new(rank: usize) -> Self {
        Self { rank, scale: 0.5, columns: None }
    }
}

/// Which rows have which adapter.
#[derive(Clone, Debug, Default)]
pub(crate) enum Rows {
    /// The first adapter for all, by the parameters.
    #[default]
    Uniform,
    /// By table: rows, number of the adapter.
    Table(Vec<(Range<usize>, usize)>),
}

/// An operand that a value can be planted in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    X,
    W,
    /// A of this adapter.
    A(usize),
    Residual,
}

/// A product. Operands are normally distributed, but for what is planted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) adapters: Vec<AdapterCase>,
    pub(crate) rows: Rows,
    /// Row strides beyond K and N, and elements before the first row.
    pub(crate) pad_x: usize,
    pub(crate) pad_y: usize,
    pub(crate) shift_x: usize,
    pub(crate) shift_y: usize,
    /// Row strides of W, A, B and h beyond what they need; a multiple of 8.
    pub(crate) pad_operands: usize,
    pub(crate) bias: bool,
    pub(crate) activation: Option<Activation>,
    pub(crate) residual: bool,
    /// The residual is what y holds.
    pub(crate) in_place: bool,
    pub(crate) second_residual: bool,
    /// Row stride of the residual beyond N (of the second one: three times that), and elements before both
    /// and before the bias.
    pub(crate) pad_residual: usize,
    pub(crate) shift_epilogue: usize,
    /// Values at row, column of an operand.
    pub(crate) planted: Vec<(Operand, usize, usize, f32)>,
    pub(crate) seed: u64,
    /// CTAs of a launch, rounded up to whole clusters, of kernels that take any number; None for one a work
    /// item.
    pub(crate) grid: Option<u32>,
    /// CTAs of a cluster, for kernels that take any; None for as few as hold the ranks.
    pub(crate) cluster: Option<u32>,
}

impl Case {
    pub(crate) fn new(m: usize, n: usize, k: usize, rank: usize) -> Self {
        Self { m, n, k, adapters: vec![AdapterCase::new(rank)], seed: 1, ..Self::default() }
    }

    /// The case such that a kernel can address its x and y: tensor maps want them, and their pitches, at
    /// multiples of 16 bytes. And with a K that can be split.
    pub(crate) fn adapted_to(&self, kernel: &Kernel) -> Self {
        if kernel.target == Target::Sm80 {
            return self.clone();
        }
        let splits = kernel.operation == Operation::GemmSplitK && self.k <= kernel.block_k as usize;
        let k = if splits { self.k + 2 * kernel.block_k as usize } else { self.k };
        let pad = |columns: usize, pad: usize| (columns + pad).next_multiple_of(8) - columns;
        Self {
            k,
            pad_x: pad(k, self.pad_x),
            pad_y: pad(self.n, self.pad_y),
            shift_x: self.shift_x.next_multiple_of(8),
            shift_y: self.shift_y.next_multiple_of(8),
            ..self.clone()
        }
    }

    /// Whether there is a residual, in y or elsewhere.
    pub(crate) fn has_residual(&self) -> bool {
        self.residual || self.in_place
    }

    /// The segments that have an adapter, with their rows.
    pub(crate) fn segments(&self) -> Vec<(Range<usize>, usize)> {
        let all = match &self.rows {
            Rows::Uniform => vec![(0..self.m, 0)],
            Rows::Table(rows) => rows.clone(),
        };
        all.into_iter().filter(|(_, adapter)| self.adapters[*adapter].rank > 0).collect()
    }

    /// The segments of each row tile that have an adapter, by the adapter's number.
    pub(crate) fn row_tile_adapters(&self, block_m: u32) -> Vec<Vec<usize>> {
        let (segments, block_m) = (self.segments(), block_m as usize);
        let touching = |first: usize| {
            let touches = |rows: &Range<usize>| rows.start < first + block_m && rows.end > first;
            segments.iter().filter(|(rows, _)| touches(rows)).map(|&(_, adapter)| adapter).collect()
        };
        (0..self.m).step_by(block_m).map(touching).collect()
    }

    /// The most columns of h that a row tile has, all its segments side by side.
    pub(crate) fn most_ranks(&self, block_m: u32) -> usize {
        let ranks = |adapters: &Vec<usize>| adapters.iter().map(|&i| rank16(self.adapters[i].rank)).sum();
        self.row_tile_adapters(block_m).iter().map(ranks).max().unwrap_or(0)
    }

    /// CTAs of a cluster in a launch of a kernel.
    pub(crate) fn cluster_for(&self, kernel: &Kernel) -> u32 {
        if !in_cluster(kernel) {
            return 1;
        }
        let holds = |ctas: &u32| self.most_ranks(kernel.block_m) <= (kernel.h * ctas) as usize;
        self.cluster.unwrap_or_else(|| match kernel.operation {
            Operation::FusedCooperative if kernel.slices_k() => 2,
            Operation::FusedCooperative => [1, 2, 4].into_iter().find(holds).unwrap_or(8),
            Operation::GemmSplitK => 2,
            _ => 1,
        })
    }

    /// The adapter of a row, if it has one.
    fn row_adapter(&self, row: usize) -> Option<usize> {
        match &self.rows {
            Rows::Uniform => Some(0),
            Rows::Table(rows) => {
                rows.iter().find(|(rows, _)| rows.contains(&row)).map(|&(_, adapter)| adapter)
            }
        }
        .filter(|&adapter| self.adapters[adapter].rank > 0)
    }

    /// All rows, cut where the adapter changes.
    pub(crate) fn runs(&self) -> Vec<(Range<usize>, Option<usize>)> {
        let mut runs: Vec<(Range<usize>, Option<usize>)> = Vec::new();
        for row in 0..self.m {
            let adapter = self.row_adapter(row);
            match runs.last_mut() {
                Some((rows, last)) if *last == adapter => rows.end = row + 1,
                _ => runs.push((row..row + 1, adapter)),
            }
        }
        runs
    }

    /// The columns of y that an adapter adds to.
    pub(crate) fn columns(&self, adapter: usize) -> Range<usize> {
        self.adapters[adapter].columns.clone().unwrap_or(0..self.n)
    }
}
