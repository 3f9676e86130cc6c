//! Compute capability 9.0: the kernels that faults are seeded into, the named faults, and what may be left
//! out without harm.

use fused_lora::Activation;
use fused_lora_simt::{
    Action::{
        AddressXor, ByteDelta, CountDelta, DescriptorAdd, Drop, MaskXor, ParityFlip, Rank, WaitGroup, Weaken,
    },
    Op::{
        AtomInc, BarSync, BarSyncNamed, BarWarpSync, BarrierClusterArrive, BarrierClusterWait, CpAsync,
        CpAsyncBulkCommitGroup, CpAsyncBulkSharedCluster, CpAsyncBulkTensor2dLoad,
        CpAsyncBulkTensor2dLoadMulticast, CpAsyncBulkTensor2dStore, CpAsyncBulkWaitGroupRead,
        CpAsyncWaitGroup, FenceMbarrierInit, FenceProxyAsyncGlobal, FenceProxyAsyncShared, LdAcquire,
        Ldmatrix, Mapa, MbarrierArrive, MbarrierArriveCluster, MbarrierArriveExpectTx, MbarrierInit,
        MbarrierTryWaitParity, RedAddRelease, SetmaxnregDec, StRelaxed, Stmatrix, WgmmaF16, WgmmaWaitGroup,
    },
};

use super::{
    list::{ADAPTER, SEGMENT},
    seed::{Fault, always, by_lane, fault, faults, once, rank, time, word},
    source::{Place, sm80, sm90 as at},
    subject::{
        By::{Deadlock, Departed, NotWaited, Operand, Poison, Proxy, Race, Reference},
        Subject,
    },
};
use crate::case::{AdapterCase, Case, Rows};

// Each has tails in M and N, and, but for split K, fewer CTAs than work items. Some have more steps of K than
// the ring has slots, as their lines say.

/// Ten steps of K through eight slots, several tiles a CTA.
pub(super) static GEMM: Subject = Subject::new("sm_90 gemm", &["sm90_gemm_64x16"], 0, || Case {
    pad_y: 4,
    bias: true,
    grid: Some(2),
    ..Case::new(100, 36, 600, 0)
});
/// y holds the residual: threads read what the copy engine writes.
pub(super) static GEMM_IN_PLACE: Subject =
    Subject::new("sm_90 gemm, in place", &["sm90_gemm_64x16"], 0, || Case {
        pad_y: 4,
        in_place: true,
        grid: Some(2),
        ..Case::new(100, 36, 72, 0)
    });
/// All that an epilogue can have, two rows of a warp that are not there, one residual in y; the last tile has
/// four columns of 16.
pub(super) static GEMM_EPILOGUE: Subject =
    Subject::new("sm_90 gemm, epilogue", &["sm90_gemm_64x16"], 0, || Case {
        pad_y: 4,
        bias: true,
        activation: Some(Activation::GeluTanh),
        in_place: true,
        second_residual: true,
        pad_residual: 4,
        grid: Some(2),
        ..Case::new(94, 36, 72, 0)
    });
/// One step of K: the boards are all that holds the producer up.
pub(super) static GEMM_SHORT: Subject = Subject::new("sm_90 gemm, short K", &["sm90_gemm_64x16"], 0, || {
    Case { pad_y: 4, grid: Some(1), ..Case::new(100, 36, 40, 0) }
});
/// `GEMM` in clusters of two, which the last column tile leaves one of without columns.
pub(super) static GEMM_CLUSTER: Subject =
    Subject::new("sm_90 gemm, clusters of 2", &["sm90_gemm_64x16"], 0, || Case {
        pad_y: 4,
        bias: true,
        grid: Some(2),
        cluster: Some(2),
        ..Case::new(100, 36, 600, 0)
    });
/// Two consumer warpgroups, four slots, two places for staged boxes.
pub(super) static GEMM_WARPGROUPS: Subject =
    Subject::new("sm_90 gemm, two warpgroups", &["sm90_gemm_128x256"], 0, || Case {
        grid: Some(1),
        ..Case::new(150, 264, 328, 0)
    });
