//! A lane executes an entry.

use std::{rc::Rc, sync::Arc};

use smallvec::SmallVec;

use super::{
    arithmetic::{compute, convert},
    code::{Code, Instruction, NONE, Operation as Op, Source},
    parameter::Parameter,
    parsed::Special,
};
use crate::{
    coverage::{EXECUTED, Marks, TAKEN, waited},
    ops,
    scheduler::with,
    site::Op as MachineOp,
};

/// Where addresses of parameters start. Nothing else is there.
pub(super) const PARAMETERS: u64 = 0x7000_0000_0000_0000;
/// Bytes of a tensor map, and what its address must be a multiple of (PTX ISA 5.5.8).
const MAP_BYTES: usize = 128;
const MAP_ALIGN: u32 = 64;
/// What a register holds before it is written.
const UNWRITTEN: u64 = 0xbad0_bad0_bad0_bad0;

/// What all lanes of a launch have in common.
pub(super) struct Kernel {
    pub(super) code: Arc<Code>,
    pub(super) seen: Rc<Marks>,
    pub(super) parameters: Rc<[u8]>,
    /// Where each of them lies.
    pub(super) places: Vec<Parameter>,
}

/// The registers of accumulators, in their order.
type Accumulators = SmallVec<[u16; 4]>;

struct Lane<'a> {
    kernel: &'a Kernel,
    registers: Vec<u64>,
    /// The products since the latest commit, by their accumulators.
    open: Vec<(Accumulators, Vec<[u64; 2]>)>,
    /// Accumulators that products under way add to.
    in_flight: Vec<Accumulators>,
    /// Which registers those are.
    is_marked: Vec<bool>,
}

/// Runs the current lane to its end.
pub(super) fn run(kernel: &Kernel) {
    let code = &*kernel.code;
    let count = code.registers;
    let mut lane = Lane {
        kernel,
        registers: vec![UNWRITTEN; count],
        open: Vec::new(),
        in_flight: Vec::new(),
        is_marked: vec![false; count],
    };
    let mut next = 0;
    loop {
        let instruction = &code.instructions[next];
        kernel.seen.see(next, EXECUTED);
        next += 1;
        if instruction.guard != NONE
            && (lane.registers[usize::from(instruction.guard)] & 1 == 1) == instruction.negated
        {
            continue;
        }
        if !lane.in_flight.is_empty() {
            lane.keep_off(instruction);
        }
        match instruction.op {
            Op::Arithmetic(op, ty) => {
                let result = compute(op, ty, lane.three(instruction));
                lane.set(instruction, 0, result);
            }
            Op::Branch(target) => {
                kernel.seen.see(next - 1, TAKEN);
                next = target as usize;
            }
            Op::MbarrierTryWait => {
                kernel.seen.see(next - 1, waited(lane.get32(instruction, 2)));
                lane.execute(instruction);
            }
            Op::Return => break,
            _ => lane.execute(instruction),
        }
    }
    if !lane.open.is_empty() {
        lane.fail("the lane ends with wgmma that no commit_group follows");
    }
}

