//! Kernels for compute capability 9.0. Nothing here was measured by us.
//!
//! **A step** of a tile is 64 columns of K: four `wgmma` of each consumer warpgroup, by N columns of W (and
//! of A where h is made beside y), and one slot of the ring. It occupies an SM for
//!
//! ```text
//! tensor   = warpgroups · 4 · N / 2                         64 · N · 16 multiply-adds, 2048 a cycle and SM
//! shared   = warpgroups · 4 · (64 + N) · 32 bytes / 128     each wgmma reads x's and W's rows; x twice where
//!                                                           BLOCK_N + H > 256, and in the late steps
//!          + slot / 128                                     and the copies write them
//! busy     = max(tensor, shared)
//!
//! fill     = max(slot / 64, (slot − what others of the cluster load of x) / L2 bytes per cycle and SM)
//! latency  = latency of a tensor copy / (STAGES − 1)           so many slots are under way at a time
//! ```
//!
//! | item | steps | N | rows of a slot |
//! |---|---|---|---|
//! | tile of y | ⌈K / 64⌉ | BLOCK_N | BLOCK_M + BLOCK_N |
//! | … with its own h | ⌈K / 64⌉ | BLOCK_N + H | BLOCK_M + BLOCK_N + H |
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
//! cycles = prologue + max(⌈t / c⌉ · (busy + tail), ⌈t / c⌉ · max(fill, latency) + one step + tail,
//!                         t · max(busy, fill) + tail)
//! ```
//!
//! **The busiest SM** has ⌈groups of tiles / clusters that the GPU holds⌉ tiles for each of its CTAs: a GPU
//! does not hold a cluster wherever it has SMs. **Shared h** are tiles among the others, and waited for once.
//! **Split K** gives every cluster one tile, and the next cluster a prologue of its own.

use fused_lora_kernels::table::{Kernel, Operation};

use super::work::{
    PROLOGUE, Placement, SHARED_BYTES_PER_CYCLE, Work, busiest, cluster_items, makes_h, outputs,
};
use crate::plan::properties::Properties;

/// f16 multiply-adds with f32 sums in a cycle of an SM: 989.4 TFLOP/s of an H100 SXM with 132 SMs at 1830 MHz
/// (*H100 Tensor Core GPU Architecture* whitepaper).
const FMA: f64 = 2048.0;
/// The most columns of one `wgmma`.
const MOST_COLUMNS: f64 = 256.0;
/// Rows of a warpgroup.
const WARPGROUP_ROWS: f64 = 64.0;
/// Columns of K in one `wgmma`.
const WGMMA_K: f64 = 16.0;
/// Bytes per cycle that the SM takes from the network to L2 (Jia et al., *Dissecting the NVIDIA Volta GPU
/// Architecture*, 2018; taken to be the same).
const PORT_BYTES: f64 = 64.0;
/// Bytes per cycle from L2 while all SMs load. Published kernels of 128 × 256 tiles gain 4 % from sharing x
/// in clusters of two (fast.cu): without them the 48 KiB of a step take 1.04 times the 1024 cycles of its
/// products, 46 bytes a cycle for each of 132 SMs.
const L2_BYTES: f64 = 46.0 * 132.0;
/// Cycles from a tensor copy's issue to its bytes in shared memory, from L2: about 600 (Luo et al.,
/// *Dissecting the NVIDIA Hopper Architecture through Microbenchmarking*, 2024), and some under load.
const COPY_LATENCY: f64 = 800.0;
/// Cycles that a slot is empty longer where a whole cluster has to release it: an arrival in another SM (the
/// same authors: some 180), twice.
const CLUSTER_LATENCY: f64 = 400.0;
/// Cycles of a tail whatever its size: the last `wgmma`, two barriers of a warpgroup, the fence, the next
/// board.
const TAIL: f64 = 300.0;
/// Issue slots of a register of y on its way out, a warp's: scale, conversion in pairs, an eighth of a
/// `stmatrix`, with its address.
const STORE_SLOTS: f64 = 2.5;
/// Cycles that h takes on its way through shared memory alone: rounding, fence, barrier, and `wgmma`s that
/// begin anew.
const CROSS_OVER: f64 = 300.0;
/// Cycles to the other CTAs of a cluster and from them to this one. What of it the last steps of the base
/// last, in which A is multiplied ahead of W, is hidden.
const EXCHANGE: f64 = 1000.0;
/// Bytes per cycle that an SM sends others of its cluster (Luo et al. 2024: about 3.3 TB/s for the chip).
const CLUSTER_BYTES: f64 = 14.0;
/// Cycles from the last store of a tile of h to its arrival in another CTA: release, acquire, fence, and the
/// copy.
const HAND_OVER: f64 = 3.0 * COPY_LATENCY;

