//! Kernels for compute capability 8.0 and later.
//!
//! **An item**, a tile of y or of h, occupies four things for a number of cycles:
//!
//! ```text
//! tensor   = multiply-adds / FMA per cycle and SM
//! fill     = bytes of x, W, A, h and B copied to shared memory / L2 bytes per cycle and SM
//! shared   = (those bytes + bytes of fragments that its warps load) / 128 per cycle
//! latency  = K steps · L2 latency / (STAGES − 1)           so many steps are under way at a time
//! ```
//!
//! | item | K steps | columns multiplied per step | rows copied per step |
//! |---|---|---|---|
//! | tile of y | ⌈K / 32⌉ | BLOCK_N | BLOCK_M + BLOCK_N |
//! | … with its own h | ⌈K / 32⌉, and H / 32 for B | BLOCK_N + H | BLOCK_M + BLOCK_N + r₁₆ |
//! | … with shared h | ⌈K / 32⌉ + r₁₆ / 32 | BLOCK_N | BLOCK_M + BLOCK_N |
//! | tile of h | ⌈K / 32⌉ | min(r₁₆, BLOCK_N) | BLOCK_M + min(r₁₆, BLOCK_N) |
//!
//! **The busiest SM** has ⌈tiles of y / SMs⌉ of them. Tiles of h go first to SMs that have one less, then to
//! all. An SM holds c CTAs at a time and runs its items in rounds of c, with a last round of what is left.
//! CTAs that run beside each other share all but the latency. They begin together and end together, so what
//! comes before the first and after the last step shows once a round:
//!
//! ```text
//! round(c) = prologue + max(c · tensor, c · fill, c · shared, latency) + c · store
//! ```
//!
//! **Shared h** is waited for once: tiles of y that begin together with those of h are at the end of their
//! base K loop when h still has to be stored and handed over. Later ones find it there.

use fused_lora_kernels::{
    table::{Kernel, Operation},
    tile::WARP,
};

use super::{
    chip::rates,
    constants::Constants,
    work::{Work, busiest, makes_h, outputs},
};
use crate::plan::properties::Properties;

/// Cycles for which an item occupies its SM.
#[derive(Clone, Copy, Default)]
struct Item {
    tensor: f64,
    fill: f64,
    shared: f64,
    latency: f64,
    store: f64,
}

/// Cycles of the busiest SM, which holds `resident` CTAs at a time.
pub(super) fn cycles(
    constants: &Constants,
    kernel: &Kernel,
    resident: u32,
    work: &Work,
    gpu: &Properties,
) -> f64 {
    let outputs = outputs(kernel, work);
    let h_items = if makes_h(kernel) { work.h_items } else { 0 };
    let (y_busiest, h_busiest) = busiest(u64::from(gpu.multiprocessors), outputs, h_items);
    let busiest = (y_busiest + h_busiest).max(1);

    // Which items meet in a round is left to chance: the mean.
    let (y, h) = (output_item(constants, kernel, work, gpu), h_item(constants, kernel, work, gpu));
    let h_share = if outputs == 0 { 1.0 } else { h_busiest as f64 / busiest as f64 };
    let mean = |part: fn(&Item) -> f64| (1.0 - h_share) * part(&y) + h_share * part(&h);
    let busy = mean(|item| item.tensor).max(mean(|item| item.fill)).max(mean(|item| item.shared));
    let (latency, store) = (mean(|item| item.latency), mean(|item| item.store));
    let round = |ctas: u64| match ctas {
        0 => 0.0,
        _ => constants.prologue + (ctas as f64 * busy).max(latency) + ctas as f64 * store,
    };
    let resident = u64::from(resident);
    let rounds = (busiest / resident) as f64 * round(resident) + round(busiest % resident);
    let waits = kernel.operation == Operation::Fused && h_items > 0;
    rounds + if waits { h.store + constants.sm80_hand_over } else { 0.0 }
}

