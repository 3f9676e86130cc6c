//! Tensor maps, in parameters and in memory, and copies by them. PTX ISA, "Tensor-map", "tensormap.replace".

use std::rc::Rc;

use super::{
    super::{
        code::{Field, Instruction, Operation as Op, Space, Update},
        parameter::Parameter,
        types::{Kind, Type},
    },
    memory::{found, updated},
    state::{Lane, PARAMETERS},
};
use crate::{
    ops,
    scheduler::with,
    site::Op as MachineOp,
    state::transfer::Reduction,
    tensor_map::{Element, Tensor},
};

/// Bytes of a tensor map, and what its address must be a multiple of.
const MAP_BYTES: usize = 128;
const MAP_ALIGN: u32 = 64;
/// Bytes that are read or written at once.
const CHUNK: u64 = 16;

impl Lane<'_> {
    /// The machine's name of an instruction on a tensor map.
    fn op(instruction: &Instruction) -> MachineOp {
        match instruction.op {
            Op::TensorLoad(_) => MachineOp::CpAsyncBulkTensor2dLoad,
            Op::TensorLoadMulticast(_) => MachineOp::CpAsyncBulkTensor2dLoadMulticast,
            Op::TensorStore(_) | Op::TensorReduce(..) => MachineOp::CpAsyncBulkTensor2dStore,
            Op::TensorPrefetch(_) => MachineOp::CpAsyncBulkPrefetchTensor,
            _ => MachineOp::PrefetchTensormap,
        }
    }

    /// The tensor map at the address that the sources `index` and `index + 1` make: of a parameter, or in
    /// global memory, where a lane of the CTA must have acquired it.
    fn map(&self, i: &Instruction, index: usize) -> [u64; 16] {
        let address = self.address(i, index);
        if address < PARAMETERS {
            if !address.is_multiple_of(u64::from(MAP_ALIGN)) {
                ops::refuse(Self::op(i), "a tensor map whose address is no multiple of 64");
            }
            if !with(|run| run.cta().maps.contains(&address)) {
                let reason =
                    "a tensor map in global memory that no fence.proxy.tensormap::generic.acquire was for";
                ops::refuse(Self::op(i), reason);
            }
            return read(Space::Global, address);
        }
        let at = (address - PARAMETERS) as usize;
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

    /// Copies by tensor maps, and what makes these in memory.
    pub(super) fn tensor(&self, i: &Instruction) {
        let at = |first: usize, dims: u32| -> Vec<u32> {
            (first..first + dims as usize).map(|index| self.get32(i, index)).collect()
        };
        match i.op {
            Op::TensorLoad(dims) => {
                let bar = self.shared(i, 4 + dims as usize);
                ops::tensor_load(self.shared(i, 0), &self.map(i, 2), &at(4, dims), bar);
            }
            Op::TensorLoadMulticast(dims) => {
                let behind = 4 + dims as usize;
                let (bar, ctas) = (self.shared(i, behind), self.get(i, behind + 2) as u16);
                ops::tensor_load_multicast(self.shared(i, 0), &self.map(i, 2), &at(4, dims), bar, ctas);
            }
            Op::TensorStore(dims) => {
                ops::tensor_store(&self.map(i, 0), &at(2, dims), self.shared(i, 2 + dims as usize), None);
            }
            Op::TensorReduce(dims, update) => {
                let map = self.map(i, 0);
                // What is no map is refused by the store.
                let element = Tensor::decode(&map).map(|map| type_of(map.element));
                let reduction = element.ok().map(|ty| reduction(update, ty));
                ops::tensor_store(&map, &at(2, dims), self.shared(i, 2 + dims as usize), reduction);
            }
            Op::BulkLoad => {
                let (to, bytes) = (self.shared(i, 0), self.get32(i, 4));
                ops::bulk_load(to, self.address(i, 2), bytes, self.shared(i, 5));
            }
            Op::BulkStore => ops::bulk_store(self.address(i, 0), self.shared(i, 2), self.get32(i, 4), None),
            Op::BulkReduce(update, ty) => {
                let reduction = Some(reduction(update, ty));
                ops::bulk_store(self.address(i, 0), self.shared(i, 2), self.get32(i, 4), reduction);
            }
            Op::TensormapReplace(space, field) => self.replace(i, space, field),
            Op::TensormapCopy => {
                // One lane copies when all of the warp have come.
                ops::bar_warp_sync();
                if with(|run| run.current.lane).is_multiple_of(32) {
                    let (to, from) = (self.address(i, 0), self.address(i, 2));
                    with(|run| run.cta_mut().maps.retain(|&map| map != to));
                    write(Space::Global, to, &read(Space::Shared, from));
                }
                ops::fence();
                ops::bar_warp_sync();
            }
            Op::TensormapFence => {
                let address = self.address(i, 0);
                ops::fence();
                with(|run| {
                    let maps = &mut run.cta_mut().maps;
                    if !maps.contains(&address) {
                        maps.push(address);
                    }
                });
            }
            Op::TensorPrefetch(_) => ops::prefetch_tensor(&self.map(i, 0)),
            _ => ops::prefetch_tensormap(&self.map(i, 0)),
        }
    }

    /// `tensormap.replace`.
    fn replace(&self, i: &Instruction, space: Space, field: Field) {
        let (space, address) = found(space, self.address(i, 0));
        let mut words = read(space, address);
        let dimension = if field.is_of_dimension() { self.get32(i, 2) as usize } else { 0 };
        let value = self.get(i, self.sources(i).len() - 1);
        if let Err(reason) = field.replace(&mut words, dimension, value) {
            ops::refuse(MachineOp::PrefetchTensormap, &reason);
        }
        write(space, address, &words);
    }
}

/// The words of a map in memory.
fn read(space: Space, address: u64) -> [u64; 16] {
    let mut words = [0; 16];
    for (pair, at) in words.chunks_exact_mut(2).zip((address..).step_by(CHUNK as usize)) {
        let bytes: [u8; 16] = match space {
            Space::Shared => ops::ld_shared(at as u32),
            _ => ops::ld_global(at),
        };
        let value = u128::from_le_bytes(bytes);
        pair.copy_from_slice(&[value as u64, (value >> 64) as u64]);
    }
    words
}

fn write(space: Space, address: u64, words: &[u64; 16]) {
    for (pair, at) in words.chunks_exact(2).zip((address..).step_by(CHUNK as usize)) {
        let bytes = (u128::from(pair[1]) << 64 | u128::from(pair[0])).to_le_bytes();
        match space {
            Space::Shared => ops::st_shared(at as u32, bytes),
            _ => ops::st_global(at, bytes),
        }
    }
}

fn type_of(element: Element) -> Type {
    let kind = match element {
        Element::F16 | Element::F32 | Element::F64 => Kind::Float,
        Element::Bf16 => Kind::Brain,
        Element::S32 | Element::S64 => Kind::Signed,
        Element::U8 | Element::U16 | Element::U32 | Element::U64 => Kind::Bits,
    };
    Type::new(8 * element.bytes(), kind)
}

fn reduction(update: Update, ty: Type) -> Reduction {
    let combine = Rc::new(move |old, new| updated(update, ty, [old, new, 0]));
    Reduction { bytes: ty.bits as usize / 8, combine }
}