/// Two parts of K, of nine and ten steps through eight slots.
pub(super) static SPLIT_K: Subject =
    Subject::new("sm_90 gemm_split_k", &["sm90_gemm_split_k_64x64"], 0, || Case {
        pad_y: 4,
        bias: true,
        cluster: Some(2),
        ..Case::new(40, 68, 1208, 0)
    });
/// Two tiles of h a row tile, ten steps of K.
pub(super) static SHARED: Subject = Subject::new("sm_90 fused", &["sm90_fused_64x64"], 0, || Case {
    grid: Some(5),
    bias: true,
    pad_y: 6,
    ..Case::new(100, 90, 600, 80)
});
/// One step of K: every tile of y waits for h.
pub(super) static FUSED_SHORT: Subject =
    Subject::new("sm_90 fused, short K", &["sm90_fused_64x64"], 0, || Case {
        grid: Some(3),
        pad_y: 6,
        ..Case::new(140, 90, 40, 80)
    });
/// Several adapters in a row tile, cuts inside of it, rows without, a column range.
pub(super) static FUSED_SEGMENTS: Subject =
    Subject::new("sm_90 fused, several adapters", &["sm90_fused_64x64"], 0, || Case {
        grid: Some(3),
        pad_y: 6,
        ..segments(140, 90, 72, 140)
    });
/// Every CTA makes its own h, two tiles each.
pub(super) static COOPERATIVE: Subject =
    Subject::new("sm_90 fused_cooperative", &["sm90_fused_cooperative_64x32_h32"], 0, || Case {
        grid: Some(2),
        bias: true,
        ..Case::new(100, 56, 600, 29)
    });
/// Two make it together, two tiles each.
pub(super) static COOPERATIVE_PAIR: Subject =
    Subject::new("sm_90 fused_cooperative, clusters of 2", &["sm90_fused_cooperative_64x32_h32"], 0, || {
        Case { grid: Some(2), cluster: Some(2), ..Case::new(100, 56, 600, 50) }
    });
/// Four, of which the last has no h to make, and no columns.
pub(super) static COOPERATIVE_FOUR: Subject =
    Subject::new("sm_90 fused_cooperative, clusters of 4", &["sm90_fused_cooperative_64x32_h32"], 0, || {
        Case { grid: Some(4), cluster: Some(4), ..Case::new(100, 88, 72, 90) }
    });
/// Two consumer warpgroups, three slots, A multiplied apart from W.
pub(super) static COOPERATIVE_WIDE: Subject =
    Subject::new("sm_90 fused_cooperative, wide tile", &["sm90_fused_cooperative_128x256_h16"], 0, || Case {
        grid: Some(1),
        ..Case::new(150, 264, 328, 13)
    });
/// Two share the K of h, each has an early step of it and a late one; two tiles each.
pub(super) static SLICED: Subject =
    Subject::new("sm_90 fused_cooperative, K in slices", &["sm90_fused_cooperative_128x256_k16"], 0, || {
        Case { grid: Some(2), cluster: Some(2), ..Case::new(150, 264, 328, 13) }
    });
/// A step of K each: the next sums are there before others have read the last ones.
pub(super) static SLICED_SHORT: Subject = Subject::new(
    "sm_90 fused_cooperative, K in slices of a step",
    &["sm90_fused_cooperative_128x256_k16"],
    0,
    || Case { grid: Some(2), cluster: Some(2), ..Case::new(300, 264, 72, 13) },
);
/// Several adapters in a row tile, cuts inside of it, rows without, a column range; the last row tile has
/// none.
pub(super) static COOPERATIVE_SEGMENTS: Subject = Subject::new(
    "sm_90 fused_cooperative, several adapters",
    &["sm90_fused_cooperative_64x64_h32"],
    0,
    || Case { grid: Some(2), cluster: Some(2), pad_y: 6, ..segments(140, 90, 72, 20) },
);

fn segments(m: usize, n: usize, k: usize, rank: usize) -> Case {
    Case {
        adapters: vec![
            AdapterCase::new(10),
            AdapterCase::new(rank),
            AdapterCase { columns: Some(20..75), ..AdapterCase::new(7) },
        ],
        rows: Rows::Table(vec![(0..20, 0), (20..50, 1), (90..m - 14, 2)]),
        ..Case::new(m, n, k, 0)
    }
}

