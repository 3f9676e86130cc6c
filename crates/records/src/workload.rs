//! What one forward pass of a measurement consists of, and the arithmetic that it cannot do without.

/// One linear layer: x \[M, `d_in`\] → y \[M, `d_out`\], so K = `d_in` and N = `d_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Projection {
    /// K, the input width.
    pub d_in: usize,
    /// N, the output width.
    pub d_out: usize,
}

/// One or several linear layers, run one after another, with an adapter on each; or layers of a transformer,
/// whose products those linear layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    name: &'static str,
    projections: &'static [Projection],
    /// Layers of a transformer; none where the projections run alone.
    layers: Option<usize>,
}

const fn projection(d_in: usize, d_out: usize) -> Projection {
    Projection { d_in, d_out }
}

/// The projections of a layer of GPT-2 medium: qkv, attention output, and the two of the MLP.
const GPT2_MEDIUM: &[Projection] =
    &[projection(1024, 3072), projection(1024, 1024), projection(1024, 4096), projection(4096, 1024)];

const SQUARES: [Workload; 2] = [
    Workload::of("linear-1024x1024", &[projection(1024, 1024)]),
    Workload::of("linear-4096x4096", &[projection(4096, 4096)]),
];

impl Workload {
    /// Those of linear layers alone; the first is the default.
    pub const LINEARS: &'static [Workload] =
        &[SQUARES[0], SQUARES[1], Workload::of("gpt2-medium-linears", GPT2_MEDIUM)];

    /// Those on which few tokens are measured: two of [`LINEARS`](Self::LINEARS), and the first product of an
    /// MLP of LLaMA 7B.
    pub const DECODES: &'static [Workload] =
        &[SQUARES[0], SQUARES[1], Workload::of("linear-4096x11008", &[projection(4096, 11008)])];

    /// Those with all of a transformer's layer around its products: LayerNorm, attention, residual sums. One
    /// layer, and the whole model of 24.
    pub const LAYERS: &'static [Workload] = &[
        Workload { name: "gpt2-medium-layer", projections: GPT2_MEDIUM, layers: Some(1) },
        Workload { name: "gpt2-medium", projections: GPT2_MEDIUM, layers: Some(24) },
    ];

    /// Linear layers of any widths: those of other names than the above are for tests.
    #[must_use]
    pub const fn of(name: &'static str, projections: &'static [Projection]) -> Workload {
        Workload { name, projections, layers: None }
    }

    /// The workload of that name.
    ///
    /// # Errors
    ///
    /// If there is none; the error lists those there are.
    pub fn by_name(name: &str) -> Result<&'static Workload, UnknownWorkload> {
        let found = Workload::every().find(|workload| workload.name == name);
        found.ok_or_else(|| UnknownWorkload(name.to_owned()))
    }

    /// All of them: [`LINEARS`](Self::LINEARS), what of [`DECODES`](Self::DECODES) is not among these,
    /// [`LAYERS`](Self::LAYERS).
    pub fn every() -> impl Iterator<Item = &'static Workload> {
        Workload::LINEARS.iter().chain(&Workload::DECODES[SQUARES.len()..]).chain(Workload::LAYERS)
    }

    /// The name that records carry.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many layers of a transformer it is; None where it is linear layers alone.
    #[must_use]
    pub fn layers(&self) -> Option<usize> {
        self.layers
    }

    /// Its linear layers, in the order in which they run: of a transformer, those of one layer.
    #[must_use]
    pub fn projections(&self) -> &'static [Projection] {
        self.projections
    }

    /// The input widths as records carry them: joined by `+`.
    #[must_use]
    pub fn d_in(&self) -> String {
        joined(self.projections.iter().map(|p| p.d_in))
    }

    /// The output widths as records carry them: joined by `+`.
    #[must_use]
    pub fn d_out(&self) -> String {
        joined(self.projections.iter().map(|p| p.d_out))
    }

    /// Floating-point operations of the base products at M = `m`: 2·M·Σ K·N, of all layers. A transformer's
    /// attention is not in it.
    #[must_use]
    pub fn flops_base(&self, m: usize) -> f64 {
        2.0 * m as f64 * self.base_area()
    }

    /// Floating-point operations of base, shrink and expand at M = `m`: 2·M·Σ (K·N + r·(K + N)), of all
    /// layers.
    #[must_use]
    pub fn flops(&self, m: usize, rank: usize) -> f64 {
        2.0 * m as f64 * (self.base_area() + self.adapter_area(rank, rank))
    }

    /// The slow-down in percent that the adapter's arithmetic alone costs at the base's efficiency:
    /// 100·(r/N + r/K) for one projection, 100·Σ r·(K+N) / Σ K·N for several. This is for LoRA on every
    /// projection: an adapter of another kind in a transformer's layer has a floor of its own.
    #[must_use]
    pub fn floor_pct(&self, rank: usize) -> f64 {
        100.0 * self.adapter_area(rank, rank) / self.base_area()
    }

    /// The same with the rank rounded up to what the hardware works in: to a multiple of `shrink_n`
    /// where it is the shrink's N, and of `expand_k` where it is the expand's K.
    ///
    /// # Panics
    ///
    /// If a granule is 0.
    #[must_use]
    pub fn floor_pad_pct(&self, rank: usize, shrink_n: usize, expand_k: usize) -> f64 {
        let area = self.adapter_area(rank.next_multiple_of(shrink_n), rank.next_multiple_of(expand_k));
        100.0 * area / self.base_area()
    }

    fn base_area(&self) -> f64 {
        self.repeats() * self.projections.iter().map(|p| p.d_in as f64 * p.d_out as f64).sum::<f64>()
    }

    /// How often the projections run.
    fn repeats(&self) -> f64 {
        self.layers.unwrap_or(1) as f64
    }

    /// Σ r·K of the shrinks and Σ r·N of the expands, each with its own rank.
    fn adapter_area(&self, shrink_rank: usize, expand_rank: usize) -> f64 {
        let area = |p: &Projection| (shrink_rank * p.d_in + expand_rank * p.d_out) as f64;
        self.repeats() * self.projections.iter().map(area).sum::<f64>()
    }
}

