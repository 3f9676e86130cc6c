//! The matrices and tables of a case, as a launcher lays them out.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use fused_lora::{Strategy, reference::Expected};
use fused_lora_kernels::params::{Adapter, RowTile};
use half::f16;
use ndarray::{Array1, Array2, s};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rand_distr::StandardNormal;

use crate::case::{Case, Operand, rank16};

/// Matrices of a case, on the host.
pub(crate) struct Matrices {
    pub(crate) x: Array2<f16>,
    pub(crate) w: Array2<f16>,
    pub(crate) a: Vec<Array2<f16>>,
    pub(crate) b: Vec<Array2<f16>>,
    pub(crate) bias: Array1<f16>,
    pub(crate) residual: Array2<f16>,
    pub(crate) second_residual: Array2<f16>,
    /// What the reference gave for them.
    known: Mutex<Vec<(Asked, Arc<Expected>)>>,
}

/// What the reference is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) output: Output,
    pub(crate) rows: Range<usize>,
    pub(crate) adapter: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    /// y, of all operands.
    Y(Strategy),
    /// y, of an h that is given.
    Expand,
    /// h, not rounded.
    H,
}

impl Matrices {
    /// What the reference gives: computed once, for all schedules and faults that the matrices serve.
    pub(crate) fn expected(&self, asked: Asked, compute: impl FnOnce() -> Expected) -> Arc<Expected> {
        let find = |known: &[(Asked, Arc<Expected>)]| {
            known.iter().find(|(other, _)| *other == asked).map(|(_, expected)| Arc::clone(expected))
        };
        if let Some(expected) = find(&self.known.lock().unwrap()) {
            return expected;
        }
        // Not under the lock: y of an expand asks for its h.
        let expected = Arc::new(compute());
        self.known.lock().unwrap().push((asked, Arc::clone(&expected)));
        expected
    }

    /// Other values for x.
    pub(crate) fn replace_x(&mut self, x: Array2<f16>) {
        self.x = x;
        self.known.get_mut().unwrap().clear();
    }

    pub(crate) fn new(case: &Case) -> Self {
        let mut rng = StdRng::seed_from_u64(case.seed);
        let mut normal = |rows: usize, columns: usize, scale: f32| {
            Array2::from_shape_fn((rows, columns), |_| {
                f16::from_f32(scale * rng.sample::<f32, _>(StandardNormal))
            })
        };
        let Case { m, n, k, .. } = *case;
        let mut matrices = Self {
            x: normal(m, k, 1.0),
            w: normal(n, k, 0.25),
            a: case.adapters.iter().map(|adapter| normal(adapter.rank, k, 0.25)).collect(),
            b: case.adapters.iter().map(|adapter| normal(n, adapter.rank, 0.25)).collect(),
            bias: normal(1, n, 1.0).row(0).to_owned(),
            residual: normal(m, n, 1.0),
            second_residual: normal(m, n, 1.0),
            known: Mutex::default(),
        };
        for &(operand, row, column, value) in &case.planted {
            let matrix = match operand {
                Operand::X => &mut matrices.x,
                Operand::W => &mut matrices.w,
                Operand::A(adapter) => &mut matrices.a[adapter],
                Operand::Residual => &mut matrices.residual,
            };
            matrix[[row, column]] = f16::from_f32(value);
        }
        matrices
    }
}

/// Rows with a pitch, `shift` elements before the first; NaN where nobody may read.
pub(crate) fn padded(matrix: &Array2<f16>, pitch: usize, shift: usize) -> Vec<u16> {
    let mut out = vec![f16::NAN.to_bits(); shift + matrix.nrows() * pitch];
    for (i, row) in matrix.rows().into_iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            out[shift + i * pitch + j] = value.to_bits();
        }
    }
    // The last row ends where its elements end.
    out.truncate(shift + (matrix.nrows() - 1) * pitch + matrix.ncols());
    out
}

/// Zeros to the right of a matrix.
pub(crate) fn widened(matrix: &Array2<f16>, columns: usize) -> Array2<f16> {
    let mut out = Array2::zeros((matrix.nrows(), columns));
    out.slice_mut(s![.., ..matrix.ncols()]).assign(matrix);
    out
}

/// The slabs of a case's adapters, A `[R_total, K₈]` and B `[N, R_total]`, and where each lies in them. With
/// `cleared`, B is zero in rows outside its adapter's columns; else they hold what nobody may use.
pub(crate) fn slabs(
    case: &Case,
    matrices: &Matrices,
    cleared: bool,
) -> (Array2<f16>, Array2<f16>, Vec<Adapter>) {
    let total = case.adapters.iter().map(|adapter| rank16(adapter.rank)).sum::<usize>();
    let mut a = Array2::zeros((total, case.k.next_multiple_of(8)));
    let mut b = Array2::zeros((case.n, total));
    let mut entries = Vec::new();
    let mut offset = 0;
    for (i, adapter) in case.adapters.iter().enumerate() {
        let ranks = offset..offset + adapter.rank;
        a.slice_mut(s![ranks.clone(), ..case.k]).assign(&matrices.a[i]);
        let columns = case.columns(i);
        let rows = if cleared { columns.clone() } else { 0..case.n };
        b.slice_mut(s![rows.clone(), ranks]).assign(&matrices.b[i].slice(s![rows, ..]));
        entries.push(Adapter {
            offset: offset as u32,
            rank: adapter.rank as u32,
            scale: adapter.scale,
            first_column: columns.start as u32,
            last_column: columns.end as u32,
            reserved: [0; 3],
        });
        offset += rank16(adapter.rank);
    }
    (a, b, entries)
}

/// The entries of all row tiles, one more than there are.
pub(crate) fn row_tiles(
    case: &Case,
    rows: &[(Range<usize>, usize)],
    block_m: usize,
    block_n: usize,
) -> Vec<RowTile> {
    let mut tiles = Vec::new();
    let mut items = 0;
    for first_row in (0..case.m.next_multiple_of(block_m) + 1).step_by(block_m) {
        let past = case.m.min(first_row + block_m);
        let first_segment = rows.iter().position(|(rows, _)| rows.end > first_row).unwrap_or(rows.len());
        tiles.push(RowTile { first_segment: first_segment as u32, first_item: items });
        for (rows, adapter) in rows {
            if rows.start < past && rows.end > first_row {
                items += rank16(case.adapters[*adapter].rank).div_ceil(block_n) as u32;
            }
        }
    }
    tiles
}
