//! What a PTX text declares: entries, parameters, statements, operands.

use std::sync::Arc;

use super::text::Text;

/// What a text declares.
pub(crate) struct Parsed<'a> {
    pub(crate) version: &'a str,
    pub(crate) target: &'a str,
    pub(crate) entries: Vec<ParsedEntry<'a>>,
    /// What its variables in global and constant memory hold.
    pub(crate) constants: Arc<[u8]>,
}

/// A kernel.
pub(crate) struct ParsedEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) parameters: Vec<Parameter<'a>>,
    /// `.maxntid` or `.reqntid`, all dimensions multiplied.
    pub(crate) threads: Option<u32>,
    /// `.minnctapersm`.
    pub(crate) ctas: Option<u32>,
    /// `.maxnreg`.
    pub(crate) registers: Option<u32>,
    pub(crate) statements: Vec<Statement<'a>>,
    /// Bytes of shared memory that it declares, and that lie before the dynamic ones.
    pub(crate) static_shared: u32,
    /// Bytes of local memory.
    pub(crate) local: u32,
    /// Registers of all scopes.
    pub(crate) register_count: u32,
}

/// A parameter.
#[derive(Clone, Copy)]
pub(crate) struct Parameter<'a> {
    pub(crate) name: &'a str,
    /// Of its first byte from that of the first parameter.
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    pub(crate) align: u32,
}

/// An instruction.
pub(crate) struct Statement<'a> {
    /// The predicate that must be true, or false if negated.
    pub(crate) guard: Option<(u16, bool)>,
    pub(crate) opcode: &'a str,
    pub(crate) operands: Vec<Operand<'a>>,
    pub(crate) line: u32,
    /// At its opcode, for a refusal.
    pub(crate) at: Text<'a>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand<'a> {
    Register(u16),
    /// `!p`.
    Negated(u16),
    /// Not cut to any width.
    Immediate(u64),
    Special(Special),
    /// The first byte of a parameter, from that of the first one.
    Parameter(u32),
    /// An address in shared memory, from the start of it.
    Shared(u32),
    /// Likewise in the lane's local memory, and among the constants of the module.
    Local(u32),
    Constant(u32),
    /// `_`.
    Sink,
    List(Vec<Operand<'a>>),
    /// `d|p`: two results.
    Pair(Box<[Operand<'a>; 2]>),
    /// `[base+offset]`, or `[base+offset, {coordinates}]`.
    Address(Box<Operand<'a>>, i64, Vec<Operand<'a>>),
    /// The index of a statement, once its label was seen.
    Target(u32),
    /// A name that is none of these.
    Name(&'a str),
}

/// Special registers; those with a number for a dimension, x as 0. PTX ISA, "Special Registers".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    Clusterid(u8),
    Nclusterid(u8),
    ClusterCtarank,
    ClusterNctarank,
    Laneid,
    Warpid,
    Nwarpid,
    /// Lanes of the warp, as a mask: those that are this one, below, not above, above, not below.
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    DynamicSharedSize,
    /// Bytes of shared memory of the CTA.
    TotalSharedSize,
    /// The place of the CTA among those that run, and how many there are.
    Smid,
    Nsmid,
    Gridid,
    /// Both count instructions: the machine has no time.
    Clock,
    GlobalTimer,
}

impl Special {
    /// By its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let Some((register, dimension)) = name.rsplit_once('.') else { return Self::without_dimension(name) };
        let of_dimension: fn(u8) -> Self = match register {
            "%tid" => Self::Tid,
            "%ntid" => Self::Ntid,
            "%ctaid" => Self::Ctaid,
            "%nctaid" => Self::Nctaid,
            "%cluster_ctaid" => Self::ClusterCtaid,
            "%cluster_nctaid" => Self::ClusterNctaid,
            "%clusterid" => Self::Clusterid,
            "%nclusterid" => Self::Nclusterid,
            _ => return None,
        };
        let dimension = match dimension {
            "x" => 0,
            "y" => 1,
            "z" => 2,
            _ => return None,
        };
        Some(of_dimension(dimension))
    }

    fn without_dimension(name: &str) -> Option<Self> {
        Some(match name {
            "%cluster_ctarank" => Self::ClusterCtarank,
            "%cluster_nctarank" => Self::ClusterNctarank,
            "%laneid" => Self::Laneid,
            "%warpid" => Self::Warpid,
            "%nwarpid" => Self::Nwarpid,
            "%lanemask_eq" => Self::LanemaskEq,
            "%lanemask_lt" => Self::LanemaskLt,
            "%lanemask_le" => Self::LanemaskLe,
            "%lanemask_gt" => Self::LanemaskGt,
            "%lanemask_ge" => Self::LanemaskGe,
            "%dynamic_smem_size" => Self::DynamicSharedSize,
            "%total_smem_size" => Self::TotalSharedSize,
            "%smid" => Self::Smid,
            "%nsmid" => Self::Nsmid,
            "%gridid" => Self::Gridid,
            "%clock" | "%clock64" => Self::Clock,
            "%globaltimer" | "%globaltimer_lo" => Self::GlobalTimer,
            _ => return None,
        })
    }
}
