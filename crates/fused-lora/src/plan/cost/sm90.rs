//! Kernels for compute capability 9.0. Nothing here was measured by us.
//!
//! **A step** of a tile is 64 columns of K: four `wgmma` of each consumer warpgroup, by N columns of W (and
//! of A where h is made beside y), and one slot of the ring. It occupies an SM for
//!
//! ```text
//! tensor   = warpgroups · 4 · N / 2                         64 · N · 16 multiply-adds, 2048 a cycle and SM
//! shared   = warpgroups · 4 · (64 + N) · 32 bytes / 128     each wgmma reads x's and W's rows; x twice where
//!                                                           BLOCK_N + H > 256 and x is in no registers,
//!                                                           and in the late steps
//!          + slot / 128                                     and the copies write them
//!          + passes · tile of y / steps / 128               and the copy engine reads the tile before
//! busy     = max(tensor, shared)
//!
//! port     = slot / 64                                      on its way from L2
//! latency  = latency of a tensor copy / (STAGES − 1)        so many slots are under way at a time
//! ```
//!
//! | item | steps | N | rows of a slot |
//! |---|---|---|---|
//! | tile of y | ⌈K / 64⌉ | BLOCK_N | BLOCK_M + BLOCK_N |
//! | … with its own h | ⌈K / 64⌉ | BLOCK_N + H | BLOCK_M + BLOCK_N + H |
//! | … K of h in slices: own | ⌈K / 64⌉ / cluster | BLOCK_N + H | BLOCK_M + BLOCK_N + H |
//! | … others' | the rest | BLOCK_N | BLOCK_M + BLOCK_N |
//! | … and its expand | r₁₆ / 64 | BLOCK_N | BLOCK_N |
//! | … with shared h, the expand | r₁₆ / 64 | BLOCK_N | BLOCK_M + BLOCK_N |
//! | tile of h | ⌈K / 64⌉ | H_COLUMNS | BLOCK_M + H_COLUMNS |
//! | tile of y, K split | ⌈⌈K / 64⌉ / cluster⌉ | BLOCK_N | BLOCK_M + BLOCK_N |
//!
//! **A tile** ends with what the consumers do without multiplying, its *tail*: the exchange of h, and
//! registers to shared memory, from which the copy engine stores. Meanwhile the ring is filled for the next
//! tile, but nothing is multiplied. So an SM with t tiles, on c CTAs that run beside each other, takes
//!
//! ```text
//! cycles = prologue + max(⌈t / c⌉ · (busy + tail),
//!                         ⌈t / c⌉ · max(port, latency) + one step + tail,
//!                         t · max(busy, port) + tail,
//!                         L2 + one step + tail)
//! L2     = bytes of all slots and of y / bytes per cycle of the chip    less what others load of x
//! ```
//!
//! **The busiest SM** has ⌈groups of tiles / clusters that the GPU holds⌉ tiles for each of its CTAs: a GPU
//! does not hold a cluster wherever it has SMs. **Shared h** are tiles among the others, and waited for once.
//! **Split K** gives every cluster one tile, and the next cluster a prologue of its own.

use fused_lora_kernels::table::{Kernel, Operation};

use super::{
    constants::Constants,
    work::{Placement, Work, busiest, cluster_items, makes_h, outputs},
};
use crate::plan::properties::Properties;

/// The most columns of one `wgmma`.
const MOST_COLUMNS: f64 = 256.0;
/// Rows of a warpgroup.
const WARPGROUP_ROWS: f64 = 64.0;
/// Columns of K in one `wgmma`.
const WGMMA_K: f64 = 16.0;
/// Bytes of an element.
const ELEMENT: f64 = 2.0;

/// What a tile, or part of one, takes of its SM in cycles, and of L2 in bytes.
#[derive(Clone, Copy, Default)]
struct Item {
    busy: f64,
    port: f64,
    latency: f64,
    tail: f64,
    l2_bytes: f64,
}

/// Steps that are alike.
struct Steps {
    count: f64,
    /// Columns that x is multiplied by.
    columns: f64,
    /// `wgmma`s that these take, each of which reads x.
    products: f64,
    /// Columns of K that are multiplied in a step.
    depth: f64,
    /// Rows of a slot.
    rows: f64,
    /// Rows of a slot that this CTA loads itself.
    loaded: f64,
}

/// How CTAs share their work, and what the GPU is taken to do.
struct Share<'a> {
    constants: &'a Constants,
    /// CTAs of a cluster.
    cluster: f64,
}