/// A name that belongs to no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no workload '{0}'; there are {names}", names = names())]
pub struct UnknownWorkload(pub String);

fn names() -> String {
    let names: Vec<&str> = Workload::every().map(Workload::name).collect();
    names.join(", ")
}

fn joined(widths: impl Iterator<Item = usize>) -> String {
    widths.map(|width| width.to_string()).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the design, to the one decimal that it gives.
    #[test]
    fn floors_are_the_designs() {
        let expected = [
            ("linear-1024x1024", [0.0, 2.0, 19.5, 48.8]),
            ("linear-4096x4096", [0.0, 0.5, 4.9, 12.2]),
            ("gpt2-medium-linears", [0.0, 1.3, 13.0, 32.6]),
            ("linear-4096x11008", [0.0, 0.3, 3.3, 8.4]),
            ("gpt2-medium-layer", [0.0, 1.3, 13.0, 32.6]),
            ("gpt2-medium", [0.0, 1.3, 13.0, 32.6]),
        ];
        assert_eq!(expected.len(), Workload::every().count());
        for (name, floors) in expected {
            let workload = Workload::by_name(name).unwrap();
            for (rank, floor) in crate::grid::RANKS.into_iter().zip(floors) {
                let got = workload.floor_pct(rank);
                assert!((got - floor).abs() <= 0.05, "{name} r = {rank}: {got} is not {floor}");
            }
        }
    }

    #[test]
    fn the_padded_floor_rounds_shrink_and_expand_apart() {
        let linear = Workload::by_name("linear-1024x1024").unwrap();
        // r = 10 counts as 16 in the shrink (N by 8) and as 16 in the expand (K by 16).
        assert_eq!(linear.floor_pad_pct(10, 8, 16), 100.0 * 32.0 / 1024.0);
        // r = 100 counts as 104 and 112.
        assert_eq!(linear.floor_pad_pct(100, 8, 16), 100.0 * (104.0 + 112.0) / 1024.0);
        assert_eq!(linear.floor_pad_pct(0, 8, 16), 0.0);
        // The shrink is M × r × K, the expand M × N × r: with K ≠ N the two must not be swapped.
        let up = Workload { name: "up", projections: const { &[projection(100, 400)] }, layers: None };
        assert_eq!(up.floor_pad_pct(1, 10, 20), 100.0 * (10.0 * 100.0 + 20.0 * 400.0) / 40_000.0);
        for workload in Workload::every() {
            assert_eq!(workload.floor_pad_pct(250, 1, 1), workload.floor_pct(250));
        }
    }

    #[test]
    fn flops_count_two_per_multiply_add() {
        let linear = Workload::by_name("linear-1024x1024").unwrap();
        assert_eq!(linear.flops_base(128), 2.0 * 128.0 * 1024.0 * 1024.0);
        assert_eq!(linear.flops(128, 0), linear.flops_base(128));
        assert_eq!(linear.flops(128, 100), 2.0 * 128.0 * (1024.0 * 1024.0 + 100.0 * 2048.0));
    }

    #[test]
    fn several_widths_are_joined() {
        let gpt2 = Workload::by_name("gpt2-medium-linears").unwrap();
        assert_eq!(gpt2.d_in(), "1024+1024+1024+4096");
        assert_eq!(gpt2.d_out(), "3072+1024+4096+1024");
        assert_eq!(Workload::LINEARS[0].d_in(), "1024");
    }

    /// Records tell the workloads apart by name; the widths are those of one layer's projections.
    #[test]
    fn a_model_is_its_layers() {
        let of = |name| Workload::by_name(name).unwrap();
        let [linears, layer, model] = ["gpt2-medium-linears", "gpt2-medium-layer", "gpt2-medium"].map(of);
        assert_eq!([linears, layer, model].map(Workload::layers), [None, Some(1), Some(24)]);
        for workload in [layer, model] {
            assert_eq!((workload.d_in(), workload.d_out()), (linears.d_in(), linears.d_out()));
            assert_eq!(workload.floor_pct(100), linears.floor_pct(100));
        }
        assert_eq!(layer.flops(128, 10), linears.flops(128, 10));
        assert_eq!(model.flops(128, 10), 24.0 * linears.flops(128, 10));
        assert_eq!(model.flops_base(128), 24.0 * linears.flops_base(128));
        assert_eq!(
            Workload::every().filter(|workload| workload.layers().is_some()).count(),
            Workload::LAYERS.len()
        );
    }

    #[test]
    fn an_unknown_workload_gets_the_list() {
        let error = Workload::by_name("linear-1x1").unwrap_err().to_string();
        assert!(error.contains("linear-1x1"), "{error}");
        for workload in Workload::every() {
            assert!(error.contains(workload.name()), "{error}");
        }
    }
}
