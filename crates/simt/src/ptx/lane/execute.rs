//! The instructions of the machine, as a lane executes them.

use super::{
    super::{
        arithmetic::{carried, compare_both, insert, set},
        code::{Arrival, Instruction, Operation as Op, Shuffle, Space, Vote},
        conversion::{convert, convert_eights, convert_pair},
        parsed::Special,
        types::Kind,
    },
    special,
    state::{GENERIC_LOCAL, GENERIC_SHARED, Lane, PARAMETERS},
};
use crate::{
    exchange::Exchange,
    exec::poll::{Phase, Wait},
    ops,
    site::Op as MachineOp,
    state::mbarrier::{Arrive, of_state},
};

impl Lane<'_> {
    pub(super) fn execute(&mut self, i: &Instruction) {
        self.at(i);
        match i.op {
            Op::Arithmetic(..) | Op::Branch(_) | Op::BranchCase(_) | Op::Return => {
                unreachable!("handled where it is read")
            }
            Op::Convert(to, from, rounding) => {
                let value = convert(to, from, rounding, self.get(i, 0));
                self.set(i, 0, value);
            }
            Op::ConvertPair(to, rounding) => {
                let value = convert_pair(to, rounding, [self.get(i, 0), self.get(i, 1)]);
                self.set(i, 0, value);
            }
            Op::Pack(bits) => {
                let count = self.sources(i).len();
                let value =
                    (0..count).fold(0, |value, word| value | self.get(i, word) << (word as u32 * bits));
                self.set(i, 0, value);
            }
            Op::Unpack(bits) => {
                let value = self.get(i, 0);
                for word in 0..self.results(i).len() {
                    let mask = u64::MAX >> (64 - bits);
                    self.set(i, word, value >> (word as u32 * bits) & mask);
                }
            }
            Op::Insert(bits) => {
                let value = insert(bits, std::array::from_fn(|index| self.get(i, index)));
                self.set(i, 0, value);
            }
            Op::ConvertEights(to, from, rounding) => {
                let [high, low, _] = self.three(i);
                self.set(i, 0, convert_eights(to, from, rounding, [high, low]));
            }
            Op::Set(compare, to, from) => {
                let value = set(compare, to, from, [self.get(i, 0), self.get(i, 1)]);
                self.set(i, 0, value);
            }
            Op::Carry { op, ty, reads, .. } => {
                let carry = reads && self.sources(i).last().is_some_and(|&flag| self.value(flag) == 1);
                let [value, flag] = carried(op, ty, self.three(i), carry);
                self.set(i, 0, value);
                self.set(i, 1, flag);
            }
            Op::SetpBoth(compare, ty, combine) => {
                let with = self.sources(i).len() > 2 && self.predicate(i, 2);
                let both = compare_both(compare, ty, combine, [self.get(i, 0), self.get(i, 1)], with);
                self.set(i, 0, both[0]);
                self.set(i, 1, both[1]);
            }
            Op::Offset(offset) => {
                let address = self.get(i, 0).wrapping_add(offset);
                self.set(i, 0, address);
            }
            Op::IsSpace(space) => {
                let found = match self.get(i, 0) {
                    address if address >> 32 == GENERIC_SHARED >> 32 => Some(Space::Shared),
                    address if address >> 32 == GENERIC_LOCAL >> 32 => Some(Space::Local),
                    PARAMETERS.. => None,
                    _ => Some(Space::Global),
                };
                self.set(i, 0, u64::from(found == Some(space)));
            }
            Op::LoadParameter(bits) => self.load_parameter(i, bits, self.address(i, 0)),
            Op::Trap => panic!("trap"),
            Op::Load(space, bits) => self.load(i, space, bits),
            Op::LoadNonCoherent(bits) => self.load_non_coherent(i, bits),
            Op::Store(space, bits) => self.store(i, space, bits),
            Op::LoadStrong(space, bits, order) => self.load_strong(i, space, bits, order),
            Op::StoreStrong(space, bits, order) => self.store_strong(i, space, bits, order),
            Op::Atomic(space, update, ty, order) => self.atomic(i, space, update, ty, order),
            Op::Fence => ops::fence(),
            Op::Hint => {}
            Op::CpAsync(size) => {
                let bytes = if self.sources(i).len() > 4 { self.get32(i, 4) } else { size };
                ops::cp_async(self.shared(i, 0), self.address(i, 2), size, bytes);
            }
            Op::CpAsyncCommitGroup => ops::cp_async_commit_group(),
            Op::CpAsyncWaitAll => {
                ops::cp_async_commit_group();
                ops::cp_async_wait_group(0);
            }
            Op::CpAsyncMbarrierArrive { expected } => {
                ops::cp_async_mbarrier_arrive(self.shared(i, 0), expected);
            }
            Op::CpAsyncWaitGroup => ops::cp_async_wait_group(self.get32(i, 0)),
            Op::TensorLoad(_)
            | Op::TensorLoadMulticast(_)
            | Op::TensorStore(_)
            | Op::TensorReduce(..)
            | Op::TensorPrefetch(_)
            | Op::PrefetchTensormap
            | Op::TensormapReplace(..)
            | Op::TensormapCopy
            | Op::TensormapFence
            | Op::BulkLoad
            | Op::BulkStore
            | Op::BulkReduce(..) => self.tensor(i),
            Op::BulkToCluster => {
                let (to, from, bytes) = (self.shared(i, 0), self.shared(i, 2), self.get32(i, 4));
                ops::cp_async_bulk_shared_cluster(to, from, bytes, self.shared(i, 5));
            }
            Op::BulkCommitGroup => ops::cp_async_bulk_commit_group(),
            Op::BulkWaitGroup => ops::cp_async_bulk_wait_group(self.get32(i, 0)),
            Op::BulkWaitGroupRead => ops::cp_async_bulk_wait_group_read(self.get32(i, 0)),
            // That it stands where it has to was checked when the entry was first launched.
            Op::WgmmaFence => {}
            Op::Wgmma(product) => self.multiply(i, product),
            Op::WgmmaCommitGroup => self.commit(),
            Op::WgmmaWaitGroup => self.wait(self.get32(i, 0)),
            Op::SetmaxnregDec => ops::setmaxnreg_dec(self.get32(i, 0)),
            Op::SetmaxnregInc => ops::setmaxnreg_inc(self.get32(i, 0)),
            Op::DependentsWait => ops::griddepcontrol_wait(),
            Op::DependentsLaunch => ops::griddepcontrol_launch_dependents(),
            Op::MbarrierInit
            | Op::MbarrierInval
            | Op::MbarrierExpectTx
            | Op::FenceMbarrierInit
            | Op::MbarrierArrive(_)
            | Op::MbarrierArriveCluster(_)
            | Op::MbarrierTryWait(_)
            | Op::MbarrierWaitState { .. }
            | Op::MbarrierTestWait(_)
            | Op::MbarrierPendingCount => self.mbarrier(i),
            _ => self.together(i),
        }
    }

    fn mbarrier(&mut self, i: &Instruction) {
        match i.op {
            Op::MbarrierInit => ops::mbarrier_init(self.shared(i, 0), self.get32(i, 2)),
            Op::MbarrierInval => ops::mbarrier_inval(self.shared(i, 0)),
            Op::MbarrierExpectTx => ops::mbarrier_expect_tx(self.shared(i, 0), self.get32(i, 2)),
            Op::FenceMbarrierInit => ops::fence_mbarrier_init(),
            Op::MbarrierArrive(arrival) => {
                let arrive = self.arrive(i, arrival);
                let state = ops::mbarrier_arrive_with(self.shared(i, 0), arrive, arrival.expects);
                self.set(i, 0, state);
            }
            Op::MbarrierArriveCluster(arrival) => {
                ops::mbarrier_arrive_cluster_with(self.shared(i, 0), self.arrive(i, arrival));
            }
            Op::MbarrierTryWait(scope) => {
                let phase = Phase::Parity(self.get32(i, 2));
                let complete = ops::mbarrier_try_wait(self.shared(i, 0), Wait { phase, scope });
                self.set(i, 0, u64::from(complete));
            }
            Op::MbarrierTestWait(scope) => {
                let phase = Phase::Parity(self.get32(i, 2));
                let complete = ops::mbarrier_test_wait(self.shared(i, 0), Wait { phase, scope });
                self.set(i, 0, u64::from(complete));
            }
            Op::MbarrierWaitState { sets_aside, scope } => {
                let (bar, phase) = (self.shared(i, 0), Phase::State(self.get(i, 2)));
                let wait = Wait { phase, scope };
                let complete = if sets_aside {
                    ops::mbarrier_try_wait(bar, wait)
                } else {
                    ops::mbarrier_test_wait(bar, wait)
                };
                self.set(i, 0, u64::from(complete));
            }
            _ => match of_state(self.get(i, 0)) {
                Some((_, missing)) => self.set(i, 0, u64::from(missing)),
                None => ops::refuse(MachineOp::MbarrierArrive, "pending_count of what is no state"),
            },
        }
    }

    /// The arrival that an instruction makes.
    fn arrive(&self, i: &Instruction, arrival: Arrival) -> Arrive {
        let Arrival { has_count, expects, drops, is_incomplete, scope } = arrival;
        let count = if has_count { self.get32(i, 2) } else { 1 };
        let bytes = if expects { self.get32(i, 2) } else { 0 };
        Arrive { count, bytes, drops, is_incomplete, scope }
    }

    /// What lanes do together: barriers, and exchanges in a warp.
    fn together(&mut self, i: &Instruction) {
        match i.op {
            Op::BarSync => ops::bar_sync(),
            Op::BarSyncNamed => {
                let threads = if self.sources(i).len() > 1 { self.get32(i, 1) } else { 0 };
                ops::bar_sync_named(self.get32(i, 0), threads);
            }
            Op::BarArrive => ops::bar_arrive(self.get32(i, 0), self.get32(i, 1)),
            Op::BarWarpSync => ops::bar_warp_sync_of(self.get32(i, 0)),
            Op::ClusterArrive { relaxed, aligned } => ops::barrier_cluster_arrive_of(relaxed, aligned),
            Op::ClusterWait { aligned } => ops::barrier_cluster_wait_of(aligned),
            Op::Mapa => {
                let address = ops::mapa(self.get32(i, 0), self.get32(i, 1));
                self.set_all(i, [address]);
            }
            Op::FenceProxyShared => ops::fence_proxy_async_shared(),
            Op::FenceProxyGlobal => ops::fence_proxy_async_global(),
            Op::FenceProxy => ops::fence_proxy_async(),
            Op::Ldmatrix { trans } => {
                let op = if trans { MachineOp::LdmatrixTrans } else { MachineOp::Ldmatrix };
                let count = self.results(i).len();
                let words = ops::ldmatrix(op, self.shared(i, 0), count);
                self.set_all(i, words.into_iter().take(count));
            }
            Op::Stmatrix { trans } => {
                let count = self.sources(i).len() - 2;
                let value = |index: usize| if index < count { self.get32(i, 2 + index) } else { 0 };
                ops::stmatrix(self.shared(i, 0), std::array::from_fn(value), count, trans);
            }
            Op::Mma(None) => {
                let [a, b, c, d] = std::array::from_fn(|index| self.get(i, index)).map(words);
                let [low, high, next, last] =
                    ops::mma(None, ([a[0], a[1], 0, 0], b, [c[0], c[1], d[0], d[1]]));
                self.set(i, 0, u64::from(high) << 32 | u64::from(low));
                self.set(i, 1, u64::from(last) << 32 | u64::from(next));
            }
            Op::Mma(types) => {
                let (all, of_c) = (self.sources(i).len(), self.results(i).len());
                let of_a = (all - of_c) / 3 * 2;
                let get = |first: usize, end: usize, index: usize| {
                    if first + index < end { self.get32(i, first + index) } else { 0 }
                };
                let a = std::array::from_fn(|index| get(0, of_a, index));
                let b = std::array::from_fn(|index| get(of_a, all - of_c, index));
                let c = std::array::from_fn(|index| get(all - of_c, all, index));
                self.set_all(i, ops::mma(types, (a, b, c)));
            }
            _ => self.exchange(i),
        }
    }

    fn exchange(&mut self, i: &Instruction) {
        let given = |index: usize| self.get32(i, index);
        let [low, high] = self.sources(i).first().map_or([0; 2], |&source| words(self.value(source)));
        let gets = match i.op {
            Op::Shfl(mode) => {
                let (value, mask) = (given(0), given(3));
                let is_plain = mode == Shuffle::Butterfly && mask == u32::MAX;
                let op = if is_plain { MachineOp::ShflBfly } else { MachineOp::Shfl };
                let brought = [value, given(1), given(2), 0];
                ops::exchange(op, Exchange::Shuffle(mode), mask, brought, [value, 1, 0, 0])
            }
            Op::Vote(vote) => {
                let brought = [u32::from(self.predicate(i, 0)), 0, 0, 0];
                let dropped = match vote {
                    Vote::Ballot => brought[0] * special::value(Special::LanemaskEq) as u32,
                    _ => brought[0],
                };
                ops::exchange(MachineOp::Vote, Exchange::Vote(vote), given(2), brought, [dropped, 0, 0, 0])
            }
            Op::Match { all } => {
                ops::exchange(MachineOp::Match, Exchange::Match { all }, given(1), [low, high, 0, 0], [0; 4])
            }
            Op::Redux(update, ty) => {
                let kind = Exchange::Redux { update, is_signed: ty.kind == Kind::Signed };
                ops::exchange(MachineOp::Redux, kind, given(1), [given(0), 0, 0, 0], [given(0), 0, 0, 0])
            }
            Op::Elect => ops::elect(given(0)),
            // Those that are there: this lane is, of the others nothing is known.
            Op::ActiveMask => [special::value(Special::LanemaskEq) as u32, 0, 0, 0],
            other => unreachable!("{other:?} is no exchange"),
        };
        self.set(i, 0, u64::from(gets[0]));
        self.set(i, 1, u64::from(gets[1]));
    }
}

/// A value of 64 bits as two words, the lower one first.
fn words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
