//! The linear layers of a workload, one after another, with an adapter on each.
//!
//! A method is a [`Library`] and a [`Strategy`]: to compare with another library is one more entry in a
//! suite's list. PyTorch says itself which methods it has; each is compared with its own base of the same
//! element type, and of the same kind: graphs with graphs.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use fused_lora::reference::{self, Inputs, LoraView};
use fused_lora::{Epilogue, Granule, Strategy};
use fused_lora_records::{RANKS, Record, Workload};
use half::{bf16, f16};
use ndarray::{ArrayView2, Axis, CowArray, Ix2};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{SeedableRng, seq};

use crate::executor::{Executor, LinearSetup, Setup};
use crate::method::{Call, Expected, Floor, Method, Provider, Ready, Suite, Task, Work};
use crate::normals::Normals;
use crate::settings::Cache;
use crate::size::Size;
use crate::torch::{Tensors, Torch};
use weights::{Linear, Lora, SCALE, Weights};

#[cfg(test)]
mod tests;
pub mod weights;

/// Of x.
const SEED: u64 = 2;
/// Rows that are compared, in every column. The f64 reference of all of them would take minutes at M = 16384.
const ROWS: [usize; 2] = [4, 16];
/// Multiply-adds of the reference that are worth it: a tenth of a second.
const REFERENCE: usize = 64 << 20;

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

/// What another library computes: its base product, and at a rank its three calls.
pub fn theirs(rank: usize) -> &'static [Strategy] {
    if rank == 0 { &[Strategy::Base] } else { &[Strategy::Unfused] }
}

/// The linear layers on a backend.
pub struct Linears<E: Executor> {
    workload: &'static Workload,
    setup: LinearSetup<E>,
    libraries: Vec<Library<E>>,
    /// None where PyTorch does not run.
    torch: Option<Torch>,
    /// x of the first slot's products, one behind the other: what the reference sees.
    first: Vec<f16>,
    /// What y should be at one size, by strategy, rank, and whether it is bf16: many methods compute the
    /// same.
    known: HashMap<(Strategy, usize, bool), Rc<Vec<Expected>>>,
}

impl<E: Executor> Linears<E> {
    /// A workload on a backend, computed by those libraries, the first of which is this one, and by PyTorch
    /// where it is given.
    pub fn new(
        backend: E,
        workload: &'static Workload,
        cache: Cache,
        libraries: Vec<Library<E>>,
        torch: Option<Torch>,
    ) -> Linears<E> {
        let setup = Setup::new(backend, Weights::new(widths(workload)), cache);
        Linears { workload, setup, libraries, torch, first: Vec::new(), known: HashMap::new() }
    }
}

impl<E: Executor> Suite for Linears<E> {
    fn methods(&self, size: Size) -> Vec<Method> {
        let Linears { workload, setup, libraries, torch, .. } = self;
        let mut methods = methods(workload, setup.cache, setup.backend.granule(), libraries, size);
        for (name, needs_adapter) in torch.iter().flat_map(|torch| &torch.methods) {
            with_torch(&mut methods, workload, setup.cache, size, (name, *needs_adapter));
        }
        methods.extend(setup.probes(workload.flops_base(size.m())));
        methods
    }

