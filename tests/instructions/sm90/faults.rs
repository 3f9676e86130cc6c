//! What stands around an instruction in its entry is needed there: without it the strict machine reports a
//! fault, or other words come out. So a run that passes says something of each.

use fused_lora_simt::{
    Action::{self, CountDelta, DescriptorAdd, Drop, MaskXor, ParityFlip, WaitGroup, Weaken},
    Kind, Mutation, Op, Schedule, Site,
};

use super::tensor_copies;
use crate::{
    entry::{Matrix, entry},
    inputs, strict,
};

/// How the machine must see a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Accesses without an order, bytes that nobody wrote yet.
    Race,
    /// Accesses across proxies without a fence.
    Proxy,
    /// Waiting for good.
    Deadlock,
    /// An operand or a state that the instruction does not take.
    Operand,
    /// A CTA's memory used before it begins or after it ends.
    Cluster,
    /// Something is under way at the end.
    NotWaited,
    /// No fault, and other words.
    Words,
}

impl Seen {
    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Race { .. } | Kind::Poison { .. } => Self::Race,
            Kind::Proxy { .. } => Self::Proxy,
            Kind::Deadlock { .. } => Self::Deadlock,
            Kind::Operand { .. } => Self::Operand,
            Kind::NotStarted { .. } | Kind::Departed { .. } => Self::Cluster,
            Kind::NotWaited { .. } => Self::NotWaited,
            other => panic!("another kind of fault: {other:?}"),
        }
    }
}

/// Runs `name` with a fault under several schedules, each of which must show it in one of these ways.
#[track_caller]
fn shows(name: &str, fault: Mutation, items: usize, input: &[u32], matrix: Option<&Matrix>, ways: &[Seen]) {
    let row = &entry(name);
    for schedule in Schedule::standard(8) {
        let run = |schedule: &Schedule| strict::run_under(row, items, input, matrix, schedule);
        let (right, _) = run(&schedule).unwrap_or_else(|report| panic!("{name} without a fault: {report}"));
        let what = format!("{name} with {fault:?}, seed {}", schedule.seed);
        let seen = match run(&schedule.with(fault.clone())) {
            Err(report) => Seen::of(&report.kind),
            Ok((wrong, _)) => {
                assert_ne!((&right.output, &right.matrix), (&wrong.output, &wrong.matrix), "{what}");
                Seen::Words
            }
        };
        assert!(ways.contains(&seen), "{what} is seen as {seen:?}");
    }
}

/// The same for entries without a map, on random words.
#[track_caller]
fn breaks(name: &str, op: Op, action: Action, ways: &[Seen]) {
    let items = 4;
    let input = inputs::words(items * entry(name).input_words as usize, 1);
    shows(name, Site::all(op).does(action), items, &input, None, ways);
}

#[test]
fn clusters() {
    use Seen::{Operand, Race};
    for op in [Op::BarrierClusterArrive, Op::BarrierClusterWait] {
        breaks("barrier_cluster", op, Weaken, &[Race]);
    }
    breaks("barrier_cluster", Op::BarrierClusterArrive, Drop, &[Operand]);
}

#[test]
fn mbarriers() {
    use Seen::{Cluster, Deadlock, Operand, Race, Words};
    for op in [Op::MbarrierArrive, Op::MbarrierTryWaitParity] {
        breaks("mbarrier_arrive", op, Weaken, &[Race]);
    }
    breaks("mbarrier_arrive", Op::MbarrierTryWaitParity, Drop, &[Race]);
    breaks("mbarrier_arrive", Op::MbarrierTryWaitParity, ParityFlip, &[Race, Deadlock]);
    breaks("mbarrier_arrive", Op::MbarrierInit, CountDelta(1), &[Deadlock]);
    breaks("mbarrier_arrive", Op::MbarrierInit, CountDelta(-1), &[Race, Operand, Deadlock]);
    breaks("mbarrier_try_wait", Op::MbarrierTryWaitParity, ParityFlip, &[Words, Deadlock]);
    breaks("mbarrier_arrive_cluster", Op::FenceMbarrierInit, Drop, &[Race, Seen::Proxy]);
    breaks("mbarrier_arrive_cluster", Op::Mapa, Drop, &[Operand, Deadlock]);
    breaks("mbarrier_arrive_cluster", Op::BarrierClusterWait, Drop, &[Cluster, Race]);
}

#[test]
fn matrix_stores() {
    let items = 4;
    let rows: Vec<u32> = (0..32).chain(0..32).collect();
    let input: Vec<u32> =
        (0..items as u64).flat_map(|item| [inputs::words(256, item), rows.clone()].concat()).collect();
    let fault = Site::all(Op::BarWarpSync).does(Drop);
    shows("stmatrix_x4", fault, items, &input, None, &[Seen::Race]);
}

#[test]
fn dependents() {
    for name in ["griddepcontrol_wait", "griddepcontrol_launch_dependents"] {
        breaks(name, Op::GriddepcontrolWait, Drop, &[Seen::Race]);
    }
}

#[test]
fn moved_registers() {
    // Nobody gives what the others wait for.
    breaks("setmaxnreg_inc", Op::SetmaxnregDec, Drop, &[Seen::Deadlock]);
}

