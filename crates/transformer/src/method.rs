use std::{fmt, str::FromStr};

use fused_lora::{Granule, Strategy};

use crate::{config::Config, error::Error};

/// How a layer is adapted. The names are those of the CSV and the figures.
///
/// Each has a *floor*: the multiply-adds that it adds for a token, divided by the multiply-adds of the
/// layer's products ([`Config::product_mul_adds`], 12 d² with mlp = 4 d), in percent. This is its cost if it
/// runs at the speed of the products. Attention, LayerNorm and the rest do not count.
///
/// | method | multiply-adds a token and layer | GPT-2 medium, r = 10, 100, 250 |
/// |---|---|---|
/// | `none` | 0 | |
/// | `adapter-h` | 2 adapters · 2 r d = 4 r d | 0.3, 3.3, 8.1 % |
/// | `adapter-l` | 1 adapter · 2 r d = 2 r d | 0.2, 1.6, 4.1 % |
/// | `lora-*`, all projections | Σ r (K + N) = r (8 d + 2 mlp) = 16 r d | 1.3, 13.0, 32.6 % |
/// | `lora-*`, q and v | 2 · r (d + d) = 4 r d | 0.3, 3.3, 8.1 % |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The bare layer.
    None,
    /// Two bottlenecks in sequence, one before each residual sum (Houlsby et al. 2019).
    AdapterH,
    /// One bottleneck in sequence after the layer, with a LayerNorm of its own before it (Lin et al. 2020).
    AdapterL,
    /// LoRA as three products one after another.
    LoraUnfused,
    /// LoRA in one pass.
    LoraFused,
}

/// Which projections LoRA is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Targets {
    /// qkv (one adapter for all its 3 d columns), the attention's projection, and both of the MLP.
    #[default]
    All,
    /// q and v, each with an adapter of rank r, as Hu et al. 2021 use on GPT-2.
    ///
    /// An adapter on the CPU covers all columns of its product, so the fused QKV product is split into q, k
    /// and v, and q and v have adapters. The arithmetic is that of the floor, but the normalised x is read
    /// and packed three times, which took 1 to 4 % of the QKV product at M = 128 to 2048 in one measurement
    /// on a busy machine. (One adapter of rank 2 r with zeros in B would cost 2 r d + 6 r d instead of 4 r
    /// d.) The bare layer, with which it is compared, keeps its one product.
    QueryValue,
}

impl Method {
    /// All methods; the bare layer first.
    pub const ALL: [Method; 5] =
        [Method::None, Method::AdapterH, Method::AdapterL, Method::LoraUnfused, Method::LoraFused];