/// Cycles for which a tile, or part of one, occupies its SM.
#[derive(Clone, Copy, Default)]
struct Item {
    busy: f64,
    fill: f64,
    latency: f64,
    tail: f64,
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

/// How a launch shares the GPU.
struct Share {
    /// CTAs of a cluster.
    cluster: f64,
    /// Bytes per cycle from L2 for each SM.
    l2_bytes: f64,
}

/// Cycles of the busiest SM.
pub(super) fn cycles(kernel: &Kernel, placement: Placement, work: &Work, gpu: &Properties) -> f64 {
    let Placement { cluster, clusters, .. } = placement;
    let sms = u64::from(gpu.multiprocessors.max(1));
    let h_items = if makes_h(kernel) { work.h_items } else { 0 };
    let items = cluster_items(kernel, cluster, work) + h_items;
    let running = items.min(u64::from(clusters)).max(1) * u64::from(cluster);
    let share =
        Share { cluster: f64::from(cluster), l2_bytes: PORT_BYTES.min(L2_BYTES / running.min(sms) as f64) };
    // CTAs on an SM, and items that each of them takes.
    let beside = running.div_ceil(sms);
    let places = running / u64::from(cluster);
    let y = output_item(kernel, work, &share);
    match kernel.operation {
        Operation::GemmSplitK => {
            let rounds = items.div_ceil(places) as f64;
            rounds * (PROLOGUE + sequence(&y, step(kernel, &share), 1.0, beside as f64))
        }
        _ => {
            let (y_items, h_items) = match kernel.operation {
                Operation::Fused => busiest(places, outputs(kernel, work), h_items),
                _ => (items.div_ceil(places), 0),
            };
            let h = h_item(kernel, work, &share);
            let count = (y_items + h_items).max(1) as f64;
            let h_share = h_items as f64 / count;
            let mean = |part: fn(&Item) -> f64| (1.0 - h_share) * part(&y) + h_share * part(&h);
            let item = Item {
                busy: mean(|item| item.busy),
                fill: mean(|item| item.fill),
                latency: mean(|item| item.latency),
                tail: mean(|item| item.tail),
            };
            let waits = if kernel.operation == Operation::Fused && work.h_items > 0 {
                h.tail + HAND_OVER
            } else {
                0.0
            };
            PROLOGUE + sequence(&item, step(kernel, &share), count, beside as f64) + waits
        }
    }
}

/// Cycles of `each` items on each of the CTAs that run `beside` each other on an SM.
fn sequence(item: &Item, step: f64, each: f64, beside: f64) -> f64 {
    let Item { busy, fill, latency, tail } = *item;
    let multiplied = each * (busy + tail);
    let loaded = each * fill.max(latency) + step + tail;
    let shared = each * beside * busy.max(fill) + tail;
    multiplied.max(loaded).max(shared)
}

/// Cycles of one step's products, which come after its load.
fn step(kernel: &Kernel, share: &Share) -> f64 {
    occupied(kernel, share, &[base_steps(kernel, 1.0, 0.0, share)]).busy
}

/// Steps of the base product, with its own h beside it; `panels` of A's rows are not padding.
fn base_steps(kernel: &Kernel, count: f64, a_rows: f64, share: &Share) -> Steps {
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

fn output_item(kernel: &Kernel, work: &Work, share: &Share) -> Item {
    let [block_m, block_n, block_k] = [kernel.block_m, kernel.block_n, kernel.block_k].map(f64::from);
    let steps = (f64::from(work.k) / block_k).ceil();
    let warpgroups = block_m / WARPGROUP_ROWS;
    let store = TAIL + warpgroups * block_n / 2.0 * STORE_SLOTS;
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
            let item =
                occupied(kernel, share, &[base_steps(kernel, (steps / share.cluster).ceil(), 0.0, share)]);
            let sums = 4.0 * block_m * block_n;
            // Written, sent but for this CTA's share, and read again to be added.
            let sent = sums * (1.0 - 1.0 / share.cluster);
            let tail = EXCHANGE + 2.0 * sums / SHARED_BYTES_PER_CYCLE + sent / CLUSTER_BYTES;
            Item { tail: tail + TAIL + (store - TAIL) / share.cluster, ..item }
        }
        Operation::FusedCooperative => {
            let a_rows = (work.rank / share.cluster).min(f64::from(kernel.h));
            let late = f64::from(kernel.stages - 1).min(steps - 1.0).max(1.0);
            let base = base_steps(kernel, (steps - late).max(1.0), a_rows, share);
            let late = Steps { count: late, products: 2.0, ..base_steps(kernel, late, a_rows, share) };
            let hidden = occupied(kernel, share, std::slice::from_ref(&late)).busy;
            let item = occupied(kernel, share, &[base, late, expand(block_n)]);
            let exchange = if share.cluster > 1.0 { (EXCHANGE - hidden).max(0.0) } else { 0.0 };
            Item { tail: CROSS_OVER + exchange + store, ..item }
        }
        Operation::Fused => {
            let base = base_steps(kernel, steps, 0.0, share);
            Item { tail: store, ..occupied(kernel, share, &[base, expand(block_m + block_n)]) }
        }
        Operation::Gemm | Operation::FusedRecompute | Operation::Shrink | Operation::Expand => {
            let base = base_steps(kernel, steps, 0.0, share);
            Item { tail: store, ..occupied(kernel, share, &[base]) }
        }
    }
}

