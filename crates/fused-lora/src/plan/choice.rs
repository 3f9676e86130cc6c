use std::{cell::RefCell, fmt};

use fused_lora_kernels::{
    params::{Adapter, Lora},
    table::{Kernel, Operation, Target},
};

use super::{
    adapters::{Adapters, Signature},
    cache::Cache,
    clusters::cluster_sizes,
    cost::{self, Placement, Seconds, Work},
    error::Error,
    forced::{Forced, forced},
    gpu::Gpu,
    layout::workspace_size,
    sizes::{count, count_u64},
};
use crate::{Problem, Strategy};

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
    /// CTAs, in whole clusters: as many as the device holds at a time, or fewer if there is less work. Only
    /// kernels that split K have as many CTAs as there is work.
    pub grid: u32,
    /// CTAs in a cluster; 1 without clusters.
    pub cluster: u32,
    /// Work items: tiles of y and of h.
    pub items: u32,
    /// The cost model's estimate of the time, by both of its sets of constants.
    pub seconds: Seconds,
    /// The index of the kernel in `Gpu::entries`.
    pub(crate) index: usize,
}

/// A call, as far as its plan depends on it.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
    /// Whether x can be read 16 bytes at a time.
    pub(crate) aligned: bool,
    /// Whether the copy engine can address x and y.
    pub(crate) boxed: bool,
    pub(crate) strategy: Strategy,
    pub(crate) adapters: Adapters<'a>,
    /// Bytes of the workspace.
    pub(crate) workspace: usize,
}

/// Everything that a plan depends on. The storage type is one, and the epilogue changes no choice.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Key {
    gpu: u64,
    size: [u32; 3],
    aligned: bool,
    boxed: bool,
    strategy: Strategy,
    adapters: Signature,
    workspace: usize,
}

thread_local! {
    /// Each thread has its own, so that a call takes no lock.
    static PLANS: RefCell<Cache<Key, Plan>> = const { RefCell::new(Cache::new()) };
}

impl Request<'_> {
    fn key(&self, gpu: &Gpu) -> Key {
        let Self { m, n, k, aligned, boxed, strategy, adapters, workspace } = *self;
        Key {
            gpu: gpu.id(),
            size: [m, n, k],
            aligned,
            boxed,
            strategy,
            adapters: adapters.signature(),
            workspace,
        }
    }

    /// One adapter for all rows, x and y without gaps and as aligned as K and N allow, and the least
    /// workspace.
    pub(crate) fn uniform(m: u32, n: u32, k: u32, rank: u32, strategy: Strategy) -> Self {
        let uniform = Adapter { rank, last_column: n, ..Adapter::default() };
        let aligned = k.is_multiple_of(8);
        Self {
            m,
            n,
            k,
            aligned,
            boxed: aligned && n.is_multiple_of(8),
            strategy,
            adapters: Adapters::uniform(Lora { uniform, ..Lora::default() }),
            workspace: workspace_size(m as usize, rank as usize),
        }
    }
}

impl Gpu {
    /// What a call of this size launches with one adapter for all rows, with x and y that have no gaps and
    /// are as aligned as K and N allow, and with a workspace of
    /// [`workspace_size`](crate::plan::workspace_size).
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]; [`Error::NoKernel`] if not even the smallest kernels fit.
    pub fn plan(&self, problem: &Problem, strategy: Strategy) -> Result<Plan, Error> {
        let Problem { m, n, k, rank } = *problem;
        let [m, n, k, rank] = [count("M", m)?, count("N", n)?, count("K", k)?, count("r", rank)?];
        Plan::of(&Request::uniform(m, n, k, rank, strategy), self)
    }
}

impl Plan {
    /// The best, by the cost model. Plans are kept: a request that this thread has made lately takes no
    /// lock and allocates nothing.
    pub(crate) fn of(request: &Request<'_>, gpu: &Gpu) -> Result<Self, Error> {
        let key = request.key(gpu);
        // There is no cache while a thread ends.
        if let Ok(Some(plan)) = PLANS.try_with(|plans| plans.borrow().get(&key)) {
            return Ok(plan);
        }
        let plan = Self::among(request, gpu, &|_| true)?;
        let _ = PLANS.try_with(|plans| plans.borrow_mut().add(key, plan));
        Ok(plan)
    }

    /// The best of what `allow` lets pass.
    pub(crate) fn among(
        request: &Request<'_>,
        gpu: &Gpu,
        allow: &dyn Fn(&Launch) -> bool,
    ) -> Result<Self, Error> {
        Self::with(request, gpu, forced()?, allow)
    }

