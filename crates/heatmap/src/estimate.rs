//! The figure of what the cost model expects of a GPU: the same panels, each of which says that nothing was
//! measured.
//!
//! It is made from estimates alone, and [`Figure::new`] from records alone, so that no figure has both. The
//! label belongs to the figure, not to a panel: there is none without it.

use std::collections::{BTreeMap, HashMap};

use fused_lora_estimate::{Estimate, LABEL, Set};
use fused_lora_records::{Cell, Workload};

use crate::colormap::Colormap;
use crate::error::Error;
use crate::figure::{Figure, FigureRow};
use crate::metric::Metric;
use crate::scale::{Scale, Vmax};
use crate::select::{LINEAR_ROWS, plain_stem};

/// What is drawn of a GPU's estimates.
#[derive(Clone, Copy, Debug)]
pub struct EstimateQuery {
    /// The layers of a forward pass.
    pub workload: &'static Workload,
    /// The constants of the cost model.
    pub set: Set,
    /// The number of the lightest colour.
    pub vmax: Vmax,
    /// The colours.
    pub colormap: Colormap,
}

impl EstimateQuery {
    /// The figure: slow-downs of `unfused` and `fused`. `gpu` says in words which GPU is meant.
    ///
    /// # Errors
    ///
    /// If there is no estimate of the workload.
    pub fn figure(&self, gpu: &str, estimates: &[Estimate]) -> Result<Figure, Error> {
        let own = || estimates.iter().filter(|estimate| estimate.workload == self.workload);
        let values = |method: &str| -> HashMap<Cell, f64> {
            let of = |estimate: &Estimate| {
                let seconds = if method == "fused" { estimate.fused } else { estimate.unfused };
                (estimate.cell, estimate.slowdown_pct(seconds, self.set))
            };
            own().map(of).collect()
        };
        let rows = LINEAR_ROWS.map(|method| FigureRow { label: method.to_owned(), values: values(method) });
        let rows = rows.to_vec();
        let numbers: Vec<f64> = rows.iter().flat_map(|row| row.values.values().copied()).collect();
        if numbers.is_empty() {
            return Err(Error::NothingToDraw(vec![self.workload.name().to_owned()]));
        }
        let scale = Scale::new(Metric::Slowdown, &numbers, self.vmax);
        let footer = self.footer(gpu, own());
        Ok(Figure { rows, scale, colormap: self.colormap, footer, label: Some(LABEL) })
    }

    /// The figure's name without an extension: it begins with `estimate`, whatever it is of.
    #[must_use]
    pub fn stem(&self, gpu: &str) -> String {
        let set = self.set.to_string();
        plain_stem(&["estimate", gpu, self.workload.name(), &set].map(str::to_owned))
    }

    fn footer<'a>(&self, gpu: &str, own: impl Iterator<Item = &'a Estimate>) -> Vec<Vec<String>> {
        let Self { workload, set, .. } = self;
        let floors: BTreeMap<usize, f64> =
            own.map(|estimate| (estimate.cell.rank, estimate.floor_pad_pct)).collect();
        let floors: Vec<String> = floors
            .iter()
            .filter(|(rank, _)| **rank > 0)
            .map(|(rank, floor)| format!("{floor:.1} % at r = {rank}"))
            .collect();
        vec![
            vec![format!("{LABEL}: {gpu}")],
            vec![
                workload.name().to_owned(),
                format!("K = {}", workload.d_in()),
                format!("N = {}", workload.d_out()),
                "f16".to_owned(),
                format!("{set} constants of the cost model"),
            ],
            vec![format!("floor (the adapter's arithmetic alone, the rank padded): {}", floors.join(", "))],
        ]
    }
}
