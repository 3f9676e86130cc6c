//! The linear layers of a workload, one after another, with an adapter on each.
//!
//! A method is a [`Library`] and a [`Strategy`]: to compare with another library is one more entry in a
//! suite's list. PyTorch says itself which methods it has: those of the suite's element type run, each
//! compared with its own base of the same kind: graphs with graphs.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use fused_lora::cpu::Simd;
use fused_lora::reference::{Inputs, LoraView};
use fused_lora::{DType, Element as _, Epilogue, Granule, Strategy};
use fused_lora_measure::expected::{expected, sampled_rows};
use fused_lora_records::{Record, Workload};
use ndarray::{ArrayView2, Axis, concatenate, s};

use crate::executor::{Executor, LinearSetup, Setup};
use crate::method::{Call, Expected, Floor, Method, Provider, Ready, Suite, Task, Work};
use crate::normals::Normals;
use crate::number::Number;
use crate::processor::Processor;
use crate::settings::{Cache, Settings};
use crate::size::{Size, ranks};
use crate::torch::{Tensors, Torch};
use crate::with_number;
use weights::{Linear, SCALE, Weights};

#[cfg(test)]
mod tests;
pub mod weights;

/// Of x.
const SEED: u64 = 2;
/// Makes a method ready: of a strategy, and the adapter's rank.
pub type Make<E> = Box<dyn Fn(&LinearSetup<E>, Strategy, usize) -> anyhow::Result<Box<dyn Call>>>;

/// A library on a backend.
pub struct Library<E: Executor> {
    /// The name in the records, for a strategy.
    pub name: Box<dyn Fn(Strategy) -> String>,
    /// What it computes at a rank; its base product apart.
    pub strategies: fn(usize) -> &'static [Strategy],
    /// How.
    pub make: Make<E>,
}

/// This library; `strategies` are those beside its base, and `prefix` stands before their names in the
/// records.
pub fn this_library<E: Executor + 'static>(
    prefix: &'static str,
    strategies: fn(usize) -> &'static [Strategy],
) -> Library<E> {
    let name = Box::new(move |strategy| format!("{prefix}{strategy}"));
    Library { name, strategies, make: Box::new(E::linears) }
}

/// This library's strategies beside its base, as the grid measures them.
pub fn ours(_: usize) -> &'static [Strategy] {
    &[Strategy::Unfused, Strategy::Fused]
}

/// A layer for each adapter of a batch, called on the adapter's rows, one after another.
fn clones<T: Number>() -> Library<Processor<T>> {
    Library {
        name: Box::new(|_| "clones".to_owned()),
        strategies: |rank| if rank == 0 { &[] } else { &[Strategy::Fused] },
        make: Box::new(|setup, _, rank| Ok(Processor::clones(setup, rank))),
    }
}

/// What another library computes: its base product, and at a rank its three calls.
pub fn theirs(rank: usize) -> &'static [Strategy] {
    if rank == 0 { &[Strategy::Base] } else { &[Strategy::Unfused] }
}

/// The linear layers in the element type of the settings on this host's processor, for a last-level cache of
/// so many bytes, computed by this library; where adapters are mixed, also by a call for each, and by PyTorch
/// if that is asked for.
pub fn on_processor(
    settings: &Settings,
    simd: Simd,
    last_level_cache: usize,
    strategies: fn(usize) -> &'static [Strategy],
) -> anyhow::Result<Box<dyn Suite>> {
    fn of<T: Number>(
        settings: &Settings,
        simd: Simd,
        last_level_cache: usize,
        strategies: fn(usize) -> &'static [Strategy],
    ) -> anyhow::Result<Box<dyn Suite>> {
        let processor = Processor::<T>::new(simd, last_level_cache);
        let mut libraries = vec![this_library("", strategies)];
        let mut torch = None;
        if settings.mix > 1 {
            libraries.push(clones());
            torch = Torch::start(settings, &["linears"])?;
        }
        Ok(Box::new(Linears::new(processor, settings, libraries, torch)))
    }
    with_number!(settings.dtype, of(settings, simd, last_level_cache, strategies))
}

/// The linear layers on a backend.
pub struct Linears<E: Executor> {
    workload: &'static Workload,
    ranks: &'static [usize],
    /// Adapters in a batch.
    mix: usize,
    setup: LinearSetup<E>,
    libraries: Vec<Library<E>>,
    /// None where PyTorch does not run.
    torch: Option<Torch>,
    /// x of the first slot's products, one behind the other: what the reference sees.
    first: Vec<E::Element>,
    /// What y should be at one size, by strategy and rank: many methods compute the same.
    known: HashMap<(Strategy, usize), Rc<Vec<Expected>>>,
}

