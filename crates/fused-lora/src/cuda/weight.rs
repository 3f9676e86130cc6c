use half::f16;
use ndarray::ArrayView2;

use super::{
    count::count,
    device::Device,
    error::Error,
    memory::Memory,
    pad::{elements, padded, pitch},
};
use crate::{error::Operand, shape::require_nonzero};

/// W on the device: `[N, K]`, rows padded with zeros to whole 16 bytes.
#[derive(Debug)]
pub(super) struct Weight {
    pub(super) memory: Memory,
    /// N
    pub(super) rows: u32,
    /// K
    pub(super) columns: u32,
    /// Elements from row to row.
    pub(super) pitch: u32,
}

impl Weight {
    pub(super) fn new(device: &Device, w: ArrayView2<'_, f16>) -> Result<Self, Error> {
        require_nonzero(Operand::W, w.shape())?;
        let (rows, columns) = w.dim();
        let pitch = pitch(columns);
        let [rows_count, columns_count] = [count("N", rows)?, count("K", columns)?];
        let memory = Memory::from_slice(device, elements(&padded(w, rows, pitch)))?;
        Ok(Self { memory, rows: rows_count, columns: columns_count, pitch: count("the pitch of W", pitch)? })
    }
}
