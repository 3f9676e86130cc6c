//! What a launch left in memory, held to the reference.

use std::{ops::Range, sync::Arc};

use fused_lora::{
    Epilogue, Strategy,
    reference::{self, Expected, Inputs, LoraView},
};
use fused_lora_simt::Machine;
use half::f16;
use ndarray::{Array2, ArrayView2, s};

use crate::{
    case::rank16,
    operands::{Asked, Output},
    setup::Setup,
};

impl Setup {
    /// Holds y to the reference, and the counters to zero.
    pub(crate) fn check(&self, machine: &Machine, strategy: Strategy) -> Result<(), String> {
        let y = self.read_y(machine)?;
        self.workspace.check(machine)?;
        self.compare(&y, strategy, |rows, adapter| self.expected(rows, adapter, strategy))
    }

    /// What a product gives for rows with one adapter, or none. Columns that the adapter does not add to are
    /// the base's; see also `allow_nan_beside`.
    fn expected(&self, rows: Range<usize>, adapter: Option<usize>, strategy: Strategy) -> Arc<Expected> {
        let asked = Asked { output: Output::Y(strategy), rows, adapter };
        let Asked { rows, .. } = asked.clone();
        let (m, epilogue) = (&self.matrices, self.epilogue());
        let forward = |adapter: Option<usize>| {
            let inputs = Inputs {
                x: m.x.slice(s![rows.clone(), ..]),
                w: m.w.view(),
                adapter: adapter.map(|i| LoraView {
                    a: m.a[i].view(),
                    b: m.b[i].view(),
                    scale: self.case.adapters[i].scale,
                }),
                epilogue: &epilogue,
            };
            reference::forward_residual(&inputs, &self.residuals(&rows), strategy).expect("shapes fit")
        };
        m.expected(asked, || self.in_columns(adapter, forward(adapter), || forward(None)))
    }

    /// `inside` in the columns of the adapter, `outside` in the others.
    fn in_columns(
        &self,
        adapter: Option<usize>,
        mut inside: Expected,
        outside: impl Fn() -> Expected,
    ) -> Expected {
        let columns = adapter.map_or(0..self.case.n, |i| self.case.columns(i));
        if columns != (0..self.case.n) {
            let outside = outside();
            for columns in [0..columns.start, columns.end..self.case.n] {
                let part = s![.., columns];
                inside.y.slice_mut(part).assign(&outside.y.slice(part));
                inside.tolerance.slice_mut(part).assign(&outside.tolerance.slice(part));
            }
        }
        inside
    }

    fn epilogue(&self) -> Epilogue {
        let mut epilogue = Epilogue::default();
        if self.case.bias {
            epilogue.bias = Some(self.matrices.bias.clone());
        }
        epilogue.activation = self.case.activation;
        epilogue
    }

