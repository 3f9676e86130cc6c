//! The linear layers of a workload, one after another, with an adapter on each.
//!
//! A method is a [`Library`] and a [`Strategy`]: to compare with another library is one more entry in a suite's list.

use std::collections::BTreeSet;

use fused_lora::reference::{self, Inputs, LoraView};
use fused_lora::{Epilogue, Granule, Strategy};
use fused_lora_records::{RANKS, Workload};
use half::f16;
use ndarray::{ArrayView2, Axis};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{SeedableRng, seq};

use crate::backend::{self, Backend};
use crate::check::Expected;
use crate::method::{Call, Method, What};
use crate::normals::Normals;
use crate::settings::Cache;
use crate::size::Size;
use crate::suite::Suite;
use crate::work::{Floor, Work};
use weights::{Linear, Lora, SCALE, Weights};

pub mod cpu;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
pub mod weights;

/// Of x.
const SEED: u64 = 2;
/// Rows that are compared, in every column. The f64 reference of all of them would take minutes at M = 16384.
const ROWS: [usize; 2] = [4, 16];
/// Multiply-adds of the reference that are worth it: a tenth of a second.
const REFERENCE: usize = 64 << 20;

/// How a backend makes linear layers. It fails if the library refuses the weights, or there is no memory for them.
pub trait Engine: Backend + Sized {
    /// A linear layer, its weights packed where the backend wants them. Clones share them.
    type Layer: Clone;

    /// A layer without an adapter; w is [N, K].
    fn layer(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<Self::Layer>;

    /// That layer with an adapter.
    fn adapted(&self, layer: Self::Layer, adapter: LoraView<'_>) -> anyhow::Result<Self::Layer>;

    /// This library's method of a strategy and a rank.
    fn ready(ground: &Ground<Self>, strategy: Strategy, rank: usize) -> anyhow::Result<Box<dyn Call>>;
}

/// What a library computes on.
pub type Ground<E> = backend::Ground<E, Weights<<E as Engine>::Layer>>;

/// Makes a method ready: from the operands `G` of a backend, a strategy, and the adapter's rank.
pub type Make<G> = Box<dyn Fn(&G, Strategy, usize) -> anyhow::Result<Box<dyn Call>>>;

/// A library on a backend.
pub struct Library<G> {
    /// The name in the records, for a strategy.
    pub name: Box<dyn Fn(Strategy) -> String>,
    /// What it computes at a rank; its base product apart.
    pub strategies: fn(usize) -> &'static [Strategy],
    /// How.
    pub make: Make<G>,
}

/// This library; `strategies` are those beside its base, and `prefix` stands before their names in the records.
pub fn this_library<E: Engine + 'static>(
    prefix: &'static str,
    strategies: fn(usize) -> &'static [Strategy],
) -> Library<Ground<E>> {
    let name = Box::new(move |strategy| format!("{prefix}{strategy}"));
    Library { name, strategies, make: Box::new(E::ready) }
}

/// This library's strategies beside its base, as the grid measures them.
pub fn ours(_: usize) -> &'static [Strategy] {
    &[Strategy::Unfused, Strategy::Fused]
}

/// What another library computes: its base product, and at a rank its three calls.
pub fn theirs(rank: usize) -> &'static [Strategy] {
    if rank == 0 { &[Strategy::Base] } else { &[Strategy::Unfused] }
}

/// The linear layers on a backend.
pub struct Linears<E: Engine> {
    workload: &'static Workload,
    ground: Ground<E>,
    libraries: Vec<Library<Ground<E>>>,
    /// x of the first slot's products, one behind the other: what the reference sees.
    first: Vec<f16>,
}

impl<E: Engine> Linears<E> {
    fn on(
        backend: E,
        workload: &'static Workload,
        cache: Cache,
        libraries: Vec<Library<Ground<E>>>,
    ) -> Linears<E> {
        let ground = Ground::new(backend, Weights::new(widths(workload)), cache);
        Linears { workload, ground, libraries, first: Vec::new() }
    }
}

impl<E: Engine> Suite for Linears<E> {
    fn methods(&self, size: Size) -> Vec<Method> {
        let Linears { workload, ground, libraries, .. } = self;
        let mut methods = methods(workload, ground.cache, ground.backend.granule(), libraries, size);
        methods.extend(ground.probes(workload.flops_base(size.m())));
        methods
    }