// Instructions that several faults are seeded into.
const INIT: Place = at("cta.rs", "run", MbarrierInit, 0);
const INIT_FENCE: Place = at("cta.rs", "run", FenceMbarrierInit, 0);
const INIT_BARRIER: Place = at("cta.rs", "run", BarSync, 0);
const FIRST_ARRIVE: Place = at("cta.rs", "run", BarrierClusterArrive, 0);
const FIRST_WAIT: Place = at("cta.rs", "run", BarrierClusterWait, 0);
const LAST_ARRIVE: Place = at("cta.rs", "run", BarrierClusterArrive, 1);
const LAST_WAIT: Place = at("cta.rs", "run", BarrierClusterWait, 1);
const GIVE_REGISTERS: Place = at("cta.rs", "run", SetmaxnregDec, 0);
const SLOT_FULL: Place = at("consumer.rs", "Consumer::multiply", MbarrierTryWaitParity, 0);
const PRODUCT: Place = at("consumer.rs", "Consumer::multiply", WgmmaF16, 0);
const PRODUCT_WAIT: Place = at("consumer.rs", "Consumer::multiply", WgmmaWaitGroup, 0);
const SLOT_RELEASE: Place = at("consumer.rs", "Consumer::multiply", MbarrierArriveCluster, 0);
const OWN_SLOT_RELEASE: Place = at("consumer.rs", "Consumer::multiply", MbarrierArrive, 0);
const APART_WAIT: Place = at("consumer.rs", "Consumer::multiply_apart", WgmmaWaitGroup, 0);
/// By four panels at a time or by one, whichever the subject comes to first.
const EXPAND: Place = at("consumer.rs", "Consumer::expand", WgmmaF16, 0);
const FINISH_WAIT: Place = at("consumer.rs", "Consumer::finish", WgmmaWaitGroup, 0);
const SLOT_EMPTY: Place = at("producer.rs", "Producer::load_steps_to", MbarrierTryWaitParity, 0);
const SLOT_BYTES: Place = at("producer.rs", "Producer::load_steps_to", MbarrierArriveExpectTx, 0);
const LOAD_SHARED_X: Place =
    at("producer.rs", "Producer::load_steps_to", CpAsyncBulkTensor2dLoadMulticast, 0);
