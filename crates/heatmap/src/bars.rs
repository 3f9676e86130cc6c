//! Slow-downs as bars: what `fused-lora bench` measured.

/// Panels of bars over one axis, one above the other.
#[derive(Clone, Debug)]
pub struct BarFigure {
    /// What is shown, above everything.
    pub title: String,
    /// What the bars of each group are, in their order.
    pub names: [&'static str; 2],
    /// What the mark across a group's bars is.
    pub floor: &'static str,
    /// What the axis counts, with its unit.
    pub axis: String,
    /// From top to bottom.
    pub panels: Vec<BarPanel>,
    /// What stands below, in items that are not broken over lines if they need not be.
    pub footer: Vec<String>,
}

/// Groups of bars under a title.
#[derive(Clone, Debug)]
pub struct BarPanel {
    /// What its groups have in common.
    pub title: String,
    /// From top to bottom.
    pub groups: Vec<BarGroup>,
}

/// The bars of one thing, and its floor.
#[derive(Clone, Debug)]
pub struct BarGroup {
    /// What it is.
    pub label: String,
    /// More of it, in small print.
    pub detail: String,
    /// One for each name; None for one that is missing.
    pub bars: [Option<Bar>; 2],
    /// Where its mark is.
    pub floor: f64,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Its length, from 0.
    pub value: f64,
    /// The ends of its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// What stands behind it, such as a star that the footer explains.
    pub mark: &'static str,
}

impl BarFigure {
    /// The ends of the axis: all numbers, and 0.
    pub(crate) fn range(&self) -> (f64, f64) {
        let groups = self.panels.iter().flat_map(|panel| &panel.groups);
        let numbers = groups.flat_map(|group| {
            let bars = group.bars.iter().flatten();
            let of_bar = |bar: &Bar| {
                let (lo, hi) = bar.interval.unwrap_or((bar.value, bar.value));
                [bar.value, lo, hi]
            };
            bars.flat_map(of_bar).chain([group.floor])
        });
        let (lo, hi) = numbers
            .filter(|number| number.is_finite())
            .fold((0.0f64, 0.0f64), |(lo, hi), number| (lo.min(number), hi.max(number)));
        (lo, if hi > lo { hi } else { lo + 1.0 })
    }
}