/// The input of an entry that has a map, and its matrix.
fn with_matrix(name: &str) -> (Vec<u32>, Matrix) {
    match name {
        "bulk_commit_group" => {
            let (matrix, input, _) = tensor_copies::columns_of_boxes(5);
            (input, matrix)
        }
        "bulk_wait_group_read" => {
            let (matrix, input, _) = tensor_copies::columns_of_boxes(4);
            (input, matrix)
        }
        "fence_proxy_async_global" => {
            let (input, _, matrix) = tensor_copies::through_global(3);
            (input, matrix)
        }
        "load_box_multicast" => {
            let matrix = tensor_copies::small();
            (tensor_copies::multicast(&matrix).0, matrix)
        }
        _ => {
            // One box, inside; what a store takes from shared memory behind it.
            let matrix = tensor_copies::small();
            let mut input = vec![5, 7, matrix.box_bytes(), 0];
            input.extend(inputs::words(entry(name).input_words as usize - 4, 1));
            (input, matrix)
        }
    }
}

/// [`breaks`] for entries that have a map.
#[track_caller]
fn copy_breaks(name: &str, op: Op, action: Action, ways: &[Seen]) {
    let (input, matrix) = with_matrix(name);
    let items = input.len() / entry(name).input_words as usize;
    shows(name, Site::all(op).does(action), items, &input, Some(&matrix), ways);
}

#[test]
fn loads() {
    use Seen::{Cluster, Deadlock, Operand, Proxy, Race, Words};
    for name in ["load_box", "prefetch_tensor_map", "mbarrier_arrive_expect_tx", "load_box_multicast"] {
        copy_breaks(name, Op::FenceProxyAsyncShared, Drop, &[Proxy]);
        copy_breaks(name, Op::MbarrierTryWaitParity, Drop, &[Race, Words]);
        // The phase is over too early, or never.
        copy_breaks(name, Op::MbarrierArriveExpectTx, Action::ByteDelta(16), &[Deadlock]);
        copy_breaks(name, Op::MbarrierArriveExpectTx, Action::ByteDelta(-16), &[Race, Deadlock, Operand]);
    }
    copy_breaks("load_box", Op::CpAsyncBulkTensor2dLoad, Drop, &[Deadlock]);
    copy_breaks(
        "load_box_multicast",
        Op::CpAsyncBulkTensor2dLoadMulticast,
        MaskXor(1),
        &[Deadlock, Race, Operand, Cluster],
    );
    copy_breaks("load_box_multicast", Op::BarrierClusterWait, Drop, &[Cluster, Race, Proxy]);
}

#[test]
fn stores() {
    use Seen::{NotWaited, Proxy, Race};
    for name in ["store_box", "bulk_commit_group", "bulk_wait_group_read"] {
        copy_breaks(name, Op::FenceProxyAsyncShared, Drop, &[Proxy]);
        copy_breaks(name, Op::CpAsyncBulkWaitGroupRead, WaitGroup(1), &[Race, NotWaited]);
        copy_breaks(name, Op::CpAsyncBulkWaitGroupRead, Drop, &[Race, NotWaited]);
    }
    copy_breaks("bulk_commit_group", Op::CpAsyncBulkCommitGroup, Drop, &[Race, NotWaited]);
    copy_breaks("fence_proxy_async_global", Op::FenceProxyAsyncGlobal, Drop, &[Proxy]);
}

#[test]
fn copies_to_the_cluster() {
    use Seen::{Cluster, Deadlock, Operand, Proxy, Race, Words};
    let (input, _) = tensor_copies::sent();
    let breaks = |op, action, ways: &[Seen]| {
        shows("copy_to_cluster", Site::all(op).does(action), 8, &input, None, ways);
    };
    breaks(Op::FenceProxyAsyncShared, Drop, &[Proxy]);
    breaks(Op::MbarrierTryWaitParity, Drop, &[Race, Words]);
    breaks(Op::BarrierClusterWait, Drop, &[Cluster, Race, Proxy]);
    breaks(Op::Mapa, Drop, &[Race, Deadlock, Operand, Words, Proxy]);
}

/// That a place was read, another CTA learns by release and acquire of the cluster alone.
#[test]
fn a_place_that_is_written_again() {
    use Seen::{Proxy, Race, Words};
    let (input, _) = tensor_copies::sent_twice();
    for (op, action) in [
        (Op::MbarrierArriveCluster, Weaken),
        (Op::MbarrierTryWaitParity, Weaken),
        (Op::MbarrierTryWaitParity, Drop),
        (Op::FenceProxyAsyncShared, Drop),
    ] {
        let fault = Site::all(op).does(action);
        shows("mbarrier_arrive_release_cluster", fault, 8, &input, None, &[Race, Proxy, Words]);
    }
}

/// Operands without NaN, with which sums would be the same whatever they are made of.
#[test]
fn products() {
    use Seen::{NotWaited, Proxy, Race, Words};
    let name = "wgmma_chain_r8";
    // f16 between 1 and 2, two in a word.
    let input: Vec<u32> = inputs::words(2 * entry(name).input_words as usize, 1)
        .into_iter()
        .map(|word| 0x3c00_3c00 | word & 0x03ff_03ff)
        .collect();
    let breaks = |op, action, ways: &[Seen]| {
        shows(name, Site::all(op).does(action), 2, &input, None, ways);
    };
    breaks(Op::FenceProxyAsyncShared, Drop, &[Proxy]);
    breaks(Op::BarSync, Drop, &[Race, Proxy]);
    breaks(Op::WgmmaWaitGroup, WaitGroup(1), &[Race, NotWaited]);
    breaks(Op::WgmmaF16, DescriptorAdd { a: 1, b: 0 }, &[Words]);
    breaks(Op::WgmmaF16, DescriptorAdd { a: 0, b: -1 }, &[Words]);
}