const LOAD_W: Place = at("producer.rs", "Producer::load_steps_to", CpAsyncBulkTensor2dLoad, 1);
const BOARD_EMPTY: Place = at("producer.rs", "Producer::base", MbarrierTryWaitParity, 0);
const BOARD_WRITTEN: Place = at("producer.rs", "Producer::base", MbarrierArrive, 0);
const BOARD_FULL: Place = at("gemm.rs", "Gemm::consume", MbarrierTryWaitParity, 0);
const BOARD_READ: Place = at("gemm.rs", "Gemm::consume", MbarrierArrive, 0);
const H_READY: Place = at("producer.rs", "Producer::with_shared_h", LdAcquire, 0);
const H_FENCE: Place = at("fused.rs", "Shared::consume", FenceProxyAsyncGlobal, 0);
const H_STORED: Place = at("fused.rs", "Shared::consume", BarSyncNamed, 0);
const FIRST_DRAW: Place = at("fused.rs", "Shared::produce", AtomInc, 0);
const NEXT_DRAW: Place = at("fused.rs", "Shared::produce", AtomInc, 1);
const PUBLISH: Place = sm80("hand_over.rs", "publish", RedAddRelease, 0);
const PASS: Place = sm80("hand_over.rs", "pass", AtomInc, 0);
const RESET: Place = sm80("hand_over.rs", "pass", StRelaxed, 0);
const PLACE_READ: Place = at("store.rs", "store_tile", CpAsyncBulkWaitGroupRead, 0);
const PLACE_FREE: Place = at("store.rs", "store_tile", BarSyncNamed, 0);
const STAGE: Place = at("store.rs", "store_tile", Stmatrix, 0);
const STAGED_FENCE: Place = at("store.rs", "store_tile", FenceProxyAsyncShared, 0);
const STAGED: Place = at("store.rs", "store_tile", BarSyncNamed, 1);
const RESIDUAL_FENCE: Place = at("store.rs", "store_tile", FenceProxyAsyncGlobal, 0);
const STORE: Place = at("store.rs", "store_tile", CpAsyncBulkTensor2dStore, 0);
const STORE_COMMIT: Place = at("store.rs", "store_tile", CpAsyncBulkCommitGroup, 0);
const ALL_READ: Place = at("store.rs", "wait_for_stores", CpAsyncBulkWaitGroupRead, 0);
const FETCH: Place = at("epilogue.rs", "BoxEpilogue::fetch", CpAsync, 0);
const FETCHED: Place = at("epilogue.rs", "BoxEpilogue::fetch", CpAsyncWaitGroup, 0);
const FETCHED_BY_ALL: Place = at("epilogue.rs", "BoxEpilogue::finish", BarWarpSync, 0);
const OPERAND_READ: Place = at("epilogue.rs", "BoxEpilogue::finish", BarWarpSync, 1);
const READ_OPERAND: Place = at("epilogue.rs", "BoxEpilogue::finish", Ldmatrix, 0);
const H_EMPTY: Place = at("own_h.rs", "send", MbarrierTryWaitParity, 0);
const H_ROUND: Place = at("own_h.rs", "send", Stmatrix, 0);
const H_SENT_FENCE: Place = at("own_h.rs", "send", FenceProxyAsyncShared, 0);
const H_ROUNDED: Place = at("own_h.rs", "send", BarSyncNamed, 0);
const H_BYTES: Place = at("own_h.rs", "send", MbarrierArriveExpectTx, 0);
const H_SEND: Place = at("own_h.rs", "send", CpAsyncBulkSharedCluster, 0);
const H_TO_PEER: Place = at("own_h.rs", "send", Mapa, 0);
const H_BARRIER_OF_PEER: Place = at("own_h.rs", "send", Mapa, 1);
const H_FULL: Place = at("fused_cooperative.rs", "Cooperative::consume", MbarrierTryWaitParity, 1);
const H_RELEASE: Place = at("own_h.rs", "release", MbarrierArriveCluster, 0);
const SLICES_FENCE: Place = at("sliced_h.rs", "send", FenceProxyAsyncShared, 0);
const SLICES_EMPTY: Place = at("sliced_h.rs", "send", MbarrierTryWaitParity, 0);
const SLICES_READ: Place = at("sliced_h.rs", "release", MbarrierArriveCluster, 0);
const SLICED_X_READ: Place = at("consumer.rs", "Consumer::multiply_sliced", BarSyncNamed, 0);
const PARTS_FENCE: Place = at("gemm_split_k.rs", "Partials::exchange", FenceProxyAsyncShared, 0);
const PARTS_WRITTEN: Place = at("gemm_split_k.rs", "Partials::exchange", BarSyncNamed, 0);
const PARTS_SEND: Place = at("gemm_split_k.rs", "Partials::exchange", CpAsyncBulkSharedCluster, 0);
const PARTS_TO_PEER: Place = at("gemm_split_k.rs", "Partials::exchange", Mapa, 0);
const PARTS_BARRIER_OF_PEER: Place = at("gemm_split_k.rs", "Partials::exchange", Mapa, 1);
const PARTS_FULL: Place = at("gemm_split_k.rs", "Partials::exchange", MbarrierTryWaitParity, 0);

/// The `n`-th time that the first lane of the first CTA fetches, which it does for each operand of each tile
/// in turn.
const fn nth_fetch(n: u32) -> super::seed::Instruction {
    once(0, 0, n, FETCH)
}

