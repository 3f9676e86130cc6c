//! What an entry declares of a parameter.

/// A parameter of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Of its first byte from that of the first parameter.
    pub offset: u32,
    /// Its length.
    pub bytes: u32,
    /// What the address of its first byte is a multiple of.
    pub align: u32,
}
