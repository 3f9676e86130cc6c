//! Compute capability 8.0: the kernels that faults are seeded into, the named faults, and what may be left
//! out without harm.

use fused_lora_simt::{
    Action::{AddressXor, ByteDelta, Drop, NonCoherent, WaitGroup, Weaken},
    Op::{
        AtomInc, BarSync, CpAsync, CpAsyncCommitGroup, CpAsyncWaitGroup, LdAcquire, LdGlobal, Ldmatrix, Mma,
        RedAddRelease, StGlobal, StRelaxed,
    },
};

use super::{
    seed::{Fault, always, by_lane, fault, faults, once, rank, time, word},
    source::{Place, sm80 as at},
    subject::{
        By::{self, Deadlock, Divergence, OutOfBounds, Poison, Race, Reference},
        Subject,
    },
};
use crate::case::{AdapterCase, Case, Rows};

// Each has tails in M and N, and fewer CTAs than work items; their lines say how K compares with the ring.

/// Seven steps of K through four slots; stores in 16 bytes and, at the edge, in 2.
pub(super) static GEMM: Subject = Subject::new("gemm", &["gemm_64x64"], 0, || Case {
    pad_x: 8,
    pad_y: 6,
    bias: true,
    grid: Some(2),
    ..Case::new(100, 90, 200, 0)
});
/// Two steps of K.
pub(super) static GEMM_SHORT: Subject =
    Subject::new("gemm, short K", &["gemm_64x64"], 0, || Case { grid: Some(1), ..Case::new(100, 90, 40, 0) });
/// x copied element by element.
pub(super) static GEMM_ANY: Subject = Subject::new("gemm, unaligned x", &["gemm_64x64_any"], 0, || Case {
    pad_x: 3,
    shift_x: 1,
    grid: Some(2),
    ..Case::new(70, 90, 205, 0)
});
/// Three slots, and a tile whose f32 sums cross the ring in two passes.
pub(super) static GEMM_WIDE: Subject = Subject::new("gemm, wide tile", &["gemm_128x256"], 0, || Case {
    grid: Some(1),
    ..Case::new(100, 260, 104, 0)
});
/// Two tiles of h a row tile, and steps of K enough to look for h early: it is there, or not, as the schedule
/// has it.
pub(super) static FUSED: Subject = Subject::new("fused", &["fused_64x64"], 0, || Case {
    grid: Some(8),
    bias: true,
    ..Case::new(140, 90, 200, 80)
});
/// Too few steps of K to look early: every tile of y waits for h behind its base.
pub(super) static FUSED_SHORT: Subject = Subject::new("fused, short K", &["fused_64x64"], 0, || Case {
    grid: Some(3),
    ..Case::new(140, 90, 40, 80)
});
/// Several adapters in a row tile, cuts inside of it, rows without, a column range. Waits for h behind the
/// base, too.
pub(super) static FUSED_SEGMENTS: Subject =
    Subject::new("fused, several adapters", &["fused_64x64"], 0, || Case {
        grid: Some(3),
        ..segments(140, 90, 72)
    });
/// x copied element by element.
pub(super) static FUSED_ANY: Subject = Subject::new("fused, unaligned x", &["fused_64x64_any"], 0, || Case {
    pad_x: 3,
    shift_x: 1,
    grid: Some(4),
    ..Case::new(70, 90, 205, 23)
});
/// Three slots, two passes.
pub(super) static FUSED_WIDE: Subject = Subject::new("fused, wide tile", &["fused_128x256"], 0, || Case {
    grid: Some(5),
    ..Case::new(140, 260, 168, 40)
});
/// Every CTA makes its own h.
pub(super) static RECOMPUTE: Subject =
    Subject::new("fused_recompute", &["fused_recompute_64x64_h16"], 0, || Case {
        grid: Some(2),
        ..Case::new(140, 90, 200, 13)
    });
/// With 32 columns of h, by table; the row tiles have an adapter, another, and none.
pub(super) static RECOMPUTE_SEGMENTS: Subject =
    Subject::new("fused_recompute, several adapters", &["fused_recompute_64x64_h32"], 0, || Case {
        adapters: vec![AdapterCase::new(29), AdapterCase { columns: Some(20..75), ..AdapterCase::new(9) }],
        rows: Rows::Table(vec![(0..50, 0), (70..120, 1)]),
        grid: Some(2),
        ..Case::new(200, 90, 40, 0)
    });
/// The second launch of `unfused`.
pub(super) static SHRINK: Subject =
    Subject::new("shrink, several adapters", UNFUSED, 1, || Case { grid: Some(2), ..segments(140, 90, 200) });