impl Lane<'_> {
    fn sources(&self, instruction: &Instruction) -> &[Source] {
        let (first, count) = instruction.sources;
        &self.kernel.code.sources[first as usize..][..usize::from(count)]
    }

    fn results(&self, instruction: &Instruction) -> &[u16] {
        let (first, count) = instruction.results;
        &self.kernel.code.results[first as usize..][..usize::from(count)]
    }

    fn value(&self, source: Source) -> u64 {
        match source {
            Source::Register(register) => self.registers[usize::from(register)],
            Source::Constant(value) => value,
            Source::Special(special) => u64::from(match special {
                Special::Tid => ops::thread_idx_x(),
                Special::Ntid => ops::block_dim_x(),
                Special::Ctaid => ops::block_idx_x(),
                Special::Nctaid => ops::grid_dim_x(),
                Special::ClusterCtarank => ops::cluster_ctarank(),
                Special::ClusterNctarank => ops::cluster_nctarank(),
                Special::Clusterid => ops::clusterid_x(),
                Special::Nclusterid => ops::nclusterid_x(),
                Special::Laneid => ops::thread_idx_x() % 32,
                Special::Zero => 0,
                Special::One => 1,
            }),
        }
    }

    /// The sources of arithmetic, zeros behind them.
    fn three(&self, instruction: &Instruction) -> [u64; 3] {
        let mut three = [0; 3];
        for (value, &source) in three.iter_mut().zip(self.sources(instruction)) {
            *value = self.value(source);
        }
        three
    }

    fn get(&self, instruction: &Instruction, index: usize) -> u64 {
        self.value(self.sources(instruction)[index])
    }

    fn get32(&self, instruction: &Instruction, index: usize) -> u32 {
        self.get(instruction, index) as u32
    }

    /// So many values from the source at `index` on.
    fn words<const N: usize>(&self, instruction: &Instruction, index: usize) -> [u32; N] {
        std::array::from_fn(|i| self.get32(instruction, index + i))
    }

    /// The address that the sources `index` and `index + 1` make.
    fn address(&self, instruction: &Instruction, index: usize) -> u64 {
        self.get(instruction, index).wrapping_add(self.get(instruction, index + 1))
    }

    fn shared(&self, instruction: &Instruction, index: usize) -> u32 {
        self.address(instruction, index) as u32
    }

    fn set(&mut self, instruction: &Instruction, index: usize, value: u64) {
        let register = self.results(instruction)[index];
        if register != NONE {
            self.registers[usize::from(register)] = value;
        }
    }

    fn set_all(&mut self, instruction: &Instruction, values: impl IntoIterator<Item = u32>) {
        for (index, value) in values.into_iter().enumerate() {
            self.set(instruction, index, u64::from(value));
        }
    }

    /// A register that a product under way adds to must not be touched before a wait covers it.
    fn keep_off(&self, instruction: &Instruction) {
        let sources = self.sources(instruction).iter().filter_map(|source| match source {
            Source::Register(register) => Some(*register),
            _ => None,
        });
        let results = self.results(instruction).iter().copied();
        // Further products may add to the same sums.
        if instruction.op != Op::Wgmma
            && results
                .chain(sources)
                .any(|register| register != NONE && self.is_marked[usize::from(register)])
        {
            self.at(instruction);
            self.fail("a register that a wgmma under way adds to is touched before a wait covers it");
        }
    }

    /// The instruction that reports are to name.
    fn at(&self, instruction: &Instruction) {
        with(|run| run.lane_mut().ptx = Some(instruction.line));
    }

    /// Ends the run with a fault of wgmma's registers.
    fn fail(&self, reason: &str) -> ! {
        ops::refuse(MachineOp::WgmmaF16, reason)
    }

    /// The machine's name of an instruction on a tensor map.
    fn op(instruction: &Instruction) -> MachineOp {
        match instruction.op {
            Op::TensorLoad => MachineOp::CpAsyncBulkTensor2dLoad,
            Op::TensorLoadMulticast => MachineOp::CpAsyncBulkTensor2dLoadMulticast,
            Op::TensorStore => MachineOp::CpAsyncBulkTensor2dStore,
            _ => MachineOp::PrefetchTensormap,
        }
    }

    /// An instruction of the machine.
    fn execute(&mut self, i: &Instruction) {
        self.at(i);
        match i.op {
            Op::Arithmetic(..) | Op::Branch(_) | Op::Return => unreachable!("handled where it is read"),
            Op::Convert(to, from) => {
                let value = convert(to, from, self.get(i, 0));
                self.set(i, 0, value);
            }
            Op::PackF16x2 => {
                let [high, low] = self.words(i, 0).map(f32::from_bits);
                self.set(i, 0, u64::from(ops::pack_f16x2(low, high)));
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
            Op::LoadParameter(bits) => self.load_parameter(i, bits),
            Op::Trap => panic!("trap"),
            Op::LoadGlobal(bits) => {
                let at = self.address(i, 0);
                match (self.results(i).len(), bits) {
                    (1, 16) => self.set_all(i, [u32::from(ops::ld_global::<u16>(at))]),
                    (1, 32) => self.set_all(i, [ops::ld_global::<u32>(at)]),
                    (2, 32) => self.set_all(i, ops::ld_global::<[u32; 2]>(at)),
                    (4, 32) => self.set_all(i, ops::ld_global::<[u32; 4]>(at)),
                    other => unreachable!("{other:?} is not decoded"),
                }
            }
            Op::LoadShared(bits) => {
                let at = self.shared(i, 0);
                match (self.results(i).len(), bits) {
                    (1, 16) => self.set_all(i, [u32::from(ops::ld_shared::<u16>(at))]),
                    (1, 32) => self.set_all(i, [ops::ld_shared::<u32>(at)]),
                    (2, 32) => self.set_all(i, ops::ld_shared::<[u32; 2]>(at)),
                    (4, 32) => self.set_all(i, ops::ld_shared::<[u32; 4]>(at)),
                    other => unreachable!("{other:?} is not decoded"),
                }
            }
            Op::StoreGlobal(bits) => {
                let at = self.address(i, 0);
                match (self.sources(i).len() - 2, bits) {
                    (1, 16) => ops::st_global(at, self.get(i, 2) as u16),
                    (1, 32) => ops::st_global(at, self.get32(i, 2)),
                    (2, 32) => ops::st_global(at, self.words::<2>(i, 2)),
                    (4, 32) => ops::st_global(at, self.words::<4>(i, 2)),
                    other => unreachable!("{other:?} is not decoded"),
                }
            }
            Op::StoreShared(bits) => {
                let at = self.shared(i, 0);
                match (self.sources(i).len() - 2, bits) {
                    (1, 16) => ops::st_shared(at, self.get(i, 2) as u16),
                    (1, 32) => ops::st_shared(at, self.get32(i, 2)),
                    (2, 32) => ops::st_shared(at, self.words::<2>(i, 2)),
                    (4, 32) => ops::st_shared(at, self.words::<4>(i, 2)),
                    other => unreachable!("{other:?} is not decoded"),
                }
            }
            Op::LoadAcquire => {
                let value = ops::ld_acquire_gpu(self.address(i, 0));
                self.set_all(i, [value]);
            }
            Op::StoreRelaxed => ops::st_relaxed_gpu(self.address(i, 0), self.get32(i, 2)),
            Op::AtomicInc => {
                let old = ops::atom_inc_relaxed_gpu(self.address(i, 0), self.get32(i, 2));
                self.set_all(i, [old]);
            }
            Op::ReduceAddRelease => ops::red_add_release_gpu(self.address(i, 0), self.get32(i, 2)),
            Op::BarSync => ops::bar_sync(),
            Op::BarSyncNamed => ops::bar_sync_named(self.get32(i, 0), self.get32(i, 1)),
            Op::BarWarpSync => ops::bar_warp_sync(),
            Op::CpAsync => ops::cp_async_16(self.shared(i, 0), self.address(i, 2), self.get32(i, 4)),
            Op::CpAsyncCommitGroup => ops::cp_async_commit_group(),
            Op::CpAsyncWaitGroup => ops::cp_async_wait_group(self.get32(i, 0)),
            Op::Ldmatrix => {
                let words = ops::ldmatrix_x4(self.shared(i, 0));
                self.set_all(i, words);
            }
            Op::LdmatrixTrans => {
                let words = ops::ldmatrix_x4_trans(self.shared(i, 0));
                self.set_all(i, words);
            }
            Op::Stmatrix => ops::stmatrix_x4(self.shared(i, 0), self.words(i, 2)),
            Op::Mma => {
                let (a, b) = (self.words::<4>(i, 0), self.words::<2>(i, 4));
                let sums = ops::mma_m16n8k16_f16(a, b, self.words::<4>(i, 6).map(f32::from_bits));
                self.set_all(i, sums.map(f32::to_bits));
            }
            Op::ShflBfly => {
                let value = ops::shfl_bfly(self.get32(i, 0), self.get32(i, 1));
                self.set_all(i, [value]);
            }
            Op::ClusterArrive => ops::barrier_cluster_arrive(),
            Op::ClusterWait => ops::barrier_cluster_wait(),
            Op::Mapa => {
                let address = ops::mapa(self.get32(i, 0), self.get32(i, 1));
                self.set_all(i, [address]);
            }
            Op::MbarrierInit => ops::mbarrier_init(self.shared(i, 0), self.get32(i, 2)),
            Op::FenceMbarrierInit => ops::fence_mbarrier_init(),
            Op::MbarrierArrive => ops::mbarrier_arrive(self.shared(i, 0)),
            Op::MbarrierArriveCluster => ops::mbarrier_arrive_cluster(self.shared(i, 0)),
            Op::MbarrierArriveExpectTx => ops::mbarrier_arrive_expect_tx(self.shared(i, 0), self.get32(i, 2)),
            Op::MbarrierTryWait => {
                let complete = ops::mbarrier_try_wait_parity(self.shared(i, 0), self.get32(i, 2));
                self.set(i, 0, u64::from(complete));
            }
            Op::FenceProxyShared => ops::fence_proxy_async_shared(),
            Op::FenceProxyGlobal => ops::fence_proxy_async_global(),
            Op::TensorLoad => {
                let (to, map, at) = (self.shared(i, 0), self.map(i, 2), self.words(i, 4));
                ops::cp_async_bulk_tensor_2d_load(to, &map, at, self.shared(i, 6));
            }
            Op::TensorLoadMulticast => {
                let (to, map, at) = (self.shared(i, 0), self.map(i, 2), self.words(i, 4));
                let ctas = self.get(i, 8) as u16;
                ops::cp_async_bulk_tensor_2d_load_multicast(to, &map, at, self.shared(i, 6), ctas);
            }
            Op::TensorStore => {
                let (map, at) = (self.map(i, 0), self.words(i, 2));
                ops::cp_async_bulk_tensor_2d_store(&map, at, self.shared(i, 4));
            }
            Op::BulkToCluster => {
                let (to, from, bytes) = (self.shared(i, 0), self.shared(i, 2), self.get32(i, 4));
                ops::cp_async_bulk_shared_cluster(to, from, bytes, self.shared(i, 5));
            }
            Op::BulkCommitGroup => ops::cp_async_bulk_commit_group(),
            Op::BulkWaitGroup => ops::cp_async_bulk_wait_group(self.get32(i, 0)),
            Op::BulkWaitGroupRead => ops::cp_async_bulk_wait_group_read(self.get32(i, 0)),
            Op::PrefetchTensormap => ops::prefetch_tensormap(&self.map(i, 0)),
            // Products are given to the machine by the group. That the fence stands between the registers' last use and
            // the products is up to the compiler of the PTX: its operands are the same registers.
            Op::WgmmaFence => {}
            Op::Wgmma => {
                let step = [self.get(i, 0), self.get(i, 1)];
                let registers = SmallVec::from_slice(self.results(i));
                match self.open.iter_mut().find(|(open, _)| *open == registers) {
                    Some((_, steps)) => steps.push(step),
                    None => self.open.push((registers, vec![step])),
                }
            }
            Op::WgmmaCommitGroup => self.commit(),
            Op::WgmmaWaitGroup => self.wait(self.get32(i, 0)),
            Op::SetmaxnregDec => ops::setmaxnreg_dec(self.get32(i, 0)),
            Op::SetmaxnregInc => ops::setmaxnreg_inc(self.get32(i, 0)),
            Op::DependentsWait => ops::griddepcontrol_wait(),
            Op::DependentsLaunch => ops::griddepcontrol_launch_dependents(),
        }
    }

    fn load_parameter(&mut self, i: &Instruction, bits: u32) {
        let mut at = self.address(i, 0).wrapping_sub(PARAMETERS) as usize;
        let bytes = bits as usize / 8;
        for index in 0..self.results(i).len() {
            let mut word = [0; 8];
            let Some(from) = self.kernel.parameters.get(at..at + bytes) else {
                panic!("a parameter at byte {at}, of {}", self.kernel.parameters.len());
            };
            word[..bytes].copy_from_slice(from);
            self.set(i, index, u64::from_le_bytes(word));
            at += bytes;
        }
    }

    /// The tensor map at the address that the sources `index` and `index + 1` make.
    fn map(&self, i: &Instruction, index: usize) -> [u64; 16] {
        let at = self.address(i, index).wrapping_sub(PARAMETERS) as usize;
        let Some(bytes) = self.kernel.parameters.get(at..at.saturating_add(MAP_BYTES)) else {
            ops::refuse(Self::op(i), "a tensor map that is in no parameter");
        };
        let at = at as u32;
        let holds = |place: &&Parameter| (place.offset..place.offset + place.bytes).contains(&at);
        let align = self.kernel.places.iter().find(holds).map_or(1, |place| place.align);
        if !align.is_multiple_of(MAP_ALIGN) || !at.is_multiple_of(MAP_ALIGN) {
            ops::refuse(Self::op(i), "a tensor map whose address need not be a multiple of 64");
        }
        std::array::from_fn(|word| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * word + byte])))
    }

    fn accumulators(&self, registers: &[u16]) -> Vec<f32> {
        registers
            .iter()
            .map(|&register| f32::from_bits(self.registers[usize::from(register)] as u32))
            .collect()
    }

    fn set_accumulators(&mut self, registers: &[u16], values: &[f32]) {
        for (&register, value) in registers.iter().zip(values) {
            self.registers[usize::from(register)] = u64::from(value.to_bits());
        }
    }

    fn mark(&mut self, registers: &[u16], is_marked: bool) {
        for &register in registers {
            self.is_marked[usize::from(register)] = is_marked;
        }
    }

    fn commit(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        let Some((registers, steps)) = open.pop() else {
            self.fail("a commit_group without a wgmma");
        };
        if !open.is_empty() {
            self.fail("a group of wgmma with several accumulators, which the machine does not know");
        }
        let mut sums = self.accumulators(&registers);
        ops::wgmma_f16(&mut sums, &steps);
        self.set_accumulators(&registers, &sums);
        self.mark(&registers, true);
        if !self.in_flight.contains(&registers) {
            self.in_flight.push(registers);
        }
    }

    fn wait(&mut self, pending: u32) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let mut sums: Vec<Vec<f32>> =
            in_flight.iter().map(|registers| self.accumulators(registers)).collect();
        let delivered = ops::wgmma_wait_groups(pending, &mut sums);
        for ((registers, sums), is_delivered) in in_flight.into_iter().zip(sums).zip(delivered) {
            if is_delivered {
                self.mark(&registers, false);
                self.set_accumulators(&registers, &sums);
            } else {
                self.in_flight.push(registers);
            }
        }
    }
}