impl<E: Executor> Linears<E> {
    /// The workload of the settings at the ranks of their sizes on a backend, computed by those libraries,
    /// the first of which is this one, and by PyTorch where it is given.
    pub fn new(
        backend: E,
        settings: &Settings,
        libraries: Vec<Library<E>>,
        torch: Option<Torch>,
    ) -> Linears<E> {
        let Settings { workload, cache, grid, mix, .. } = *settings;
        let setup = Setup::new(backend, Weights::new(widths(workload), mix), cache);
        let ranks = ranks(grid);
        Linears { workload, ranks, mix, setup, libraries, torch, first: Vec::new(), known: HashMap::new() }
    }
}

impl<E: Executor> Suite for Linears<E> {
    fn methods(&self, size: Size) -> Vec<Method> {
        let Linears { workload, ranks, mix, setup, libraries, torch, .. } = self;
        let like = Alike { workload, cache: setup.cache, dtype: E::Element::DTYPE, ranks, mix: *mix, size };
        let mut methods = methods(&like, setup.backend.granule(), libraries);
        let of_torch = torch.iter().flat_map(|torch| &torch.methods);
        for (name, needs_adapter) in of_torch.filter(|(name, _)| name.starts_with(E::Element::TORCH)) {
            with_torch(&mut methods, &like, (name, *needs_adapter));
        }
        methods.extend(setup.probes(workload.flops_base(size.m())));
        methods
    }

    fn prepare(&mut self, size: Size, slots: usize, methods: &[Method]) -> anyhow::Result<Vec<Ready>> {
        let Linears { workload, setup, libraries, torch, first, known, .. } = self;
        let (flops, mut normals) = (workload.flops_base(size.m()), Normals::new(SEED));
        first.clear();
        known.clear();
        setup.resize(size.m(), &widths(workload), slots, flops, |_, x| {
            normals.fill(1.0, x);
            if first.is_empty() {
                first.extend_from_slice(x);
            }
        })?;
        for rank in methods.iter().map(|method| method.rank).collect::<BTreeSet<_>>() {
            let Setup { backend, weights, weight_slots, .. } = &mut *setup;
            weights.ensure(backend, *weight_slots, rank)?;
        }
        let torch =
            torch.as_ref().filter(|_| methods.iter().any(|method| method.provider == Provider::Torch));
        if let Some(torch) = torch {
            let own = &setup.weights.slots(1)[0];
            let weights = |tensors: &mut Tensors| {
                own.iter().enumerate().for_each(|(i, linear)| linear.put(i, tensors));
                tensors.put_number("scale", SCALE);
            };
            let x = |tensors: &mut Tensors| {
                let mut x = &first[..];
                for (i, (k, _)) in widths(workload).into_iter().enumerate() {
                    let own = x.split_off(..size.m() * k).expect("there is x of each product");
                    let own = ArrayView2::from_shape((size.m(), k), own).expect("x has M · K elements");
                    tensors.put(&format!("x.{i}"), &own);
                }
            };
            torch.prepare((own[0].ranks(), weights), x, slots, setup.passes, size.seq_len)?;
        }
        let ready = |method: &Method| match (method.task, method.provider, torch) {
            (Task::Linear(strategy), Provider::Library(library), _) => {
                let made = (libraries[library].make)(setup, strategy, method.rank);
                setup.backend.or_left_out(&method.ids[0], made)
            }
            (Task::Linear(_), Provider::Torch, Some(torch)) => torch.ready(method, setup.backend.called()),
            (Task::Probe(probe), ..) => setup.probe(probe, flops).map(Some),
            _ => anyhow::bail!("{} is no linear layer", method.names[0]),
        };
        methods.iter().map(ready).collect()
    }

    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Rc<Vec<Expected>>> {
        let Task::Linear(strategy) = method.task else { return Ok(Rc::default()) };
        let key = (strategy, method.rank);
        if let Some(known) = self.known.get(&key) {
            return Ok(Rc::clone(known));
        }
        let mut x = &self.first[..];
        let weights = &self.setup.weights;
        // Where the rows of each adapter end; of rank 0 there is one for all.
        let ends = |rank: usize| -> Vec<usize> {
            let all = std::iter::once(size.m());
            if rank == 0 { all.collect() } else { weights.share(size.m()).map(|rows| rows.end).collect() }
        };
        let of = |linear: &Linear<E>| {
            let (own, rest) = x.split_at(size.m() * linear.w.ncols());
            x = rest;
            let rows = sampled_rows(size.m(), linear.w.len());
            let own = ArrayView2::from_shape((size.m(), linear.w.ncols()), own)?.select(Axis(0), &rows);
            let (mut parts, mut first) = (Vec::new(), 0);
            for (lora, end) in linear.adapters(method.rank).iter().zip(ends(method.rank)) {
                let next = rows.partition_point(|&row| row < end);
                let (a, b) = (lora.a.view(), lora.b.view());
                let inputs = Inputs {
                    x: own.slice(s![first..next, ..]),
                    w: linear.w.view(),
                    adapter: Some(LoraView { a, b, scale: SCALE }),
                    epilogue: Epilogue::NONE,
                };
                parts.push(expected(&inputs, strategy)?);
                first = next;
            }
            let [y, tolerance] = [0, 1]
                .map(|i| concatenate(Axis(0), &parts.iter().map(|part| part[i].view()).collect::<Vec<_>>()));
            let (y, tolerance) = (y?, tolerance?);
            let rows = rows.into_iter().enumerate().map(|(number, row)| (row, number)).collect();
            Ok(Expected { rows, y, tolerance, norm_tolerance: E::Element::NORM_TOLERANCE })
        };
        let expected = Rc::new(self.setup.weights.slots(1)[0].iter().map(of).collect::<anyhow::Result<_>>()?);
        self.known.insert(key, Rc::clone(&expected));
        Ok(expected)
    }