    /// The name used in command lines, CSV files and figures.
    pub const fn name(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::AdapterH => "adapter-h",
            Method::AdapterL => "adapter-l",
            Method::LoraUnfused => "lora-unfused",
            Method::LoraFused => "lora-fused",
        }
    }

    /// The strategy of the products: [`Strategy::Base`] if none has a LoRA adapter.
    pub const fn strategy(self) -> Strategy {
        match self {
            Method::None | Method::AdapterH | Method::AdapterL => Strategy::Base,
            Method::LoraUnfused => Strategy::Unfused,
            Method::LoraFused => Strategy::Fused,
        }
    }

    /// The multiply-adds that the method adds for one token, in all layers. `targets` matters only for LoRA.
    pub fn mul_adds(self, config: &Config, targets: Targets, rank: usize) -> f64 {
        self.mul_adds_of_ranks(config, targets, rank, rank)
    }

    /// With a rank of its own for the products that the rank is the N of, and for those that it is the K of.
    fn mul_adds_of_ranks(self, config: &Config, targets: Targets, as_n: usize, as_k: usize) -> f64 {
        let Config { d, mlp, layers, .. } = *config;
        // Σ K where the rank is N: an adapter's down projection, LoRA's shrink. Σ N where it is K: up,
        // expand.
        let (down, up) = match (self, targets) {
            (Method::None, _) => (0, 0),
            (Method::AdapterH, _) => (2 * d, 2 * d),
            (Method::AdapterL, _) => (d, d),
            (Method::LoraUnfused | Method::LoraFused, Targets::All) => (3 * d + mlp, 5 * d + mlp),
            (Method::LoraUnfused | Method::LoraFused, Targets::QueryValue) => (2 * d, 2 * d),
        };
        (layers * (as_n * down + as_k * up)) as f64
    }

    /// The floor in percent: [`mul_adds`](Self::mul_adds) over [`Config::product_mul_adds`].
    pub fn floor_pct(self, config: &Config, targets: Targets, rank: usize) -> f64 {
        100.0 * self.mul_adds(config, targets, rank) / config.product_mul_adds()
    }

    /// The floor with the rank rounded up to what a backend computes, in percent.
    ///
    /// A product that has the rank as its N computes whole vectors (`granule.shrink_n`): LoRA's shrink, and
    /// also an adapter's down projection, whose y is `[M, r]`. A product that has the rank as its K runs
    /// `granule.expand_k` steps at a time, on the CPU exactly r of them: LoRA's expand, and an adapter's up
    /// projection.
    pub fn floor_pad_pct(self, config: &Config, targets: Targets, rank: usize, granule: Granule) -> f64 {
        let as_n = rank.next_multiple_of(granule.shrink_n);
        let as_k = rank.next_multiple_of(granule.expand_k);
        100.0 * self.mul_adds_of_ranks(config, targets, as_n, as_k) / config.product_mul_adds()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Targets {
    /// All choices.
    pub const ALL: [Targets; 2] = [Targets::All, Targets::QueryValue];

    /// The name used in command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Targets::All => "all",
            Targets::QueryValue => "q,v",
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Targets {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|targets| targets.name() == name);
        found.ok_or_else(|| Error::UnknownTargets(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of [`Method`].
    #[test]
    fn floors_of_gpt2_medium() {
        let config = Config::GPT2_MEDIUM_LAYER;
        for (method, targets, floors) in [
            (Method::None, Targets::All, [0.0, 0.0, 0.0]),
            (Method::AdapterH, Targets::All, [0.3, 3.3, 8.1]),
            (Method::AdapterL, Targets::All, [0.2, 1.6, 4.1]),
            (Method::LoraUnfused, Targets::All, [1.3, 13.0, 32.6]),
            (Method::LoraFused, Targets::All, [1.3, 13.0, 32.6]),
            (Method::LoraFused, Targets::QueryValue, [0.3, 3.3, 8.1]),
        ] {
            for (rank, floor) in [10, 100, 250].into_iter().zip(floors) {
                let found = method.floor_pct(&config, targets, rank);
                assert!((found - floor).abs() <= 0.05, "{method} {targets} {rank}: {found} is not {floor}");
                let model = Config { layers: 24, ..config };
                assert_eq!(
                    method.mul_adds(&model, targets, rank),
                    24.0 * method.mul_adds(&config, targets, rank)
                );
            }
        }
        // Where mlp is not 4 d, the two must not be swapped: qkv (10 + 30), proj (10 + 10), up and down (10 +
        // 50).
        let odd = Config { d: 10, heads: 1, mlp: 50, layers: 1 };
        assert_eq!(Method::LoraFused.mul_adds(&odd, Targets::All, 3), 3.0 * (40.0 + 20.0 + 60.0 + 60.0));
    }

    #[test]
    fn padding_counts_where_the_rank_is_n_and_where_it_is_k_apart() {
        let odd = Config { d: 10, heads: 1, mlp: 50, layers: 3 };
        let (products, granule) = (4.0 * 100.0 + 2.0 * 500.0, Granule { shrink_n: 16, expand_k: 4 });
        for (method, targets, down, up) in [
            (Method::None, Targets::All, 0.0, 0.0),
            (Method::AdapterH, Targets::All, 20.0, 20.0),
            (Method::AdapterL, Targets::All, 10.0, 10.0),
            // qkv, proj, up, down: K is 10, 10, 10, 50, N is 30, 10, 50, 10.
            (Method::LoraUnfused, Targets::All, 80.0, 100.0),
            (Method::LoraFused, Targets::QueryValue, 20.0, 20.0),
        ] {
            let found = method.floor_pad_pct(&odd, targets, 10, granule);
            assert_eq!(found, 100.0 * (16.0 * down + 12.0 * up) / products, "{method} {targets}");
            let unpadded = Granule { shrink_n: 1, expand_k: 1 };
            assert_eq!(
                method.floor_pad_pct(&odd, targets, 10, unpadded),
                method.floor_pct(&odd, targets, 10)
            );
            assert_eq!(method.floor_pad_pct(&odd, targets, 0, granule), 0.0);
        }
    }

    #[test]
    fn names_parse_back() {
        for targets in Targets::ALL {
            assert_eq!(targets.to_string().parse(), Ok(targets));
        }
        assert_eq!(
            "qv".parse::<Targets>().unwrap_err().to_string(),
            "unknown projections \"qv\" for LoRA; known are \"all\", \"q,v\""
        );
    }
}