    fn prepare(&mut self, size: Size, slots: usize, methods: &[Method]) -> anyhow::Result<Vec<Ready>> {
        let Linears { workload, setup, libraries, torch, first, known } = self;
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
            weights.ensure(backend.backend(), *weight_slots, rank)?;
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
        let is_bf16 = method.dtype == "bf16";
        let key = (strategy, method.rank, is_bf16);
        if let Some(known) = self.known.get(&key) {
            return Ok(Rc::clone(known));
        }
        // bf16's unit is eight of f16's, in which the tolerance is: of y, and of h.
        let unit = if is_bf16 { 8.0 } else { 1.0 };
        let mut x = &self.first[..];
        let of = |linear: &Linear<_>| {
            let (own, rest) = x.split_at(size.m() * linear.w.ncols());
            x = rest;
            let rows = sampled_rows(size.m(), linear.w.len());
            let own = ArrayView2::from_shape((size.m(), linear.w.ncols()), own)?.select(Axis(0), &rows);
            let Lora { a, b, .. } = linear.adapter(method.rank);
            let [own, w, a, b] =
                [own.view(), linear.w.view(), a.view(), b.view()].map(|matrix| operand(matrix, is_bf16));
            let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: SCALE });
            let inputs = Inputs { x: own.view(), w: w.view(), adapter, epilogue: Epilogue::NONE };
            let reference::Expected { y, tolerance, .. } = reference::forward(&inputs, strategy)?;
            let rows = rows.into_iter().enumerate().map(|(number, row)| (row, number)).collect();
            // 2u = 2⁻¹⁰
            Ok(Expected { rows, y, tolerance: unit * tolerance, norm_tolerance: unit / 1024.0 })
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

/// The methods of a size: the base of the first library, and all that the libraries compute at each rank,
/// compared with that base.
pub fn methods<E: Executor>(
    workload: &Workload,
    cache: Cache,
    granule: Granule,
    libraries: &[Library<E>],
    size: Size,
) -> Vec<Method> {
    let method = |library: usize, strategy: Strategy, rank: usize| {
        let name = (libraries[library].name)(strategy);
        let is_base = library == 0 && strategy == Strategy::Base;
        let pad = || workload.floor_pad_pct(rank, granule.shrink_n, granule.expand_k);
        Method {
            base: Some(0),
            work: work(workload, cache, size.m(), if strategy == Strategy::Base { 0 } else { rank }),
            // How another library pads a rank is not known.
            floor: (!is_base)
                .then(|| Floor { pct: workload.floor_pct(rank), pad_pct: (library == 0).then(pad) }),
            ..Method::new(&name, rank, Task::Linear(strategy), Provider::Library(library))
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

/// A matrix as PyTorch has it. Rounded to bf16, which has fewer bits, numbers of a usual size are f16 again.
fn operand(matrix: ArrayView2<'_, f16>, is_bf16: bool) -> CowArray<'_, f16, Ix2> {
    let rounded = |value: &f16| f16::from_f32(bf16::from_f32(value.to_f32()).to_f32());
    if is_bf16 { matrix.map(rounded).into() } else { matrix.into() }
}

/// Appends a method of PyTorch's of that name, and whether it needs an adapter: a base once, all else at each
/// rank. One that has no base to be compared with is left out.
fn with_torch(
    methods: &mut Vec<Method>,
    workload: &Workload,
    cache: Cache,
    size: Size,
    (name, needs_adapter): (&str, bool),
) {
    let (of_dtype, kind) = name.split_once('/').unwrap_or((name, ""));
    let (dtype, widened) = match of_dtype {
        "torch-fp32" => ("f32", 2.0),
        "torch-bf16" => ("bf16", 1.0),
        _ => ("f16", 1.0),
    };
    let base = format!("{of_dtype}/base{}", if kind.ends_with("-graph") { "-graph" } else { "" });
    let is_base = name == base;
    let place = methods.iter().position(|method| method.names[0] == base);
    let Some(place) = place.or(is_base.then_some(methods.len())) else { return };
    for rank in RANKS.into_iter().filter(|&rank| if is_base { rank == 0 } else { rank > 0 || !needs_adapter })
    {
        let strategy = if is_base { Strategy::Base } else { Strategy::Unfused };
        let Work { flops, bytes } = work(workload, cache, size.m(), rank);
        methods.push(Method {
            base: Some(place),
            work: Work { flops, bytes: widened * bytes },
            // How PyTorch pads a rank is not known.
            floor: (!is_base).then(|| Floor { pct: workload.floor_pct(rank), pad_pct: None }),
            dtype,
            ..Method::new(name, rank, Task::Linear(strategy), Provider::Torch)
        });
    }
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