/// The third.
pub(super) static EXPAND: Subject =
    Subject::new("expand", UNFUSED, 2, || Case { grid: Some(2), ..Case::new(140, 90, 72, 80) });
/// Several parts of a row tile, one after another.
pub(super) static EXPAND_SEGMENTS: Subject =
    Subject::new("expand, several adapters", UNFUSED, 2, || Case { grid: Some(2), ..segments(140, 90, 200) });

const UNFUSED: &[&str] = &["gemm_64x64", "shrink_64x64", "expand_64x64"];

fn segments(m: usize, n: usize, k: usize) -> Case {
    Case {
        adapters: vec![
            AdapterCase::new(10),
            AdapterCase::new(140),
            AdapterCase { columns: Some(20..75), ..AdapterCase::new(7) },
        ],
        rows: Rows::Table(vec![(0..20, 0), (20..50, 1), (90..m, 2)]),
        ..Case::new(m, n, k, 0)
    }
}

// Instructions that several faults are seeded into.
/// A segment's first row and the one after its last, and its adapter.
pub(super) const SEGMENT: Place = at("segments.rs", "next_part", LdGlobal, 0);
/// An adapter's offset and rank.
pub(super) const ADAPTER: Place = at("segments.rs", "load_adapter", LdGlobal, 0);
const FILL_COMMIT: Place = at("mainloop.rs", "mainloop", CpAsyncCommitGroup, 0);
const LOOP_COMMIT: Place = at("mainloop.rs", "mainloop", CpAsyncCommitGroup, 1);
const FILL_WAIT: Place = at("mainloop.rs", "mainloop", CpAsyncWaitGroup, 0);
const LOOP_WAIT: Place = at("mainloop.rs", "mainloop", CpAsyncWaitGroup, 1);
const LAST_WAIT: Place = at("mainloop.rs", "mainloop", CpAsyncWaitGroup, 2);
const FILL_BARRIER: Place = at("mainloop.rs", "mainloop", BarSync, 0);
const LOOP_BARRIER: Place = at("mainloop.rs", "mainloop", BarSync, 1);
const EARLY_LOOK: Place = at("mainloop.rs", "mainloop", LdAcquire, 0);
const LATE_LOOK: Place = at("mainloop.rs", "fetch_late_h", LdAcquire, 0);
const LATE_ACQUIRED: Place = at("mainloop.rs", "fetch_late_h", BarSync, 0);
const LATE_COMMIT: Place = at("mainloop.rs", "fetch_late_h", CpAsyncCommitGroup, 0);
const LATE_WAIT: Place = at("mainloop.rs", "fetch_late_h", CpAsyncWaitGroup, 0);
const LATE_FETCHED: Place = at("mainloop.rs", "fetch_late_h", BarSync, 1);
const BEFORE_STAGING: Place = at("store.rs", "store_tile", BarSync, 0);
const STAGED: Place = at("store.rs", "store_tile", BarSync, 1);
const BETWEEN_TILES: Place = at("gemm.rs", "gemm", BarSync, 0);
const TICKET_SHOWN: Place = at("schedule.rs", "Tickets::next", BarSync, 0);
const FIRST_DRAW: Place = at("schedule.rs", "Tickets::new", AtomInc, 0);
const NEXT_DRAW: Place = at("schedule.rs", "Tickets::next", AtomInc, 0);
const BEFORE_PUBLISH: Place = at("fused.rs", "fused", BarSync, 0);
const PUBLISH: Place = at("hand_over.rs", "publish", RedAddRelease, 0);
const PASS: Place = at("hand_over.rs", "pass", AtomInc, 0);
const RESET: Place = at("hand_over.rs", "pass", StRelaxed, 0);
const H_SHOWN: Place = at("fused_recompute.rs", "output_tile", BarSync, 1);
const PART_SHOWN: Place = at("output_tile.rs", "output_tile", BarSync, 0);
const SHRINK_PART_SHOWN: Place = at("h_tile.rs", "h_tile", BarSync, 0);
const RECOMPUTE_PART_SHOWN: Place = at("fused_recompute.rs", "output_tile", BarSync, 0);
/// x, and behind it h.
const COPY_FIRST: Place = at("output_tile.rs", "TileOperands::copy_first", CpAsync, 0);
/// h, where it comes late.
const COPY_LATE_H: Place = at("output_tile.rs", "TileOperands::copy_h", CpAsync, 0);
/// W, and behind it B.
const COPY_SECOND: Place = at("output_tile.rs", "TileOperands::copy_second", CpAsync, 0);
const FIRST_ROWS: Place = at("mainloop.rs", "mainloop", Ldmatrix, 0);
const SECOND_HALF_ROWS: Place = at("mainloop.rs", "mainloop", Ldmatrix, 2);
const PRODUCT: Place = at("mainloop.rs", "mainloop", Mma, 0);
/// h on its way to the products.
const H_ROWS: Place = at("fused_recompute.rs", "expand_from_shared", Ldmatrix, 0);
const B_COPY: Place = at("fused_recompute.rs", "output_tile", CpAsync, 0);
const ADD_BIAS: Place = at("epilogue.rs", "Eight::add", LdGlobal, 0);
const STORE: Place = at("store.rs", "store_pass", StGlobal, 0);