/// Cycles of the busiest SM.
pub(super) fn cycles(
    constants: &Constants,
    kernel: &Kernel,
    placement: Placement,
    work: &Work,
    gpu: &Properties,
) -> f64 {
    let Placement { cluster, clusters, .. } = placement;
    let sms = u64::from(gpu.multiprocessors.max(1));
    let h_items = if makes_h(kernel) { work.h_items } else { 0 };
    let y_items = cluster_items(kernel, cluster, work);
    let items = y_items + h_items;
    let places = items.min(u64::from(clusters)).max(1);
    let running = places * u64::from(cluster);
    // CTAs on an SM.
    let beside = running.div_ceil(sms) as f64;
    let share = Share { constants, cluster: f64::from(cluster) };
    let (y, h, step) =
        (output_item(kernel, work, &share), h_item(kernel, work, &share), step(kernel, &share));
    if kernel.operation == Operation::GemmSplitK {
        let l2 = running as f64 * y.l2_bytes / constants.l2_bytes;
        let rounds = items.div_ceil(places) as f64;
        return rounds * (constants.prologue + sequence(&y, step, 1.0, beside, l2));
    }
    let l2 = ((y_items * u64::from(cluster)) as f64 * y.l2_bytes + h_items as f64 * h.l2_bytes)
        / constants.l2_bytes;
    let (y_each, h_each) = match kernel.operation {
        Operation::Fused => busiest(places, outputs(kernel, work), h_items),
        _ => (items.div_ceil(places), 0),
    };
    let count = (y_each + h_each).max(1) as f64;
    let h_share = h_each as f64 / count;
    let mean = |part: fn(&Item) -> f64| (1.0 - h_share) * part(&y) + h_share * part(&h);
    let item = Item {
        busy: mean(|item| item.busy),
        port: mean(|item| item.port),
        latency: mean(|item| item.latency),
        tail: mean(|item| item.tail),
        ..Item::default()
    };
    let waits = kernel.operation == Operation::Fused && work.h_items > 0;
    let waits = if waits { h.tail + constants.hand_over } else { 0.0 };
    constants.prologue + sequence(&item, step, count, beside, l2) + waits
}

/// Cycles of `each` items on each of the CTAs that run `beside` each other on an SM, while L2 serves all of
/// the launch for `l2`.
fn sequence(item: &Item, step: f64, each: f64, beside: f64, l2: f64) -> f64 {
    let Item { busy, port, latency, tail, .. } = *item;
    let multiplied = each * (busy + tail);
    let loaded = (each * port.max(latency)).max(l2) + step + tail;
    let shared = each * beside * busy.max(port) + tail;
    multiplied.max(loaded).max(shared)
}

/// Cycles of one step's products, which come after its load.
fn step(kernel: &Kernel, share: &Share<'_>) -> f64 {
    occupied(kernel, share, &[base_steps(kernel, 1.0, 0.0, share)], 0.0).busy
}

/// Steps of the base product, with its own h beside it; `a_rows` of A's rows are not padding.
fn base_steps(kernel: &Kernel, count: f64, a_rows: f64, share: &Share<'_>) -> Steps {
    let [block_m, block_n, h] = [kernel.block_m, kernel.block_n, kernel.h].map(f64::from);
    // The CTAs of a cluster load x for each other; where they share K, each has its own.
    let sharing = if kernel.operation == Operation::GemmSplitK { 1.0 } else { share.cluster };
    Steps {
        count,
        columns: block_n + h,
        products: if block_n + h > MOST_COLUMNS { 2.0 } else { 1.0 },
        depth: f64::from(kernel.block_k),
        rows: block_m + block_n + h,
        loaded: block_m / sharing + block_n + a_rows,
    }
}

