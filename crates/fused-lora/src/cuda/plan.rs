use std::fmt;

use fused_lora_kernels::table::{KERNELS, Kernel, Operation};

use super::{
    adapters::Adapters,
    cost::{self, Work},
    count::count_u64,
    error::Error,
    properties::Properties,
};
use crate::Strategy;

/// The most launches that a strategy takes.
const MOST_LAUNCHES: usize = 3;

/// What a call launches: one kernel, or base, shrink and expand.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    launches: [Launch; MOST_LAUNCHES],
    count: usize,
}

/// One launch of a plan.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Launch {
    /// What is launched.
    pub kernel: &'static Kernel,
    /// CTAs: as many as the device holds at a time, or fewer if there is not work for so many.
    pub grid: u32,
    /// Work items: tiles of y and of h.
    pub items: u32,
    /// The cost model's estimate.
    pub seconds: f64,
    /// Of the kernel in [`KERNELS`].
    pub(super) index: usize,
}

/// A call, as far as its plan depends on it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
    /// Whether x can be read 16 bytes at a time.
    pub(super) aligned: bool,
    pub(super) strategy: Strategy,
    pub(super) adapters: Adapters<'a>,
}

/// A device, as far as a plan depends on it.
#[derive(Clone, Copy)]
pub(super) struct Gpu<'a> {
    pub(super) properties: &'a Properties,
    /// For each of [`KERNELS`], how many of its CTAs an SM holds at a time.
    pub(super) resident: &'a [u32],
}

impl Plan {
    /// The fastest, by the cost model, of what `allow` lets pass.
    pub(super) fn new(
        request: &Request<'_>,
        gpu: Gpu<'_>,
        allow: &dyn Fn(&Kernel) -> bool,
    ) -> Result<Self, Error> {
        let steps = steps(request);
        let first = Launch::choose(steps[0], request, gpu, allow)?;
        let mut plan = Self { launches: [first; MOST_LAUNCHES], count: steps.len() };
        for (launch, step) in plan.launches.iter_mut().zip(steps).skip(1) {
            *launch = Launch::choose(step, request, gpu, allow)?;
        }
        Ok(plan)
    }

    /// The launches, in their order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches[..self.count]
    }

    /// The cost model's estimate of all launches.
    pub fn seconds(&self) -> f64 {
        self.launches().iter().map(|launch| launch.seconds).sum()
    }
}

/// The launches of a strategy, each as the operations that can do it.
fn steps(request: &Request<'_>) -> &'static [&'static [Operation]] {
    match request.strategy {
        // Nothing to add costs nothing.
        _ if request.adapters.is_none() => &[&[Operation::Gemm]],
        Strategy::Base => &[&[Operation::Gemm]],
        Strategy::Fused => &[&[Operation::Fused, Operation::FusedRecompute]],
        Strategy::Unfused => &[&[Operation::Gemm], &[Operation::Shrink], &[Operation::Expand]],
    }
}

impl Launch {
    fn choose(
        operations: &[Operation],
        request: &Request<'_>,
        gpu: Gpu<'_>,
        allow: &dyn Fn(&Kernel) -> bool,
    ) -> Result<Self, Error> {
        let mut best: Option<Launch> = None;
        for (index, (kernel, &resident)) in KERNELS.iter().zip(gpu.resident).enumerate() {
            let fits = resident > 0
                && operations.contains(&kernel.operation)
                && (request.aligned || !needs_aligned_x(kernel))
                && request.adapters.suit(kernel);
            if !fits || !allow(kernel) {
                continue;
            }
            let launch = Launch::of(index, kernel, resident, request, gpu.properties)?;
            if best.is_none_or(|best| launch.seconds < best.seconds) {
                best = Some(launch);
            }
        }
        best.ok_or(Error::NoKernel { strategy: request.strategy, operation: operations[0] })
    }

    fn of(
        index: usize,
        kernel: &'static Kernel,
        resident: u32,
        request: &Request<'_>,
        properties: &Properties,
    ) -> Result<Self, Error> {
        let h = request.adapters.h_work(kernel, request.m);
        let work = Work {
            m: request.m,
            n: request.n,
            k: request.k,
            rank: request.adapters.mean_rank16(),
            h_items: h.items,
            h_columns: h.columns,
        };
        let h_items = if cost::makes_h(kernel) { h.items } else { 0 };
        let items = count_u64("work items", cost::outputs(kernel, &work) + h_items)?;
        let ctas = properties.multiprocessors.max(1).saturating_mul(resident);
        let seconds = cost::seconds(kernel, resident, &work, properties);
        Ok(Self { kernel, grid: items.min(ctas), items, seconds, index })
    }
}

/// Whether a kernel reads x, 16 bytes at a time.
fn needs_aligned_x(kernel: &Kernel) -> bool {
    kernel.aligned && kernel.operation != Operation::Expand
}

/// `gemm_64x64 × 16 CTAs (16 items) + …`
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, launch) in self.launches().iter().enumerate() {
            let plus = if i > 0 { " + " } else { "" };
            write!(f, "{plus}{} × {} CTAs ({} items)", launch.kernel.name, launch.grid, launch.items)?;
        }
        Ok(())
    }
}