    /// Likewise, with this kernel wherever its operation is launched.
    fn with(
        request: &Request<'_>,
        gpu: &Gpu,
        forced: Option<Forced>,
        allow: &dyn Fn(&Launch) -> bool,
    ) -> Result<Self, Error> {
        let choose = |operations: &[Operation]| {
            let forced = forced.filter(|forced| operations.contains(&forced.kernel.operation));
            let Some(forced) = forced else { return Launch::choose(operations, request, gpu, allow) };
            let is_it = |launch: &Launch| {
                launch.kernel.name == forced.kernel.name && launch.cluster == forced.cluster && allow(launch)
            };
            Launch::choose(operations, request, gpu, &is_it).map_err(|error| match error {
                Error::NoKernel { .. } => forced.refused("it cannot serve this call on this device"),
                error => error,
            })
        };
        let steps = steps(request);
        let mut plan = Self { launches: [choose(steps[0])?; MOST_LAUNCHES], count: steps.len() };
        for (launch, step) in plan.launches.iter_mut().zip(steps).skip(1) {
            *launch = choose(step)?;
        }
        Ok(plan)
    }

    /// The launches, in order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches[..self.count]
    }

    /// The cost model's estimate of the time of all launches, by both of its sets of constants.
    pub fn seconds(&self) -> Seconds {
        self.launches().iter().map(|launch| launch.seconds).sum()
    }
}

/// The launches of a strategy, each as the operations that can do it.
fn steps(request: &Request<'_>) -> &'static [&'static [Operation]] {
    const GEMM: &[Operation] = &[Operation::Gemm, Operation::GemmSplitK];
    match request.strategy {
        // Nothing to add costs nothing.
        _ if request.adapters.is_none() => &[GEMM],
        Strategy::Base => &[GEMM],
        Strategy::Fused => &[&[Operation::Fused, Operation::FusedRecompute, Operation::FusedCooperative]],
        Strategy::Unfused => &[GEMM, &[Operation::Shrink], &[Operation::Expand]],
    }
}

impl Launch {
    /// The one whose worse ratio is the least: its time over the fastest by each set of constants. Nobody
    /// knows yet which set is right, and for whichever it is, this choice has the best guarantee.
    fn choose(
        operations: &[Operation],
        request: &Request<'_>,
        gpu: &Gpu,
        allow: &dyn Fn(&Launch) -> bool,
    ) -> Result<Self, Error> {
        let candidates = Self::candidates(operations, request, gpu, allow)?;
        let fastest = fastest(&candidates);
        let over = |launch: &Launch| launch.seconds.over(fastest);
        let best = candidates.into_iter().min_by(|a, b| over(a).total_cmp(&over(b)));
        best.ok_or(Error::NoKernel { strategy: request.strategy, operation: operations[0] })
    }

    /// All that can do it, in the order of the table.
    fn candidates(
        operations: &[Operation],
        request: &Request<'_>,
        gpu: &Gpu,
        allow: &dyn Fn(&Launch) -> bool,
    ) -> Result<Vec<Self>, Error> {
        let mut candidates = Vec::new();
        for (index, entry) in gpu.entries().iter().enumerate() {
            let kernel = entry.kernel;
            let fits = entry.occupancy.resident > 0
                && operations.contains(&kernel.operation)
                && addresses(kernel, request)
                && has_room(kernel, request);
            if !fits {
                continue;
            }
            for cluster in cluster_sizes(kernel, request.k) {
                let (clusters, resident) = (entry.occupancy.of_size(cluster), entry.occupancy.resident);
                let placement = Placement { cluster, clusters, resident };
                if placement.clusters == 0 || !request.adapters.suit(kernel, cluster) {
                    continue;
                }
                let launch = Launch::of(index, kernel, placement, request, gpu)?;
                if allow(&launch) {
                    candidates.push(launch);
                }
            }
        }
        Ok(candidates)
    }

    fn of(
        index: usize,
        kernel: &'static Kernel,
        placement: Placement,
        request: &Request<'_>,
        gpu: &Gpu,
    ) -> Result<Self, Error> {
        let h = request.adapters.h_work(kernel, request.m);
        let work = Work {
            m: request.m,
            n: request.n,
            k: request.k,
            rank: request.adapters.rank_of_tiles(kernel, request.m),
            h_items: h.items,
            h_columns: h.columns,
        };
        let outputs = cost::outputs(kernel, &work);
        let h_items = if cost::makes_h(kernel) { h.items } else { 0 };
        let items = count_u64("work items", outputs + h_items)?;
        let Placement { cluster, clusters, .. } = placement;
        let grid = match kernel.operation {
            // One cluster for each tile.
            Operation::GemmSplitK => count_u64("CTAs", u64::from(items) * u64::from(cluster))?,
            // What does not run at once would only wait; a cluster takes neighbouring tiles of a row tile.
            _ => {
                let parts = cost::cluster_items(kernel, cluster, &work) + h_items;
                parts.min(u64::from(clusters)) as u32 * cluster
            }
        };
        let seconds = cost::seconds(kernel, placement, &work, gpu.properties());
        Ok(Self { kernel, grid, cluster, items, seconds, index })
    }
}

/// The shortest time of any of them, set by set.
fn fastest(candidates: &[Launch]) -> Seconds {
    candidates.iter().fold(Seconds::INFINITE, |best, launch| best.min(launch.seconds))
}

/// Whether a kernel reads x, and writes y, where they lie.
fn addresses(kernel: &Kernel, request: &Request<'_>) -> bool {
    match kernel.target {
        Target::Sm90a => request.boxed,
        Target::Sm80 => request.aligned || !kernel.aligned || kernel.operation == Operation::Expand,
    }
}

/// Whether the workspace holds the kernel's h. Of a call's own size it does, but that of a row tile with
/// several adapters is wider where they lie side by side in it.
fn has_room(kernel: &Kernel, request: &Request<'_>) -> bool {
    let shared = kernel.target == Target::Sm90a && kernel.operation == Operation::Fused;
    let needed = || workspace_size(request.m as usize, request.adapters.ldh(kernel) as usize);
    !shared || needed() <= request.workspace
}

/// `gemm_64x64 × 16 CTAs (16 items) + …`, `sm90_gemm_128x256 × 132 CTAs in clusters of 2 (512 items)`
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, launch) in self.launches().iter().enumerate() {
            if i > 0 {
                f.write_str(" + ")?;
            }
            write!(f, "{launch}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {} CTAs", self.kernel.name, self.grid)?;
        if self.cluster > 1 {
            write!(f, " in clusters of {}", self.cluster)?;
        }
        write!(f, " ({} items)", self.items)
    }
}

