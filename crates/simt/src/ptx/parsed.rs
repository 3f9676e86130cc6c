//! What a PTX text declares: entries, parameters, statements, operands.

use super::text::Text;

/// What a text declares.
pub(crate) struct Parsed<'a> {
    pub(crate) version: &'a str,
    pub(crate) target: &'a str,
    pub(crate) entries: Vec<ParsedEntry<'a>>,
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
    /// The start of dynamic shared memory.
    Shared,
    /// `_`.
    Sink,
    List(Vec<Operand<'a>>),
    /// `[base+offset]`, or `[base+offset, {coordinates}]`.
    Address(Box<Operand<'a>>, i64, Vec<Operand<'a>>),
    /// The index of a statement, once its label was seen.
    Target(u32),
    /// A name that is none of these.
    Name(&'a str),
}

/// Special registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Tid,
    Ntid,
    Ctaid,
    Nctaid,
    ClusterCtarank,
    ClusterNctarank,
    Clusterid,
    Nclusterid,
    Laneid,
    /// Those of dimensions that one-dimensional launches do not have: 0, or 1 of something.
    Zero,
    One,
}

impl Special {
    /// By its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "%tid.x" => Self::Tid,
            "%ntid.x" => Self::Ntid,
            "%ctaid.x" => Self::Ctaid,
            "%nctaid.x" => Self::Nctaid,
            "%cluster_ctarank" | "%cluster_ctaid.x" => Self::ClusterCtarank,
            "%cluster_nctarank" | "%cluster_nctaid.x" => Self::ClusterNctarank,
            "%clusterid.x" => Self::Clusterid,
            "%nclusterid.x" => Self::Nclusterid,
            "%laneid" => Self::Laneid,
            "%tid.y" | "%tid.z" | "%ctaid.y" | "%ctaid.z" | "%cluster_ctaid.y" | "%cluster_ctaid.z"
            | "%clusterid.y" | "%clusterid.z" => Self::Zero,
            "%ntid.y" | "%ntid.z" | "%nctaid.y" | "%nctaid.z" | "%cluster_nctaid.y" | "%cluster_nctaid.z"
            | "%nclusterid.y" | "%nclusterid.z" => Self::One,
            _ => return None,
        })
    }
}