fn h_item(kernel: &Kernel, work: &Work, share: &Share) -> Item {
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
    let warpgroups = block_m / WARPGROUP_ROWS;
    let tail = TAIL + warpgroups * columns / 2.0 * STORE_SLOTS;
    Item { tail, ..occupied(kernel, share, &[steps]) }
}

/// What these steps occupy, one kind after another.
fn occupied(kernel: &Kernel, share: &Share, kinds: &[Steps]) -> Item {
    let warpgroups = f64::from(kernel.block_m) / WARPGROUP_ROWS;
    let row_bytes = f64::from(kernel.block_k) * 2.0;
    let cluster_latency = if share.cluster > 1.0 { CLUSTER_LATENCY } else { 0.0 };
    let copy_latency = (COPY_LATENCY + cluster_latency) / f64::from(kernel.stages - 1);
    let mut item = Item::default();
    for Steps { count, columns, products, depth, rows, loaded } in kinds {
        let wgmmas = warpgroups * depth / WGMMA_K;
        let tensor = wgmmas * WARPGROUP_ROWS * columns * WGMMA_K / FMA;
        let read = wgmmas * (products * WARPGROUP_ROWS + columns) * WGMMA_K * 2.0;
        let shared = (read + rows * row_bytes) / SHARED_BYTES_PER_CYCLE;
        item.busy += count * tensor.max(shared);
        item.fill += count * (rows * row_bytes / PORT_BYTES).max(loaded * row_bytes / share.l2_bytes);
        item.latency += count * copy_latency;
    }
    item
}