#[cfg(test)]
impl Plan {
    /// The time that a plan takes which one set of constants chose for itself.
    pub(crate) fn fastest(request: &Request<'_>, gpu: &Gpu) -> Result<Seconds, Error> {
        let of = |step: &&[Operation]| Ok(fastest(&Launch::candidates(step, request, gpu, &|_| true)?));
        steps(request).iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{assignment::Assignment, clusters::kernels, forced::LeftOut};

    #[test]
    fn a_forced_kernel_serves_or_the_call_is_refused_by_its_name() {
        let gpu = Gpu::from_data_sheet("h200").unwrap();
        let plan = |k, rank, strategy, forced| {
            let request = Request::uniform(512, 1024, k, rank, strategy);
            let forced = Forced::parse(forced).unwrap();
            Plan::with(&request, &gpu, Some(forced), &|_| true).map_err(|error| error.to_string())
        };
        let first = |plan: Result<Plan, String>| {
            let launch = plan.unwrap().launches()[0];
            (launch.kernel.name, launch.cluster)
        };
        for forced in ["gemm_64x64", "sm90_gemm_64x16/8", "sm90_gemm_split_k_64x64/4"] {
            let name = forced.split('/').next().unwrap();
            assert_eq!(first(plan(1024, 0, Strategy::Base, forced)).0, name);
            assert_eq!(
                first(plan(1024, 100, Strategy::Unfused, forced)).0,
                name,
                "the base of three launches"
            );
        }
        assert_eq!(first(plan(1024, 100, Strategy::Fused, "sm90_fused_64x64")), ("sm90_fused_64x64", 1));
        // Another operation's kernel changes nothing.
        let free =
            Plan::among(&Request::uniform(512, 1024, 1024, 100, Strategy::Fused), &gpu, &|_| true).unwrap();
        assert_eq!(first(plan(1024, 100, Strategy::Fused, "gemm_64x64")).0, free.launches()[0].kernel.name);
        for (k, rank, strategy, forced) in [
            (1022, 0, Strategy::Base, "sm90_gemm_64x64/2"),
            (1024, 100, Strategy::Fused, "fused_recompute_64x64_h16"),
            (128, 0, Strategy::Base, "sm90_gemm_split_k_64x128/8"),
        ] {
            let error = plan(k, rank, strategy, forced).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "FUSED_LORA_PLAN={}: it cannot serve this call on this device",
                    if forced.contains('/') { forced.to_owned() } else { format!("{forced}/1") }
                )
            );
        }
    }

    #[test]
    fn what_is_left_out_is_not_launched() {
        let whole = Gpu::from_data_sheet("h200").unwrap();
        let without = |text: &str| whole.clone().without(&LeftOut::parse_all(text).unwrap());
        let first = |gpu: &Gpu| {
            let plan = gpu.plan(&Problem::new(4096, 4096, 4096, 0), Strategy::Base)?;
            let launch = plan.launches()[0];
            Ok::<_, Error>((launch.kernel, launch.cluster))
        };
        let (kernel, cluster) = first(&whole).unwrap();
        assert!(cluster > 1, "the test is of a kernel with clusters");

        // In clusters of one size: others of it are there.
        let gpu = without(&format!("-{}/{cluster}", kernel.name));
        assert_eq!((gpu.clusters(kernel, cluster), gpu.resident(kernel)), (0, whole.resident(kernel)));
        assert!(gpu.clusters(kernel, 1) > 0);
        let (other, size) = first(&gpu).unwrap();
        assert_ne!((other.name, size), (kernel.name, cluster));

        // In all of them, and another kernel.
        let gpu = without(&format!("-{},-{}", kernel.name, other.name));
        assert_eq!((gpu.resident(kernel), gpu.resident(other)), (0, 0));
        assert!(![kernel.name, other.name].contains(&first(&gpu).unwrap().0.name));

        // All of an operation: the call is refused, and others are served.
        let bases = kernels(Target::Sm90a)
            .filter(|kernel| matches!(kernel.operation, Operation::Gemm | Operation::GemmSplitK));
        let names: Vec<String> = bases.map(|kernel| format!("-{}", kernel.name)).collect();
        let gpu = without(&names.join(","));
        assert!(matches!(first(&gpu), Err(Error::NoKernel { operation: Operation::Gemm, .. })));
        assert!(gpu.plan(&Problem::new(128, 1024, 1024, 10), Strategy::Fused).is_ok());
    }

    #[test]
    fn plans_are_kept_by_everything_that_they_depend_on() {
        let kept = |key: &Key| PLANS.with(|plans| plans.borrow().get(key));
        let [gpu, other] = ["h200", "a100"].map(|name| Gpu::from_data_sheet(name).unwrap());
        let base = Request::uniform(512, 1024, 2048, 100, Strategy::Fused);
        let lora = Lora::default();
        let assignments = [100, 10].map(|rank| Assignment::new(512, &[(0..512, 0)], &[rank]).unwrap());
        let [one, two] = assignments.each_ref().map(|of| Adapters::batch(lora, of));
        let requests = [
            base,
            Request { m: 4096, ..base },
            Request { n: 2048, ..base },
            Request { k: 1024, ..base },
            Request { aligned: false, ..base },
            Request { boxed: false, ..base },
            Request { strategy: Strategy::Unfused, ..base },
            Request { adapters: Adapters::None, ..base },
            Request { adapters: Request::uniform(1, 1, 1, 10, Strategy::Fused).adapters, ..base },
            Request { adapters: one, ..base },
            Request { adapters: two, ..base },
            Request { workspace: base.workspace + 1, ..base },
        ];
        let asked: Vec<_> = requests.iter().map(|of| (of, &gpu)).chain([(&base, &other)]).collect();
        for (i, (request, gpu)) in asked.iter().enumerate() {
            let key = request.key(gpu);
            assert!(kept(&key).is_none(), "request {i} is found under another's key");
            let plan = Plan::of(request, gpu).unwrap().to_string();
            assert_eq!(plan, Plan::among(request, gpu, &|_| true).unwrap().to_string());
            assert_eq!(kept(&key).unwrap().to_string(), plan);
            assert_eq!(Plan::of(request, gpu).unwrap().to_string(), plan);
        }
        // What is left out makes it another GPU; a clone is the same.
        assert_eq!(base.key(&gpu.clone()), base.key(&gpu));
        assert_ne!(base.key(&gpu.clone().without(&[])), base.key(&gpu));
    }

    #[test]
    fn a_plan_needs_sizes_that_can_be_counted() {
        let gpu = Gpu::from_data_sheet("h200").unwrap();
        let plan = |m| gpu.plan(&Problem::new(m, 1024, 1024, 10), Strategy::Fused);
        assert!(plan(128).unwrap().seconds().optimistic > 0.0);
        assert!(matches!(plan(1 << 40), Err(Error::TooLarge { what: "M", .. })));
    }
}