    fn prepare(
        &mut self,
        size: Size,
        slots: usize,
        methods: &[Method],
    ) -> anyhow::Result<Vec<Box<dyn Call>>> {
        let Linears { workload, ground, libraries, first } = self;
        let (flops, mut normals) = (workload.flops_base(size.m()), Normals::new(SEED));
        first.clear();
        ground.resize(size.m(), &widths(workload), slots, flops, |_, x| {
            normals.fill(1.0, x);
            if first.is_empty() {
                first.extend_from_slice(x);
            }
        })?;
        for rank in methods.iter().map(|method| method.rank).collect::<BTreeSet<_>>() {
            ground.weights.ensure(&ground.backend, ground.weight_slots, rank)?;
        }
        let ready = |method: &Method| match method.what {
            What::Linear(library, strategy) => (libraries[library].make)(ground, strategy, method.rank),
            What::Probe(probe) => ground.probe(probe, flops),
            What::Layer(_) | What::Torch(_) => anyhow::bail!("{} is no linear layer", method.names[0]),
        };
        methods.iter().map(ready).collect()
    }

    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Vec<Expected>> {
        let What::Linear(_, strategy) = method.what else { return Ok(Vec::new()) };
        let mut x = &self.first[..];
        let of = |linear: &Linear<E::Layer>| {
            let (own, rest) = x.split_at(size.m() * linear.w.ncols());
            x = rest;
            let rows = sampled_rows(size.m(), linear.w.len());
            let own = ArrayView2::from_shape((size.m(), linear.w.ncols()), own)?.select(Axis(0), &rows);
            let Lora { a, b, .. } = linear.adapter(method.rank);
            let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: SCALE });
            let inputs = Inputs { x: own.view(), w: linear.w.view(), adapter, epilogue: Epilogue::NONE };
            let reference::Expected { y, tolerance, .. } = reference::forward(&inputs, strategy)?;
            let rows = rows.into_iter().enumerate().map(|(number, row)| (row, number)).collect();
            // 2u = 2⁻¹⁰
            Ok(Expected { rows, y, tolerance, norm_tolerance: 1.0 / 1024.0 })
        };
        self.ground.weights.slots(1)[0].iter().map(of).collect()
    }

    fn clock_mhz(&self) -> Option<f64> {
        self.ground.backend.clock_mhz()
    }

    fn preamble(&self) -> anyhow::Result<Option<String>> {
        self.ground.backend.preamble()
    }
}

/// The methods of a size: the base of the first library, and all that the libraries compute at each rank, compared with that base.
pub fn methods<G>(
    workload: &Workload,
    cache: Cache,
    granule: Granule,
    libraries: &[Library<G>],
    size: Size,
) -> Vec<Method> {
    let method = |library: usize, strategy: Strategy, rank: usize| {
        let name = (libraries[library].name)(strategy);
        let is_base = library == 0 && strategy == Strategy::Base;
        let pad = || workload.floor_pad_pct(rank, granule.shrink_n, granule.expand_k);
        Method {
            what: What::Linear(library, strategy),
            ids: vec![format!("r{rank}/{name}")],
            names: vec![name],
            rank,
            base: Some(0),
            work: work(workload, cache, size.m(), if strategy == Strategy::Base { 0 } else { rank }),
            // How another library pads a rank is not known.
            floor: (!is_base)
                .then(|| Floor { pct: workload.floor_pct(rank), pad_pct: (library == 0).then(pad) }),
            dtype: "f16",
            ours: library == 0,
        }
    };
    let mut methods = vec![method(0, Strategy::Base, 0)];
    for rank in RANKS {
        for (number, library) in libraries.iter().enumerate() {
            methods.extend((library.strategies)(rank).iter().map(|&strategy| method(number, strategy, rank)));
        }
    }
    methods
}

/// Operations and bytes of a forward pass with adapters of that rank.
pub(crate) fn work(workload: &Workload, cache: Cache, m: usize, rank: usize) -> Work {
    let of = |p: &fused_lora_records::Projection| {
        let weights = p.d_in * p.d_out + rank * (p.d_in + p.d_out);
        m * (p.d_in + p.d_out) + if cache == Cache::Cold { weights } else { 0 }
    };
    let elements: usize = workload.projections().iter().map(of).sum();
    Work { flops: workload.flops(m, rank), bytes: (elements * size_of::<f16>()) as f64 }
}