    /// Some rows of what is added last.
    fn residuals(&self, rows: &Range<usize>) -> Vec<ArrayView2<'_, f16>> {
        let matrices = &self.matrices;
        let all = [
            (self.case.has_residual(), &matrices.residual),
            (self.case.second_residual, &matrices.second_residual),
        ];
        all.into_iter().filter(|(there, _)| *there).map(|(_, m)| m.slice(s![rows.clone(), ..])).collect()
    }

    /// y, row by row; an error if there is something beside it.
    fn read_y(&self, machine: &Machine) -> Result<Array2<f16>, String> {
        let (m, n) = (self.case.m, self.case.n);
        let mut y = Array2::zeros((m, n));
        for (i, mut row) in y.rows_mut().into_iter().enumerate() {
            let bits: Vec<u16> =
                machine.read(self.y_row(i), n).map_err(|report| format!("row {i}: {report}"))?;
            row.iter_mut().zip(bits).for_each(|(to, bits)| *to = f16::from_bits(bits));
        }
        match self.gaps().find(|&address| machine.read::<u16>(address, 1).is_ok()) {
            Some(address) => Err(format!("written {} bytes into y's buffer, outside of y", address - self.y)),
            None => Ok(y),
        }
    }

    /// The bits of y.
    pub(crate) fn y_bits(&self, machine: &Machine) -> Array2<u16> {
        self.read_y(machine).expect("y was checked").mapv(f16::to_bits)
    }

    /// The bits of h in the rows of segments, by rows of the longest.
    pub(crate) fn h_bits(&self, machine: &Machine) -> Array2<u16> {
        let mut h = Array2::zeros((self.case.m, self.params.lora.ldh as usize));
        for (rows, adapter) in self.case.runs() {
            let columns = rank16(adapter.map_or(0, |i| self.case.adapters[i].rank));
            for row in rows {
                let bits = machine.read::<u16>(self.h_row(row), columns).expect("h was checked");
                h.slice_mut(s![row, ..columns]).assign(&ndarray::ArrayView1::from(&bits));
            }
        }
        h
    }

    /// Compares y with what is expected of each run of rows.
    fn compare(
        &self,
        y: &Array2<f16>,
        strategy: Strategy,
        expected: impl Fn(Range<usize>, Option<usize>) -> Arc<Expected>,
    ) -> Result<(), String> {
        for (rows, adapter) in self.case.runs() {
            let adapter = adapter.filter(|_| strategy != Strategy::Base);
            let expected = expected(rows.clone(), adapter);
            let mut y = y.slice(s![rows.clone(), ..]).to_owned();
            if let Some(adapter) = adapter {
                self.allow_nan_beside(adapter, rows.clone(), &mut y, &expected);
            }
            reference::check(&expected, y.view())
                .map_err(|e| format!("rows {rows:?}, adapter {adapter:?}: {e}"))?;
        }
        Ok(())
    }

    /// Puts the expected in the place of NaN where `Adapter` allows it: in a row whose h is not finite,
    /// beside the adapter's columns, within the column tiles that they lie in.
    fn allow_nan_beside(&self, adapter: usize, rows: Range<usize>, y: &mut Array2<f16>, expected: &Expected) {
        let columns = self.case.columns(adapter);
        if columns == (0..self.case.n) || y.iter().all(|y| !y.is_nan()) {
            return;
        }
        let first = columns.start / self.block_n * self.block_n;
        let past = columns.end.next_multiple_of(self.block_n).min(self.case.n);
        let h = self.host_h(rows, adapter);
        for ((row, column), y) in y.indexed_iter_mut() {
            let beside = (first..past).contains(&column) && !columns.contains(&column);
            if y.is_nan() && beside && h.row(row).iter().any(|h| !h.is_finite()) {
                *y = f16::from_f64(expected.y[[row, column]]);
            }
        }
    }

    /// h of some rows by the reference, not rounded: `s · x Aᵀ`.
    fn expected_h(&self, rows: Range<usize>, adapter: usize) -> Arc<Expected> {
        let asked = Asked { output: Output::H, rows: rows.clone(), adapter: Some(adapter) };
        self.matrices.expected(asked, || {
            let inputs = Inputs {
                x: self.matrices.x.slice(s![rows, ..]),
                w: self.matrices.a[adapter].view(),
                adapter: None::<LoraView<'_>>,
                epilogue: Epilogue::NONE,
            };
            let mut expected = reference::forward(&inputs, Strategy::Base).expect("shapes fit");
            let scale = f64::from(self.case.adapters[adapter].scale);
            expected.y *= scale;
            expected.tolerance.mapv_inplace(|t| t * scale.abs() + 2f64.powi(-24));
            expected
        })
    }

    /// Holds h to the reference: rows of segments alone, zeros from r to r₁₆, nothing behind that.
    pub(crate) fn check_h(&self, machine: &Machine) -> Result<(), String> {
        for (rows, adapter) in self.case.runs() {
            let rank = adapter.map_or(0, |i| self.case.adapters[i].rank);
            let mut h = Array2::zeros((rows.len(), rank));
            for row in rows.clone() {
                let bits: Vec<u16> = machine
                    .read(self.h_row(row), rank16(rank))
                    .map_err(|report| format!("row {row}: {report}"))?;
                for (j, bits) in bits.into_iter().enumerate() {
                    if j < rank {
                        h[[row - rows.start, j]] = f16::from_bits(bits);
                    } else if bits != 0 {
                        return Err(format!(
                            "row {row}: {bits:#x} in column {j}, which is padding of rank {rank}"
                        ));
                    }
                }
                for j in rank16(rank)..self.params.lora.ldh as usize {
                    if machine.read::<u16>(self.h_row(row) + 2 * j as u64, 1).is_ok() {
                        return Err(format!("row {row}: column {j} of h is written, behind rank {rank}"));
                    }
                }
            }
            if let Some(adapter) = adapter {
                reference::check(&self.expected_h(rows.clone(), adapter), h.view())
                    .map_err(|e| format!("h, rows {rows:?}: {e}"))?;
            }
        }
        Ok(())
    }

    /// h from the host, rounded from the reference's.
    fn host_h(&self, rows: Range<usize>, adapter: usize) -> Array2<f16> {
        self.expected_h(rows, adapter).y.mapv(f16::from_f64)
    }

    /// Writes h for `expand`, as `shrink` would have left it.
    pub(crate) fn provide_h(&self, machine: &mut Machine) {
        for (rows, adapter) in self.case.runs() {
            let Some(adapter) = adapter else { continue };
            let h = self.host_h(rows.clone(), adapter);
            for (row, values) in rows.zip(h.rows()) {
                let mut bits: Vec<u16> = values.iter().map(|v| v.to_bits()).collect();
                bits.resize(rank16(bits.len()), 0);
                machine.write(self.h_row(row), &bits).unwrap();
            }
        }
    }

    /// Holds y to `h Bᵀ` and the epilogue, with the h that [`provide_h`](Self::provide_h) wrote.
    pub(crate) fn check_expand(&self, machine: &Machine) -> Result<(), String> {
        let y = self.read_y(machine)?;
        let (n, epilogue) = (self.case.n, self.epilogue());
        self.compare(&y, Strategy::Fused, |rows, adapter| {
            let product = |h: Array2<f16>, b: ArrayView2<'_, f16>| {
                let inputs = Inputs { x: h.view(), w: b, adapter: None::<LoraView<'_>>, epilogue: &epilogue };
                reference::forward_residual(&inputs, &self.residuals(&rows), Strategy::Base)
                    .expect("shapes fit")
            };
            let none = || product(Array2::zeros((rows.len(), 0)), Array2::zeros((n, 0)).view());
            let asked = Asked { output: Output::Expand, rows: rows.clone(), adapter };
            self.matrices.expected(asked, || match adapter {
                None => none(),
                Some(i) => {
                    let inside = product(self.host_h(rows.clone(), i), self.matrices.b[i].view());
                    self.in_columns(adapter, inside, none)
                }
            })
        })
    }
}
