//! What a warp computes and exchanges: mma, shfl, ldmatrix, stmatrix.

use crate::{
    banks,
    clock::{WARP, lanes},
    memory::{SHARED_BASE, shared_name},
    run::{Outcome, Run},
    shadow::{CELL, Kind as How},
    site::Op,
    tensor,
};

impl Run {
    /// The current lane comes to mma; what it gets is its lane's `result`.
    pub(crate) fn mma(&mut self, site: u32, a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.a[lane] = a;
        inbox.b[lane] = b;
        inbox.c[lane] = c;
        if self.arrive(Op::Mma, site)? {
            let cta = self.cta_mut();
            let inbox = &mut *cta.warps[warp].inbox;
            tensor::mma_m16n8k16(&inbox.a, &inbox.b, &mut inbox.c);
            for (lane, d) in cta.lanes[lanes(warp)].iter_mut().zip(&inbox.c) {
                lane.result = d.map(f32::to_bits);
            }
            self.stats.mma += 1;
        }
        Ok(())
    }

    /// The current lane comes to shfl.sync.bfly; what it gets is its lane's `result`. No memory is touched, and nothing
    /// ordered.
    pub(crate) fn shfl_bfly(&mut self, site: u32, value: u32, mask: u32) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.b[lane] = [value, mask];
        if self.arrive(Op::ShflBfly, site)? {
            let cta = self.cta_mut();
            let inbox = &cta.warps[warp].inbox.b;
            for (number, lane) in cta.lanes[lanes(warp)].iter_mut().enumerate() {
                let from = number ^ (inbox[number][1] % WARP) as usize;
                lane.result = [inbox[from][0]; 4];
            }
        }
        Ok(())
    }

    /// The current lane comes to ldmatrix, `op` says which; what it gets is its lane's `result`.
    ///
    /// The rows are read by the warp: what others do with them must be ordered before, or after, *all* of its lanes.
    pub(crate) fn ldmatrix(&mut self, site: u32, row: u32, op: Op) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        // A bad address is its own lane's fault.
        self.locate_row(site, row)?;
        self.cta_mut().warps[warp].inbox.rows[lane] = row;
        if !self.arrive(op, site)? {
            return Ok(());
        }
        self.touch_rows(site, warp, How::Read)?;
        let cta = self.cta_mut();
        let addresses = cta.warps[warp].inbox.rows;
        let rows = addresses.map(|address| {
            let offset = (address - SHARED_BASE) as usize;
            let mut row = [0; CELL];
            row.copy_from_slice(&cta.shared.bytes()[offset..offset + CELL]);
            row
        });
        let registers = match op {
            Op::LdmatrixTrans => tensor::ldmatrix_x4_trans(&rows),
            _ => tensor::ldmatrix_x4(&rows),
        };
        for (lane, registers) in cta.lanes[lanes(warp)].iter_mut().zip(registers) {
            lane.result = registers;
        }
        self.stats.ldmatrix += 1;
        self.stats.ldmatrix_conflicts += banks::conflicts(&addresses);
        Ok(())
    }

    /// The current lane comes to stmatrix. The rows are written by the warp, as ldmatrix reads them: a lane that goes
    /// on is ordered after its own part alone.
    pub(crate) fn stmatrix(&mut self, site: u32, row: u32, values: [u32; 4]) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        self.locate_row(site, row)?;
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.rows[lane] = row;
        inbox.a[lane] = values;
        if !self.arrive(Op::Stmatrix, site)? {
            return Ok(());
        }
        let addresses = self.cta().warps[warp].inbox.rows;
        for (lane, address) in addresses.iter().enumerate() {
            if addresses[..lane].contains(address) {
                let name = shared_name((address - SHARED_BASE) as usize);
                return Err(self.operand(
                    Op::Stmatrix,
                    site,
                    format!("the row of lane {lane} goes to {name}, as another"),
                ));
            }
        }
        self.touch_rows(site, warp, How::Write)?;
        let cta = self.cta_mut();
        let rows = tensor::stmatrix_x4(&cta.warps[warp].inbox.a);
        for (address, row) in addresses.iter().zip(&rows) {
            cta.shared.write((address - SHARED_BASE) as usize, row);
        }
        self.stats.stmatrix += 1;
        self.stats.stmatrix_conflicts += banks::conflicts(&addresses);
        Ok(())
    }

    /// Checks the address of a row.
    fn locate_row(&mut self, site: u32, row: u32) -> Outcome<()> {
        let offset = self.locate_shared(site, row, CELL)?;
        self.keeps_off_mbarriers(site, self.current.slot, offset, CELL)
    }
}