/// K and N of each product.
fn widths(workload: &Workload) -> Vec<(usize, usize)> {
    workload.projections().iter().map(|p| (p.d_in, p.d_out)).collect()
}

/// First, last, and others drawn at random; in order.
fn sampled_rows(m: usize, weights: usize) -> Vec<usize> {
    let count = (REFERENCE / weights.max(1)).clamp(ROWS[0], ROWS[1]);
    if m <= count {
        return (0..m).collect();
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(m as u64);
    let inner = seq::index::sample(&mut rng, m - 2, count - 2).into_iter().map(|i| i + 1);
    let mut rows: Vec<usize> = inner.chain([0, m - 1]).collect();
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { seq_len: 128, batch: 2 };
    const GRANULE: Granule = Granule { shrink_n: 16, expand_k: 1 };

    fn library(prefix: &'static str, strategies: fn(usize) -> &'static [Strategy]) -> Library<()> {
        let make = Box::new(|&(): &(), _, _| anyhow::bail!("made for its names"));
        Library { name: Box::new(move |strategy| format!("{prefix}{strategy}")), strategies, make }
    }

    #[test]
    fn a_size_has_one_base_and_all_that_is_compared_with_it() {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        let libraries = [library("", ours), library("peer/", theirs)];
        let of = |libraries| methods(workload, Cache::Cold, GRANULE, libraries, SIZE);
        let ours = of(&libraries[..1]);
        assert_eq!(ours.len(), 9);
        let ids: BTreeSet<&str> = ours.iter().map(|method| method.ids[0].as_str()).collect();
        assert_eq!(ids.len(), 9);
        assert!(["r0/base", "r0/fused", "r250/unfused"].iter().all(|id| ids.contains(id)), "{ids:?}");
        assert!(ours[0].is_base(0) && ours[1..].iter().enumerate().all(|(i, method)| !method.is_base(i + 1)));

        let fused = ours.iter().find(|method| method.ids[0] == "r100/fused").unwrap();
        assert_eq!(fused.work.flops, 2.0 * 256.0 * (1024.0 * 1024.0 + 100.0 * 2048.0));
        assert_eq!(fused.work.bytes, 2.0 * (1024.0 * 1024.0 + 100.0 * 2048.0 + 256.0 * 2048.0));
        let floor = fused.floor.unwrap();
        assert!(
            (floor.pct - 19.531).abs() < 1e-3 && (floor.pad_pct.unwrap() - 20.703).abs() < 1e-3,
            "{floor:?}"
        );
        assert_eq!((ours[0].floor, ours[0].work.flops), (None, 2.0 * 256.0 * 1024.0 * 1024.0));
        assert_eq!(work(workload, Cache::WarmW, 256, 100).bytes, 2.0 * 256.0 * 2048.0);
        let several = Workload::by_name("gpt2-medium-linears").unwrap();
        let [cold, warm] = [Cache::Cold, Cache::WarmW].map(|cache| work(several, cache, 3, 0).bytes);
        assert_eq!(cold - warm, 2.0 * 12.0 * 1024.0 * 1024.0);
        assert_eq!(warm, 2.0 * 3.0 * 1024.0 * (1.0 + 3.0 + 1.0 + 1.0 + 1.0 + 4.0 + 4.0 + 1.0));

        let both = of(&libraries);
        let peer =
            both.iter().find(|method| method.names[0] == "peer/unfused" && method.rank == 100).unwrap();
        assert!(!peer.ours && peer.floor.unwrap().pad_pct.is_none());
        let base = both.iter().find(|method| method.names[0] == "peer/base").unwrap();
        assert_eq!((base.rank, base.base), (0, Some(0)), "compared with this library's");
    }

    #[test]
    fn rows_hold_both_ends_and_repeat_none() {
        let small = 1 << 20;
        assert_eq!(sampled_rows(3, small), [0, 1, 2]);
        for (m, weights, count) in [(16, small, 16), (17, small, 16), (16_384, small, 16), (128, 16 << 20, 4)]
        {
            let rows = sampled_rows(m, weights);
            assert_eq!((rows.len(), rows[0], rows[count - 1]), (count, 0, m - 1));
            assert!(rows.is_sorted_by(|a, b| a < b), "{m}: {rows:?}");
        }
    }
}
