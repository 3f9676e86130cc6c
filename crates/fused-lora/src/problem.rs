use std::{fmt, str::FromStr};

/// Element type of x, W and y. Sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary16.
    #[default]
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
}

impl DType {
    /// All types.
    pub const ALL: [DType; 3] = [DType::F16, DType::Bf16, DType::F32];

    /// The name used in command lines, CSV files and figures.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::F32 => "f32",
        }
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F16 | DType::Bf16 => 2,
            DType::F32 => 4,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no [`DType`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown element type {name:?}; known are f16, bf16, f32")]
pub struct UnknownDType {
    /// The name.
    pub name: String,
}

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.name() == s)
            .ok_or_else(|| UnknownDType { name: s.to_owned() })
    }
}

/// How base, shrink and expand are combined. The names are those of the CSV and the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// `x Wᵀ` alone, the adapter ignored: what a merged adapter costs.
    Base,
    /// Three products, one after another, as PEFT runs them: base, shrink, expand-and-add. y is rounded
    /// twice, since it is stored in memory between base and expand.
    Unfused,
    /// All three products in one pass over x and y.
    Fused,
}

impl Strategy {
    /// All strategies, the cheapest first.
    pub const ALL: [Strategy; 3] = [Strategy::Base, Strategy::Unfused, Strategy::Fused];

    /// The name used in command lines, CSV files and figures.
    pub const fn name(self) -> &'static str {
        match self {
            Strategy::Base => "base",
            Strategy::Unfused => "unfused",
            Strategy::Fused => "fused",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no [`Strategy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown strategy {name:?}; known are base, unfused, fused")]
pub struct UnknownStrategy {
    /// The name.
    pub name: String,
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name() == s)
            .ok_or_else(|| UnknownStrategy { name: s.to_owned() })
    }
}

/// The multiples to which a backend rounds the rank up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granule {
    /// In the shrink, where the rank is the number of output columns.
    pub shrink_n: usize,
    /// In the expand, where the rank is the length of the sum.
    pub expand_k: usize,
}

/// The size of one fused product: `x: [m, k]`, `W: [n, k]`, `A: [rank, k]`, `B: [n, rank]`, `y: [m, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Problem {
    /// Tokens: batch · seq_len.
    pub m: usize,
    /// Output width.
    pub n: usize,
    /// Input width.
    pub k: usize,
    /// Rank of the adapter; 0 without an adapter.
    pub rank: usize,
}

impl Problem {
    /// Sizes in the order of `M, N, K, r`.
    pub fn new(m: usize, n: usize, k: usize, rank: usize) -> Self {
        Self { m, n, k, rank }
    }

    /// Useful floating-point operations, a multiply-add counted as two. Padding does not count.
    pub fn flops(&self, strategy: Strategy) -> f64 {
        let [m, n, k, rank] = [self.m, self.n, self.k, self.rank].map(|d| d as f64);
        match strategy {
            Strategy::Base => 2.0 * m * n * k,
            Strategy::Unfused | Strategy::Fused => 2.0 * m * (n * k + rank * (n + k)),
        }
    }

    /// The smallest possible slow-down if all products run at the same efficiency, in percent:
    /// `100 (r/N + r/K)`.
    pub fn floor_pct(&self) -> f64 {
        self.floor_pad_pct(Granule { shrink_n: 1, expand_k: 1 })
    }

    /// As [`floor_pct`](Self::floor_pct), with the rank rounded up to what the backend computes.
    pub fn floor_pad_pct(&self, granule: Granule) -> f64 {
        let shrink = self.rank.next_multiple_of(granule.shrink_n) as f64 / self.n as f64;
        let expand = self.rank.next_multiple_of(granule.expand_k) as f64 / self.k as f64;
        100.0 * (shrink + expand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_of_the_design_document() {
        for (d, r, floor) in
            [(1024, 10, 1.953), (1024, 100, 19.531), (1024, 250, 48.828), (4096, 250, 12.207)]
        {
            let problem = Problem::new(1, d, d, r);
            assert!((problem.floor_pct() - floor).abs() < 1e-3, "{problem:?}: {}", problem.floor_pct());
        }
    }

    #[test]
    fn padding_counts_on_either_side() {
        let problem = Problem::new(1, 1000, 500, 10);
        assert_eq!(
            problem.floor_pad_pct(Granule { shrink_n: 8, expand_k: 16 }),
            100.0 * (16. / 1000. + 16. / 500.)
        );
        assert_eq!(
            problem.floor_pad_pct(Granule { shrink_n: 16, expand_k: 1 }),
            100.0 * (16. / 1000. + 10. / 500.)
        );
    }

    #[test]
    fn flops_count_the_adapter_only_where_it_runs() {
        let problem = Problem::new(3, 5, 7, 2);
        assert_eq!(problem.flops(Strategy::Base), 210.0);
        assert_eq!(problem.flops(Strategy::Fused), 210.0 + 2. * 3. * 2. * 12.);
        assert_eq!(problem.flops(Strategy::Fused), problem.flops(Strategy::Unfused));
    }

    #[test]
    fn names_parse_back() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert_eq!("Fused".parse::<Strategy>(), Err(UnknownStrategy { name: "Fused".into() }));
    }
}