pub(super) static FAULTS: &[Fault] = &[
    // The ring.
    fault("no barrier before the first step", &GEMM, always(FILL_BARRIER), Drop, Race),
    fault("a slot of the ring is overwritten early", &GEMM, always(LOOP_BARRIER), Drop, Race),
    fault("one lane misses a barrier", &GEMM, by_lane(40, LOOP_BARRIER), Drop, Divergence),
    fault("the wait for the first step is one group short", &GEMM, always(FILL_WAIT), WaitGroup(1), Race),
    fault("the wait for the next step is one group short", &GEMM, always(LOOP_WAIT), WaitGroup(1), Race),
    fault("the wait for the next step is gone", &GEMM_SHORT, always(LOOP_WAIT), Drop, Race),
    fault("the wait behind the last step is gone", &GEMM, always(LAST_WAIT), Drop, Race),
    fault("of three slots, the wait is one group short", &GEMM_WIDE, always(LOOP_WAIT), WaitGroup(1), Race),
    fault("steps that fill the ring are not committed", &GEMM, always(FILL_COMMIT), Drop, Race),
    fault("steps are not committed", &GEMM, always(LOOP_COMMIT), Drop, Race),
    fault("unaligned x is written to a slot in use", &GEMM_ANY, always(LOOP_BARRIER), Drop, Race),
    // The way out.
    fault("sums are staged while the ring is read", &GEMM, always(BEFORE_STAGING), Drop, Race),
    fault("sums leave before all are staged", &GEMM, always(STAGED), Drop, Race),
    fault("the second pass of staging overwrites the first", &GEMM_WIDE, always(BEFORE_STAGING), Drop, Race),
    fault("the next tile's ring overwrites staged sums", &GEMM, always(BETWEEN_TILES), Drop, Race),
    fault("a chunk of y is not stored", &GEMM, once(0, 7, 0, STORE), Drop, Reference),
    fault("the bias is not loaded", &GEMM, always(ADD_BIAS), Drop, Reference),
    // Tails. Lane l of 128 copies chunk l mod 4 of rows l / 4 and l / 4 + 32 of each step.
    fault(
        "a row behind the last of x is read",
        &GEMM,
        once(1, 16, 1, COPY_FIRST),
        ByteDelta(16),
        OutOfBounds,
    ),
    fault("the last row of x is not", &GEMM, once(1, 12, 1, COPY_FIRST), ByteDelta(-16), Reference),
    fault(
        "a chunk behind the last of K is read",
        &GEMM,
        once(0, 1, 12, COPY_FIRST),
        ByteDelta(16),
        Reference,
    ),
    fault("the last chunk of K is not", &GEMM, once(0, 0, 12, COPY_FIRST), ByteDelta(-16), Reference),
    fault(
        "a row behind the last of W is read",
        &GEMM,
        once(0, 104, 20, COPY_SECOND),
        ByteDelta(16),
        OutOfBounds,
    ),
    fault("chunks are one element short", &GEMM, always(COPY_SECOND), ByteDelta(-2), Reference),
    // Swizzle and arithmetic.
    fault("x is swizzled on its way in, not out", &GEMM, always(FIRST_ROWS), AddressXor(16), Reference),
    fault("x is swizzled otherwise on its way in", &GEMM, always(COPY_FIRST), AddressXor(32), Reference),
    fault("W is swizzled otherwise on its way in", &FUSED, always(COPY_SECOND), AddressXor(16), Reference),
    fault(
        "a step's second half has the fragments of another",
        &GEMM,
        always(SECOND_HALF_ROWS),
        AddressXor(32),
        Reference,
    ),
    fault(
        "a chunk of a slot is that of four steps before",
        &GEMM,
        once(0, 5, 9, COPY_FIRST),
        Drop,
        Reference,
    ),
    fault("one product of each warp is missing", &GEMM, time(0, 3, PRODUCT), Drop, Reference),
    // h, handed from CTA to CTA.
    fault("the flag is without release", &FUSED, always(PUBLISH), Weaken, Race),
    fault("the early look is without acquire", &FUSED, always(EARLY_LOOK), Weaken, Race),
    fault("the late look is without acquire", &FUSED_SHORT, always(LATE_LOOK), Weaken, Race),
    fault("the flag is published before h is stored", &FUSED, always(BEFORE_PUBLISH), Drop, Race),
    fault("the flag is not published", &FUSED_SHORT, always(PUBLISH), Drop, Deadlock),
    fault("h is read as non-coherent", &FUSED, always(COPY_FIRST), NonCoherent, By::NonCoherent),
    fault("late h is read as non-coherent", &FUSED_SHORT, always(COPY_LATE_H), NonCoherent, By::NonCoherent),
    fault("only the leader knows that h is there", &FUSED_SHORT, always(LATE_ACQUIRED), Drop, Race),
    fault("late h is not committed", &FUSED_SHORT, always(LATE_COMMIT), Drop, Race),
    fault("the wait for late h is one group short", &FUSED_SHORT, always(LATE_WAIT), WaitGroup(1), Race),
    fault("late h is read before all have fetched it", &FUSED_SHORT, always(LATE_FETCHED), Drop, Race),
    faults(
        "one tile of h too few is awaited",
        &FUSED,
        &[always(EARLY_LOOK), always(LATE_LOOK)],
        word(0, |items| items + 1),
        Race,
    ),
    fault(
        "one tile of h too many is awaited",
        &FUSED_SHORT,
        always(LATE_LOOK),
        word(0, |items| items.saturating_sub(1)),
        Deadlock,
    ),
    // Tickets and counters. `FUSED_SHORT` has 12.
    faults(
        "a ticket waits for larger ones",
        &FUSED_SHORT,
        &[always(FIRST_DRAW), always(NEXT_DRAW)],
        word(0, |ticket| 11 - ticket),
        Deadlock,
    ),
    faults(
        "a ticket is drawn twice, another never",
        &FUSED_SHORT,
        &[always(FIRST_DRAW), always(NEXT_DRAW)],
        word(0, |ticket| ticket - ticket % 2),
        Race,
    ),
    fault("the first ticket is not taken off the counter", &FUSED, always(FIRST_DRAW), Drop, Race),
    fault("tickets are not taken off the counter", &FUSED, always(NEXT_DRAW), Drop, Race),
    fault("a ticket is shown before all can see it", &FUSED, always(TICKET_SHOWN), Drop, Race),
    fault("the count of finished tiles is not reset", &FUSED, always(RESET), Drop, Reference),
    fault("tiles of y do not count themselves", &FUSED, always(PASS), Drop, Reference),
    // Adapters.
    fault("the part is read before it is on the board", &FUSED_SEGMENTS, always(PART_SHOWN), Drop, Race),
    fault("the shrink's part is read too early", &SHRINK, always(SHRINK_PART_SHOWN), Drop, Race),
    fault("a segment is a row too long", &FUSED_SEGMENTS, always(SEGMENT), word(1, |end| end + 1), Race),
    fault(
        "a segment is a row too short",
        &FUSED_SEGMENTS,
        always(SEGMENT),
        word(1, |end| end - 1),
        Reference,
    ),
    fault(
        "a segment of the shrink is a row too short",
        &SHRINK,
        always(SEGMENT),
        word(1, |end| end - 1),
        Poison,
    ),
    fault(
        "a segment of the expand is a row too long",
        &EXPAND_SEGMENTS,
        always(SEGMENT),
        word(1, |end| end + 1),
        Poison,
    ),
    fault("padding of the rank is computed", &SHRINK, always(ADAPTER), word(1, |rank| rank + 1), Reference),
    rank("the last column of h is not", &FUSED, -1, Reference),
    // Recomputed h.
    fault("h crosses shared memory without a barrier", &RECOMPUTE, always(H_SHOWN), Drop, Race),
    fault("A is multiplied before its copy has arrived", &RECOMPUTE, always(FILL_WAIT), WaitGroup(1), Race),
    fault(
        "the part is read too early, with recomputed h",
        &RECOMPUTE,
        always(RECOMPUTE_PART_SHOWN),
        Drop,
        Race,
    ),
    fault("h is swizzled on one side", &RECOMPUTE, always(H_ROWS), AddressXor(16), Reference),
    fault("B is swizzled on one side", &RECOMPUTE_SEGMENTS, always(B_COPY), AddressXor(16), Reference),
    rank("padding of a recomputed rank is computed", &RECOMPUTE, 1, Reference),
    fault(
        "a recomputed segment is a row too long",
        &RECOMPUTE_SEGMENTS,
        always(SEGMENT),
        word(1, |end| end + 1),
        Reference,
    ),
];
