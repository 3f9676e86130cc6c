//! Instructions as a lane executes them.

use std::sync::Arc;

use super::{
    parsed::Special,
    types::{Rounding, Type},
};
pub(crate) use crate::{
    exchange::{Shuffle, Update, Vote},
    state::mbarrier::Scope,
    tensor_map::Field,
    wgmma::{Product, Types},
};

/// The instructions of an entry, with what they read and write beside them.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) instructions: Vec<Instruction>,
    /// Registers that instructions write; [`NONE`] where the result is discarded.
    pub(crate) results: Vec<u16>,
    /// What instructions read.
    pub(crate) sources: Vec<Source>,
    /// Registers of a lane, and bytes of its local memory.
    pub(crate) registers: usize,
    pub(crate) local: u32,
    /// What the module's variables in global and constant memory hold.
    pub(crate) constants: Arc<[u8]>,
}

/// No register: a result that nobody wants, or no guard.
pub(crate) const NONE: u16 = u16::MAX;

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    pub(crate) op: Operation,
    /// The predicate that must be true, or false if `negated`; or [`NONE`].
    pub(crate) guard: u16,
    pub(crate) negated: bool,
    /// Its results and sources: the first, and how many.
    pub(crate) results: (u32, u16),
    pub(crate) sources: (u32, u16),
    /// In the PTX, from 1.
    pub(crate) line: u32,
}

/// A value that an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Register(u16),
    /// A constant, of the width that the instruction reads.
    Constant(u64),
    Special(Special),
}

/// Where an address is looked up. PTX ISA, "State Spaces".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Global,
    /// Of the lane alone.
    Local,
    /// Of the own CTA; addresses of the cluster where the instruction says so.
    Shared,
    /// Of any CTA of the cluster.
    Cluster,
    /// Wherever the address says.
    Generic,
}

/// What an instruction does. Operands are in the order of the text; an address is its base and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Arithmetic on registers.
    Arithmetic(Arithmetic, Type, Rounding),
    /// To the first type, from the second.
    Convert(Type, Type, Rounding),
    /// Two f32 to this type, the second source in the lower half.
    ConvertPair(Type, Rounding),
    /// Two values to the first type, from the second, one of them of floats of 8 bits.
    ConvertEights(Type, Type, Rounding),
    /// Words of so many bits to one value, the first lowest.
    Pack(u32),
    /// One value to words of so many bits.
    Unpack(u32),
    /// `bfi` of so many bits: the second source with the field that is the first one's.
    Insert(u32),
    /// A comparison, combined with a third source. Both results: it, and its contrary; or those of two
    /// halves.
    SetpBoth(Compare, Type, Combine),
    /// `set`: a comparison of the second type, as 1 or all ones of the first.
    Set(Compare, Type, Type),
    /// Sums that read and write the carry flag, which is a register behind the others.
    Carry {
        op: Arithmetic,
        ty: Type,
        reads: bool,
        writes: bool,
    },
    /// Adds so much: to a generic address, or from there.
    Offset(u64),
    /// `isspacep`: whether a generic address is of the space.
    IsSpace(Space),
    /// Words of so many bits from a parameter.
    LoadParameter(u32),
    Branch(u32),
    /// If the first source, an index, is the second one; the third is how many there are.
    BranchCase(u32),
    Return,
    Trap,
    /// Words of so many bits.
    Load(Space, u32),
    /// `ld.global.nc`
    LoadNonCoherent(u32),
    Store(Space, u32),
    /// One word of so many bits, strongly; the order of a load is an acquire's or none, of a store a
    /// release's or none.
    LoadStrong(Space, u32, Order),
    StoreStrong(Space, u32, Order),
    /// A read-modify-write; with a result it gives what was there. Without one its words may be several.
    Atomic(Space, Update, Type, Order),
    Fence,
    BarSync,
    BarSyncNamed,
    BarArrive,
    BarWarpSync,
    CpAsync(u32),
    CpAsyncCommitGroup,
    CpAsyncWaitGroup,
    CpAsyncWaitAll,
    CpAsyncMbarrierArrive {
        expected: bool,
    },
    Ldmatrix {
        trans: bool,
    },
    Stmatrix {
        trans: bool,
    },
    /// Of f64 without types.
    Mma(Option<Types>),
    Shfl(Shuffle),
    Vote(Vote),
    Match {
        all: bool,
    },
    Redux(Update, Type),
    Elect,
    ActiveMask,
    /// Without a release where it is relaxed; whether all lanes execute the same instruction.
    ClusterArrive {
        relaxed: bool,
        aligned: bool,
    },
    ClusterWait {
        aligned: bool,
    },
    Mapa,
    MbarrierInit,
    MbarrierInval,
    MbarrierExpectTx,
    FenceMbarrierInit,
    MbarrierArrive(Arrival),
    MbarrierArriveCluster(Arrival),
    MbarrierTryWait(Scope),
    /// By the state that an arrival gave; whether the lane may be set aside.
    MbarrierWaitState {
        sets_aside: bool,
        scope: Scope,
    },
    MbarrierTestWait(Scope),
    MbarrierPendingCount,
    FenceProxyShared,
    FenceProxyGlobal,
    FenceProxy,
    /// Of so many dimensions.
    TensorLoad(u32),
    TensorLoadMulticast(u32),
    TensorStore(u32),
    TensorReduce(u32, Update),
    TensormapReplace(Space, Field),
    /// From shared to global memory, by a warp.
    TensormapCopy,
    TensormapFence,
    BulkLoad,
    BulkStore,
    BulkReduce(Update, Type),
    TensorPrefetch(u32),
    BulkToCluster,
    BulkCommitGroup,
    BulkWaitGroup,
    BulkWaitGroupRead,
    PrefetchTensormap,
    /// A hint: nothing.
    Hint,
    WgmmaFence,
    Wgmma(Product),
    WgmmaCommitGroup,
    WgmmaWaitGroup,
    SetmaxnregDec,
    SetmaxnregInc,
    DependentsWait,
    DependentsLaunch,
}