fn output_item(kernel: &Kernel, work: &Work, share: &Share<'_>) -> Item {
    let constants = share.constants;
    let [block_m, block_n, block_k] = [kernel.block_m, kernel.block_n, kernel.block_k].map(f64::from);
    let steps = (f64::from(work.k) / block_k).ceil();
    let y = block_m * block_n * ELEMENT;
    let passes = constants.y_passes * y;
    let expand = |rows: f64| {
        let count = (work.rank / block_k).ceil();
        Steps {
            count,
            columns: block_n,
            products: 1.0,
            depth: work.rank / count.max(1.0),
            rows,
            loaded: rows,
        }
    };
    match kernel.operation {
        Operation::GemmSplitK => {
            let steps = base_steps(kernel, (steps / share.cluster).ceil(), 0.0, share);
            // y is stored from registers, and there is no next tile.
            let item = occupied(kernel, share, &[steps], 0.0);
            let sums = 4.0 * block_m * block_n;
            // Written, sent but for this CTA's share, and read again to be added.
            let sent = sums * (1.0 - 1.0 / share.cluster);
            let exchange =
                constants.exchange + 2.0 * sums / constants.shared_bytes + sent / constants.cluster_bytes;
            Item { tail: exchange + tail(block_n / share.cluster, kernel, share), ..item }
                .storing(y / share.cluster)
        }
        Operation::FusedCooperative => {
            let late = f64::from(kernel.stages - 1).min(steps - 1.0).max(1.0);
            let early = (steps - late).max(1.0);
            let (kinds, sums) = if kernel.slices_k() {
                // A is there in this CTA's steps alone, which read x once, to registers; but for late ones.
                let own = |count: f64| base_steps(kernel, count / share.cluster, f64::from(kernel.h), share);
                let others = |count: f64| Steps {
                    columns: block_n,
                    products: 1.0,
                    rows: block_m + block_n,
                    ..base_steps(kernel, count * (1.0 - 1.0 / share.cluster), 0.0, share)
                };
                let late_own = Steps { products: 2.0, ..own(late) };
                let kinds = [Steps { products: 1.0, ..own(early) }, others(early), late_own, others(late)];
                // Those of all CTAs are read.
                (kinds, share.cluster * 4.0 * block_m * f64::from(kernel.h) / constants.shared_bytes)
            } else {
                let a_rows = (work.rank / share.cluster).min(f64::from(kernel.h));
                let late_steps = Steps { products: 2.0, ..base_steps(kernel, late, a_rows, share) };
                let none = || base_steps(kernel, 0.0, 0.0, share);
                ([base_steps(kernel, early, a_rows, share), none(), late_steps, none()], 0.0)
            };
            let hidden = occupied(kernel, share, &kinds[2..], 0.0).busy;
            let [early, early_others, late, late_others] = kinds;
            let kinds = [early, early_others, late, late_others, expand(block_n)];
            let item = occupied(kernel, share, &kinds, passes);
            let exchange = if share.cluster > 1.0 { (constants.exchange - hidden).max(0.0) } else { 0.0 };
            let tail = constants.cross_over + sums + exchange + tail(block_n, kernel, share);
            Item { tail, ..item }.storing(y)
        }
        Operation::Fused => {
            let base = base_steps(kernel, steps, 0.0, share);
            let item = occupied(kernel, share, &[base, expand(block_m + block_n)], passes);
            Item { tail: tail(block_n, kernel, share), ..item }.storing(y)
        }
        Operation::Gemm | Operation::FusedRecompute | Operation::Shrink | Operation::Expand => {
            let base = base_steps(kernel, steps, 0.0, share);
            let item = occupied(kernel, share, &[base], passes);
            Item { tail: tail(block_n, kernel, share), ..item }.storing(y)
        }
    }
}

fn h_item(kernel: &Kernel, work: &Work, share: &Share<'_>) -> Item {
    if work.h_items == 0 {
        return Item::default();
    }
    let [block_m, block_k, columns] = [kernel.block_m, kernel.block_k, kernel.h_columns].map(f64::from);
    let real = work.h_columns as f64 / work.h_items as f64;
    let steps = Steps {
        count: (f64::from(work.k) / block_k).ceil(),
        columns,
        products: 1.0,
        depth: block_k,
        rows: block_m + columns,
        loaded: block_m + real,
    };
    // h is stored from registers.
    let item = occupied(kernel, share, &[steps], 0.0);
    Item { tail: tail(columns, kernel, share), ..item }.storing(block_m * real * ELEMENT)
}

/// Cycles in which these columns of the tile leave the registers.
fn tail(columns: f64, kernel: &Kernel, share: &Share<'_>) -> f64 {
    let warpgroups = f64::from(kernel.block_m) / WARPGROUP_ROWS;
    let constants = share.constants;
    constants.least_tail.max(constants.tail + warpgroups * columns / 2.0 * constants.store_slots)
}

impl Item {
    /// With so many bytes that it stores.
    fn storing(self, bytes: f64) -> Self {
        Self { l2_bytes: self.l2_bytes + bytes, ..self }
    }
}

/// What these steps occupy, one kind after another, while `passes` bytes of the tile before are read from
/// shared memory.
fn occupied(kernel: &Kernel, share: &Share<'_>, kinds: &[Steps], passes: f64) -> Item {
    let constants = share.constants;
    let warpgroups = f64::from(kernel.block_m) / WARPGROUP_ROWS;
    let row_bytes = f64::from(kernel.block_k) * ELEMENT;
    let cluster_latency = if share.cluster > 1.0 { constants.cluster_latency } else { 0.0 };
    let copy_latency = (constants.copy_latency + cluster_latency) / f64::from(kernel.stages - 1);
    let all: f64 = kinds.iter().map(|steps| steps.count).sum();
    let mut item = Item::default();
    for Steps { count, columns, products, depth, rows, loaded } in kinds {
        let wgmmas = warpgroups * depth / WGMMA_K;
        let tensor = wgmmas * WARPGROUP_ROWS * columns * WGMMA_K / constants.fma;
        let read = wgmmas * (products * WARPGROUP_ROWS + columns) * WGMMA_K * ELEMENT;
        let shared = (read + rows * row_bytes + passes / all) / constants.shared_bytes;
        item.busy += count * tensor.max(shared);
        item.port += count * rows * row_bytes / constants.port_bytes;
        item.l2_bytes += count * loaded * row_bytes;
        item.latency += count * copy_latency;
    }
    item
}
