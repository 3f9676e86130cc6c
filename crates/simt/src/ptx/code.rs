//! Instructions as a lane executes them.

use super::parsed::Special;

/// The instructions of an entry, with what they read and write beside them.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) instructions: Vec<Instruction>,
    /// Registers that instructions write; [`NONE`] where the result is discarded.
    pub(crate) results: Vec<u16>,
    /// What instructions read.
    pub(crate) sources: Vec<Source>,
    /// Registers of a lane.
    pub(crate) registers: usize,
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

/// A type: how many bits, and as what they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    pub(crate) bits: u32,
    pub(crate) kind: Kind,
}

/// As what bits are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unsigned, or without a meaning.
    Bits,
    Signed,
    Float,
}

impl Type {
    /// By its suffix, without the dot.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if name == "pred" {
            return Some(Self { bits: 1, kind: Kind::Bits });
        }
        let (kind, bits) = name.split_at_checked(1)?;
        let kind = match kind {
            "b" | "u" => Kind::Bits,
            "s" => Kind::Signed,
            "f" => Kind::Float,
            _ => return None,
        };
        let bits = match bits {
            "8" => 8,
            "16" => 16,
            "32" => 32,
            "64" => 64,
            _ => return None,
        };
        (kind != Kind::Float || matches!(bits, 16 | 32)).then_some(Self { bits, kind })
    }

    /// The bits of a value that the type has.
    pub(crate) fn cut(self, value: u64) -> u64 {
        if self.bits == 64 { value } else { value & ((1 << self.bits) - 1) }
    }

    /// The value of these bits, with the sign of the type.
    pub(crate) fn signed(self, value: u64) -> i64 {
        let unused = 64 - self.bits;
        (value << unused).cast_signed() >> unused
    }
}

/// What an instruction does. Operands are in the order of the text; an address is its base and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Arithmetic on registers.
    Arithmetic(Arithmetic, Type),
    /// To the first type, from the second.
    Convert(Type, Type),
    /// The second source in the lower half.
    PackF16x2,
    /// Words of so many bits to one value, the first lowest.
    Pack(u32),
    /// One value to words of so many bits.
    Unpack(u32),
    /// Words of so many bits from a parameter.
    LoadParameter(u32),
    Branch(u32),
    Return,
    Trap,
    /// Words of so many bits.
    LoadGlobal(u32),
    StoreGlobal(u32),
    LoadShared(u32),
    StoreShared(u32),
    LoadAcquire,
    StoreRelaxed,
    AtomicInc,
    ReduceAddRelease,
    BarSync,
    BarSyncNamed,
    BarWarpSync,
    CpAsync,
    CpAsyncCommitGroup,
    CpAsyncWaitGroup,
    Ldmatrix,
    LdmatrixTrans,
    Stmatrix,
    Mma,
    ShflBfly,
    ClusterArrive,
    ClusterWait,
    Mapa,
    MbarrierInit,
    FenceMbarrierInit,
    MbarrierArrive,
    MbarrierArriveCluster,
    MbarrierArriveExpectTx,
    MbarrierTryWait,
    FenceProxyShared,
    FenceProxyGlobal,
    TensorLoad,
    TensorLoadMulticast,
    TensorStore,
    BulkToCluster,
    BulkCommitGroup,
    BulkWaitGroup,
    BulkWaitGroupRead,
    PrefetchTensormap,
    WgmmaFence,
    Wgmma,
    WgmmaCommitGroup,
    WgmmaWaitGroup,
    SetmaxnregDec,
    SetmaxnregInc,
    DependentsWait,
    DependentsLaunch,
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
    Fma,
    /// The first if the predicate, the third source, is true.
    Selp,
    /// To a predicate.
    Setp(Compare),
    Ex2,
    Rcp,
    Rsqrt,
}

/// Comparisons: PTX ISA 9.3.1. Those of floats are false if one is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}