/// What a strong access orders. PTX ISA, "Memory Consistency Model".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Relaxed,
    Acquire,
    Release,
    AcquireRelease,
}

impl Order {
    pub(crate) const fn acquires(self) -> bool {
        matches!(self, Self::Acquire | Self::AcquireRelease)
    }

    pub(crate) const fn releases(self) -> bool {
        matches!(self, Self::Release | Self::AcquireRelease)
    }
}

/// How `setp` combines its comparison with a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    Nothing,
    And,
    Or,
    Xor,
}

/// An arrival at an mbarrier: its operands behind the address. PTX ISA, "mbarrier.arrive".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// A count, else 1.
    pub(crate) has_count: bool,
    /// Bytes that are expected; the count is 1.
    pub(crate) expects: bool,
    /// Later phases expect so many fewer.
    pub(crate) drops: bool,
    /// It must not end the phase.
    pub(crate) is_incomplete: bool,
    pub(crate) scope: Scope,
}

/// Arithmetic, all on values of one type but where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Mov,
    Add,
    Sub,
    Mul,
    MulHi,
    /// To twice the bits.
    MulWide,
    Mad,
    /// a · b to twice the bits, plus c of those.
    MadWide,
    Div,
    Rem,
    And,
    Or,
    Xor,
    Not,
    Neg,
    Abs,
    /// By an amount of 32 bits.
    Shl,
    Shr,
    Bfe,
    Min,
    Max,
    Popc,
    Clz,
    Brev,
    /// The place of the highest bit that is not the sign; or by how much that is shifted to the top.
    Bfind {
        is_shift: bool,
    },
    /// c and the products of the four bytes, which may be signed.
    Dp4a([bool; 2]),
    /// Bytes of two words by a selector.
    Prmt,
    /// Two words shifted together; by an amount that wraps, or that counts as 32.
    Shf {
        left: bool,
        wraps: bool,
    },
    /// The table is the byte.
    Lop3(u8),
    /// 24 bits of each.
    Mul24,
    Mad24,
    /// a · b + c, the upper half.
    MadHi,
    Sad,
    Fma,
    Sqrt,
    CopySign,
    /// The first if the predicate, the third source, is true.
    Selp,
    /// To a predicate.
    Setp(Compare),
    /// The first if the third source is not negative.
    Slct,
    Ex2,
    Lg2,
    Rcp,
    RcpApprox,
    Rsqrt,
    SqrtApprox,
    /// Within 2 ulp; where `full` for every divisor.
    DivApprox {
        full: bool,
    },
    Tanh,
    Sin,
    Cos,
}

/// Comparisons: PTX ISA, "Comparisons". Those of floats are false if one is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Of floats also true if one is NaN: the others, in this order.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Whether none is NaN, or one.
    Num,
    Nan,
}