    fn describe(&self, method: &Method, record: &mut Record) {
        if let (Provider::Torch, Some(torch)) = (method.provider, &self.torch) {
            torch.describe(record);
        }
    }
}

/// What all methods of a size have in common.
pub struct Alike<'a> {
    /// What they compute.
    pub workload: &'a Workload,
    /// Whether weights come from memory.
    pub cache: Cache,
    /// Of x, W, A, B and y.
    pub dtype: DType,
    /// The ranks of their adapters.
    pub ranks: &'a [usize],
    /// Adapters in a batch.
    pub mix: usize,
    /// The tokens.
    pub size: Size,
}

/// The methods of a size: the base of the first library, and all that the libraries compute at each rank,
/// compared with that base.
pub fn methods<E: Executor>(like: &Alike<'_>, granule: Granule, libraries: &[Library<E>]) -> Vec<Method> {
    let method = |library: usize, strategy: Strategy, rank: usize| {
        let name = (libraries[library].name)(strategy);
        let is_base = library == 0 && strategy == Strategy::Base;
        let pad = || like.workload.floor_pad_pct(rank, granule.shrink_n, granule.expand_k);
        Method {
            base: Some(0),
            work: like.work(if strategy == Strategy::Base { 0 } else { rank }),
            // How another library pads a rank is not known.
            floor: (!is_base)
                .then(|| Floor { pct: like.workload.floor_pct(rank), pad_pct: (library == 0).then(pad) }),
            dtype: like.dtype.name(),
            ..Method::new(&name, rank, Task::Linear(strategy), Provider::Library(library))
        }
    };
    let mut methods = vec![method(0, Strategy::Base, 0)];
    for &rank in like.ranks {
        for (number, library) in libraries.iter().enumerate() {
            methods.extend((library.strategies)(rank).iter().map(|&strategy| method(number, strategy, rank)));
        }
    }
    methods
}

/// Appends a method of PyTorch's of that name, and whether it needs an adapter: a base once, all else at each
/// rank. One that has no base to be compared with is left out.
fn with_torch(methods: &mut Vec<Method>, like: &Alike<'_>, (name, needs_adapter): (&str, bool)) {
    let (of_dtype, kind) = name.split_once('/').unwrap_or((name, ""));
    let base = format!("{of_dtype}/base{}", if kind.ends_with("-graph") { "-graph" } else { "" });
    let is_base = name == base;
    let place = methods.iter().position(|method| method.names[0] == base);
    let Some(place) = place.or(is_base.then_some(methods.len())) else { return };
    for &rank in
        like.ranks.iter().filter(|&&rank| if is_base { rank == 0 } else { rank > 0 || !needs_adapter })
    {
        let strategy = if is_base { Strategy::Base } else { Strategy::Unfused };
        methods.push(Method {
            base: Some(place),
            work: like.work(rank),
            // How PyTorch pads a rank is not known.
            floor: (!is_base).then(|| Floor { pct: like.workload.floor_pct(rank), pad_pct: None }),
            dtype: like.dtype.name(),
            ..Method::new(name, rank, Task::Linear(strategy), Provider::Torch)
        });
    }
}

impl Alike<'_> {
    /// Operations and bytes of a forward pass with adapters of that rank.
    pub(crate) fn work(&self, rank: usize) -> Work {
        let m = self.size.m();
        let of = |p: &fused_lora_records::Projection| {
            let weights = p.d_in * p.d_out + self.mix.min(m) * rank * (p.d_in + p.d_out);
            m * (p.d_in + p.d_out) + if self.cache == Cache::Cold { weights } else { 0 }
        };
        let elements: usize = self.workload.projections().iter().map(of).sum();
        Work { flops: self.workload.flops(m, rank), bytes: (elements * self.dtype.size()) as f64 }
    }
}

/// K and N of each product.
fn widths(workload: &Workload) -> Vec<(usize, usize)> {
    workload.projections().iter().map(|p| (p.d_in, p.d_out)).collect()
}