pub(super) static FAULTS: &[Fault] = &[
    // The ring.
    fault("consumers wait for the round before", &GEMM, always(SLOT_FULL), ParityFlip, Deadlock),
    fault("the producer waits for full slots", &GEMM, always(SLOT_EMPTY), ParityFlip, Deadlock),
    fault("slots are overwritten in use", &GEMM, always(SLOT_EMPTY), Drop, Race),
    fault("slots are read before they are full", &GEMM, always(SLOT_FULL), Drop, Race),
    fault("a slot expects too few bytes", &GEMM, always(SLOT_BYTES), ByteDelta(-16), Deadlock),
    fault("a slot expects too many bytes", &GEMM, always(SLOT_BYTES), ByteDelta(16), Deadlock),
    fault("a slot expects W only", &GEMM, always(SLOT_BYTES), ByteDelta(-64 * 128), Deadlock),
    fault("W of one slot is not loaded", &GEMM, time(0, 3, LOAD_W), Drop, Deadlock),
    fault("W lies a chunk off", &GEMM, always(LOAD_W), AddressXor(128), Race),
    fault("a slot is released while its products run", &GEMM, always(PRODUCT_WAIT), WaitGroup(1), Race),
    fault("a slot is not released", &GEMM, time(0, 2, SLOT_RELEASE), Drop, Deadlock),
    fault("sums are stored before the last products are in", &GEMM, always(FINISH_WAIT), WaitGroup(1), Race),
    // Barriers and boards.
    fault("new barriers are not fenced", &GEMM, always(INIT_FENCE), Drop, Proxy),
    fault("new barriers are used early", &GEMM, always(INIT_BARRIER), Drop, Race),
    fault("barriers expect an arrival too many", &GEMM, always(INIT), CountDelta(1), Deadlock),
    fault("consumers read the board before it is written", &GEMM, always(BOARD_FULL), ParityFlip, Race),
    fault("the producer waits for a written board", &GEMM, always(BOARD_EMPTY), ParityFlip, Deadlock),
    fault("the board is overwritten unread", &GEMM_SHORT, always(BOARD_EMPTY), Drop, Race),
    fault("the board is published without release", &GEMM, always(BOARD_WRITTEN), Weaken, Race),
    fault("a thread does not say that it has read the board", &GEMM, by_lane(77, BOARD_READ), Drop, Deadlock),
    // Products.
    fault("x's descriptor is a granule off", &GEMM, always(PRODUCT), DescriptorAdd { a: 1, b: 0 }, Reference),
    fault("W's descriptor is a granule off", &GEMM, always(PRODUCT), DescriptorAdd { a: 0, b: 1 }, Race),
    fault("one step's products are missing", &GEMM, time(0, 3, PRODUCT), Drop, Race),
    // The way out.
    fault("a box is stored unfenced", &GEMM, always(STAGED_FENCE), Drop, Proxy),
    fault("y is stored over its residual unfenced", &GEMM_IN_PLACE, always(RESIDUAL_FENCE), Drop, Proxy),
    fault("a box is stored before all have staged it", &GEMM, always(STAGED), Drop, Race),
    fault("a box is overwritten while it is stored", &GEMM, always(PLACE_READ), Drop, Race),
    fault(
        "of two places, the wait is one box short",
        &GEMM_WARPGROUPS,
        always(PLACE_READ),
        WaitGroup(1),
        Race,
    ),
    fault("only the leader knows that a place is free", &GEMM, always(PLACE_FREE), Drop, Race),
    fault("boxes are swizzled otherwise", &GEMM, always(STAGE), AddressXor(16), Reference),
    fault("a box is not stored", &GEMM, once(0, 0, 0, STORE), Drop, Reference),
    fault("boxes are not committed", &GEMM, always(STORE_COMMIT), Drop, Race),
    fault("the CTA ends while a box is read", &GEMM, always(ALL_READ), Drop, NotWaited),
    fault("the bias is not fetched", &GEMM, always(FETCH), Drop, Poison),
    fault("the second residual is not fetched", &GEMM_EPILOGUE, nth_fetch(2), Drop, Reference),
    fault("an operand is read before it is there", &GEMM_EPILOGUE, always(FETCHED), Drop, Race),
    fault(
        "an operand is read before all have fetched it",
        &GEMM_EPILOGUE,
        always(FETCHED_BY_ALL),
        Drop,
        Race,
    ),
    fault("an operand is overwritten unread", &GEMM_EPILOGUE, always(OPERAND_READ), Drop, Race),
    fault(
        "an operand is swizzled on one side",
        &GEMM_EPILOGUE,
        always(READ_OPERAND),
        AddressXor(16),
        Reference,
    ),
    fault("the producer keeps its registers", &GEMM_WARPGROUPS, always(GIVE_REGISTERS), Drop, Deadlock),
    // Clusters.
    faults(
        "no cluster barrier at the start",
        &GEMM_CLUSTER,
        &[always(FIRST_ARRIVE), always(FIRST_WAIT)],
        Drop,
        Race,
    ),
    faults(
        "no cluster barrier at the end",
        &GEMM_CLUSTER,
        &[always(LAST_ARRIVE), always(LAST_WAIT)],
        Drop,
        Departed,
    ),
    fault("a multicast misses a CTA", &GEMM_CLUSTER, always(LOAD_SHARED_X), MaskXor(1), Deadlock),
    fault("a slot is not released to the peer", &GEMM_CLUSTER, by_lane(1, SLOT_RELEASE), Drop, Deadlock),
    fault("slots are released to the first CTA alone", &GEMM_CLUSTER, always(SLOT_RELEASE), Rank(0), Race),
    fault(
        "one slot is released to another CTA",
        &GEMM_CLUSTER,
        once(1, 0, 2, SLOT_RELEASE),
        Rank(1),
        Deadlock,
    ),
    fault("boards are published at the first CTA", &GEMM_CLUSTER, always(BOARD_WRITTEN), Rank(0), Deadlock),
    fault("a slot of the peer is filled in use", &GEMM_CLUSTER, always(PRODUCT_WAIT), WaitGroup(1), Race),
    // h by way of the workspace.
    fault("sm_90: the flag is without release", &SHARED, always(PUBLISH), Weaken, Race),
    fault("sm_90: the look is without acquire", &SHARED, always(H_READY), Weaken, Race),
    fault("h is loaded by the copy engine unfenced", &SHARED, always(H_FENCE), Drop, Proxy),
    fault("sm_90: the flag is published before h is stored", &SHARED, always(H_STORED), Drop, Race),
    fault("sm_90: the flag is not published", &SHARED, always(PUBLISH), Drop, Deadlock),
    fault(
        "sm_90: one tile of h too few is awaited",
        &SHARED,
        always(H_READY),
        word(0, |items| items + 1),
        Race,
    ),
    fault(
        "sm_90: one tile of h too many is awaited",
        &SHARED,
        always(H_READY),
        word(0, |items| items.saturating_sub(1)),
        Deadlock,
    ),
    // `FUSED_SHORT` has 12 tickets.
    faults(
        "sm_90: a ticket waits for larger ones",
        &FUSED_SHORT,
        &[always(FIRST_DRAW), always(NEXT_DRAW)],
        word(0, |ticket| 11 - ticket),
        Deadlock,
    ),
    faults(
        "sm_90: a ticket is drawn twice, another never",
        &FUSED_SHORT,
        &[always(FIRST_DRAW), always(NEXT_DRAW)],
        word(0, |ticket| ticket - ticket % 2),
        Race,
    ),
    fault(
        "sm_90: the first ticket is not taken off the counter",
        &FUSED_SHORT,
        always(FIRST_DRAW),
        Drop,
        Race,
    ),
    fault("sm_90: tickets are not taken off the counter", &FUSED_SHORT, always(NEXT_DRAW), Drop, Race),
    fault("sm_90: the count of finished tiles is not reset", &SHARED, always(RESET), Drop, Reference),
    fault("sm_90: tiles of y do not count themselves", &SHARED, always(PASS), Drop, Reference),
    fault(
        "sm_90: padding of the rank is computed",
        &FUSED_SEGMENTS,
        always(ADAPTER),
        word(1, |rank| rank + 1),
        Reference,
    ),
    rank("sm_90: the last column of h is not", &SHARED, -1, Reference),
    fault(
        "sm_90: a segment is a row too long",
        &FUSED_SEGMENTS,
        always(SEGMENT),
        word(1, |end| end + 1),
        Reference,
    ),
    fault(
        "sm_90: a segment is a row too short",
        &FUSED_SEGMENTS,
        always(SEGMENT),
        word(1, |end| end - 1),
        Reference,
    ),
    fault("the expand's B is a granule off", &SHARED, always(EXPAND), DescriptorAdd { a: 0, b: 1 }, Race),
    // h by way of the cluster.
    fault("h is sent unfenced", &COOPERATIVE_PAIR, always(H_SENT_FENCE), Drop, Proxy),
    fault("h is sent before all have rounded it", &COOPERATIVE_PAIR, always(H_ROUNDED), Drop, Race),
    fault("the peer's h is overwritten in use", &COOPERATIVE_FOUR, always(H_EMPTY), Drop, Race),
    fault("h is not awaited", &COOPERATIVE_PAIR, always(H_FULL), Drop, Race),
    fault("h's wait is for the tile before", &COOPERATIVE_PAIR, always(H_FULL), ParityFlip, Deadlock),
    fault("h's place is awaited full", &COOPERATIVE_PAIR, always(H_EMPTY), ParityFlip, Deadlock),
    fault("too few bytes of h are sent", &COOPERATIVE_PAIR, always(H_SEND), ByteDelta(-16), Deadlock),
    fault("too few bytes of h are awaited", &COOPERATIVE_PAIR, always(H_BYTES), ByteDelta(-16), Deadlock),
    faults(
        "h stays in its CTA",
        &COOPERATIVE_PAIR,
        &[always(H_TO_PEER), always(H_BARRIER_OF_PEER)],
        Drop,
        Race,
    ),
    fault(
        "h goes to another CTA than its barrier",
        &COOPERATIVE_PAIR,
        always(H_SEND),
        AddressXor(3 << 24),
        Operand,
    ),
    fault("sm_90: h is swizzled on one side", &COOPERATIVE, always(H_ROUND), AddressXor(16), Reference),
    fault("one CTA's h is not released to a peer", &COOPERATIVE_FOUR, by_lane(1, H_RELEASE), Drop, Deadlock),
    fault("h is released to the first CTA alone", &COOPERATIVE_FOUR, always(H_RELEASE), Rank(0), Deadlock),
    fault(
        "one CTA releases h to another peer",
        &COOPERATIVE_PAIR,
        once(0, 1, 0, H_RELEASE),
        Rank(0),
        Deadlock,
    ),
    faults(
        "h goes to the first CTA alone",
        &COOPERATIVE_FOUR,
        &[always(H_TO_PEER), always(H_BARRIER_OF_PEER)],
        Rank(0),
        Race,
    ),
    fault(
        "sm_90: cooperative slots are released to the first CTA alone",
        &COOPERATIVE_PAIR,
        always(SLOT_RELEASE),
        Rank(0),
        Race,
    ),
    fault("h's panel is a granule off", &COOPERATIVE, always(EXPAND), DescriptorAdd { a: 1, b: 0 }, Poison),
    rank("sm_90: padding of a cooperative rank is computed", &COOPERATIVE, 1, Reference),
    fault(
        "sm_90: a cooperative segment is a row too long",
        &COOPERATIVE_SEGMENTS,
        always(SEGMENT),
        word(1, |end| end + 1),
        Reference,
    ),
    fault(
        "a slot is released while A's products run",
        &COOPERATIVE_WIDE,
        always(APART_WAIT),
        WaitGroup(1),
        Race,
    ),
    // K of h in slices.
    fault("sums of h are sent unfenced", &SLICED, always(SLICES_FENCE), Drop, Proxy),
    fault("sums of h are added before they are there", &SLICED, always(H_FULL), Drop, Race),
    fault("sums of h are sent again before they were added", &SLICED_SHORT, always(SLICES_EMPTY), Drop, Race),
    fault(
        "that sums of h were added, other CTAs are not told",
        &SLICED_SHORT,
        always(SLICES_READ),
        Weaken,
        Race,
    ),
    fault("x is copied over while threads read it", &SLICED, always(SLICED_X_READ), Drop, Race),
    // Parts of K.
    fault("partial sums are sent unfenced", &SPLIT_K, always(PARTS_FENCE), Drop, Proxy),
    fault("partial sums are sent before all are written", &SPLIT_K, always(PARTS_WRITTEN), Drop, Race),
    fault("partial sums are added before they are there", &SPLIT_K, always(PARTS_FULL), Drop, Race),
    fault("a share's slots are released at the first CTA", &SPLIT_K, always(OWN_SLOT_RELEASE), Rank(0), Race),
    faults(
        "partial sums go to the first CTA alone",
        &SPLIT_K,
        &[always(PARTS_TO_PEER), always(PARTS_BARRIER_OF_PEER)],
        Rank(0),
        Race,
    ),
    fault("too few partial sums are sent", &SPLIT_K, always(PARTS_SEND), ByteDelta(-16), Deadlock),
];