fn output_item(constants: &Constants, kernel: &Kernel, work: &Work, gpu: &Properties) -> Item {
    let [block_m, block_n, block_k, h] =
        [kernel.block_m, kernel.block_n, kernel.block_k, kernel.h].map(f64::from);
    let base = if kernel.operation == Operation::Expand { 0.0 } else { (f64::from(work.k) / block_k).ceil() };
    let expand = match kernel.operation {
        Operation::Gemm | Operation::GemmSplitK | Operation::Shrink => 0.0,
        Operation::Fused | Operation::Expand => work.rank / block_k,
        // h and B are in shared memory whole, with all of their columns.
        Operation::FusedRecompute | Operation::FusedCooperative => h / block_k,
    };
    let recomputed = kernel.operation == Operation::FusedRecompute;
    let (h_columns, h_rows) = if recomputed { (h, work.rank) } else { (0.0, 0.0) };
    let x_rows = if kernel.aligned { block_m } else { constants.sm80_elementwise * block_m };

    let columns = base * (block_n + h_columns) + expand * block_n;
    let rows = base * (x_rows + block_n + h_rows)
        + match recomputed {
            true => expand * block_n,
            false => expand * (block_m + block_n),
        };
    let mut item = occupied(constants, kernel, gpu, base + expand, block_m * columns, rows);
    if recomputed {
        item.store += constants.sm80_cross_over;
    }
    item.store += store(constants, gpu, block_m * block_n);
    if kernel.operation == Operation::Expand {
        // y is read before it is written.
        item.store += block_m * block_n * 2.0 / rates(gpu).l2_bytes;
    }
    item
}

fn h_item(constants: &Constants, kernel: &Kernel, work: &Work, gpu: &Properties) -> Item {
    if work.h_items == 0 {
        return Item::default();
    }
    let [block_m, block_k] = [kernel.block_m, kernel.block_k].map(f64::from);
    let steps = (f64::from(work.k) / block_k).ceil();
    let columns = work.h_columns as f64 / work.h_items as f64;
    let x_rows = if kernel.aligned { block_m } else { constants.sm80_elementwise * block_m };
    let item = occupied(constants, kernel, gpu, steps, block_m * steps * columns, steps * (x_rows + columns));
    Item { store: store(constants, gpu, block_m * columns), ..item }
}

/// `steps` steps of K in which `columns` columns times rows are multiplied and `rows` rows are copied, all in
/// all.
fn occupied(
    constants: &Constants,
    kernel: &Kernel,
    gpu: &Properties,
    steps: f64,
    columns: f64,
    rows: f64,
) -> Item {
    let rates = rates(gpu);
    let row_bytes = f64::from(kernel.block_k) * 2.0;
    Item {
        tensor: columns * f64::from(kernel.block_k) / rates.fma,
        fill: rows * row_bytes / rates.l2_bytes,
        shared: (steps * fragment_rows(kernel) + rows) * row_bytes / constants.shared_bytes,
        latency: steps * constants.sm80_l2_latency / f64::from(kernel.stages - 1),
        store: 0.0,
    }
}

/// Rows of both operands that the warps of a CTA load as fragments in a step, arranged so that they load the
/// least.
fn fragment_rows(kernel: &Kernel) -> f64 {
    let warps = kernel.threads / WARP;
    let arranged = (1..=warps).filter(|along_m| warps.is_multiple_of(*along_m)).map(|along_m| {
        let along_n = warps / along_m;
        // A warp's rows of x are those of all warps beside it, and so on.
        kernel.block_m * along_n + (kernel.block_n + kernel.h) * along_m
    });
    f64::from(arranged.min().unwrap_or(0))
}

/// Cycles in which a tile leaves: its f32 sums to shared memory and from there, as f16 to L2.
fn store(constants: &Constants, gpu: &Properties, elements: f64) -> f64 {
    elements * (2.0 * 4.0 / constants.shared_bytes + 2.0 / rates(gpu).l2_bytes)
}
