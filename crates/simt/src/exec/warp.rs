//! What a warp computes and exchanges: mma, shfl, ldmatrix, stmatrix.

use crate::{
    banks,
    clock::{WARP, lanes},
    exchange::{Exchange, exchange},
    fault::Allowed,
    memory::{SHARED_BASE, shared_name},
    run::{Outcome, Run},
    shadow::CELL,
    site::Op,
    tensor,
    wgmma::Types,
};

impl Run {
    /// The current lane comes to mma, of f64 without types; what it gets is its lane's `result`.
    pub(crate) fn mma(
        &mut self,
        site: u32,
        types: Option<Types>,
        (a, b, c): ([u32; 4], [u32; 2], [u32; 4]),
    ) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.a[lane] = a;
        inbox.b[lane] = b;
        inbox.c[lane] = c;
        if self.arrive(site)? {
            let cta = self.cta_mut();
            let inbox = &mut *cta.warps[warp].inbox;
            match types {
                Some(types) => tensor::mma(types, &inbox.a, &inbox.b, &mut inbox.c),
                None => tensor::mma_f64(&inbox.a, &inbox.b, &mut inbox.c),
            }
            for (lane, d) in cta.lanes[lanes(warp)].iter_mut().zip(&inbox.c) {
                lane.result = *d;
            }
            self.stats.mma += 1;
        }
        Ok(())
    }

    /// The current lane comes to an exchange among the lanes of a mask, with what it brings; what it gets is
    /// its lane's `result`. No memory is touched, and nothing ordered.
    pub(crate) fn exchange(&mut self, site: u32, kind: Exchange, mask: u32, given: [u32; 4]) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        self.cta_mut().warps[warp].inbox.a[lane] = given;
        if !self.arrive_masked(site, mask)? {
            return Ok(());
        }
        let cta = self.cta_mut();
        match exchange(kind, mask, &cta.warps[warp].inbox.a) {
            Ok(gets) => {
                let taking = cta.lanes[lanes(warp)].iter_mut().zip(gets).enumerate();
                for (_, (lane, gets)) in taking.filter(|(number, _)| mask >> number & 1 == 1) {
                    lane.result = gets;
                }
                Ok(())
            }
            Err(reason) => Err(self.operand(site, reason)),
        }
    }

    /// The current lane comes to ldmatrix, `op` says which; what it gets is its lane's `result`.
    ///
    /// The rows are read by the warp: what others do with them must be ordered before, or after, *all* of its
    /// lanes.
    ///
    /// Of fewer than four matrices the first lanes give the rows, eight for each; what others give is not
    /// looked at.
    pub(crate) fn ldmatrix(&mut self, site: u32, row: u32, op: Op, matrices: usize) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        let count = 8 * matrices;
        // A bad address is its own lane's fault.
        if lane < count {
            self.locate_row(site, row)?;
        }
        self.cta_mut().warps[warp].inbox.rows[lane] = row;
        if !self.arrive(site)? {
            return Ok(());
        }
        self.touch_rows(site, warp, None, count)?;
        let cta = self.cta_mut();
        let addresses = cta.warps[warp].inbox.rows;
        let mut rows = [[0; CELL]; WARP as usize];
        for (row, address) in rows.iter_mut().zip(&addresses[..count]) {
            let offset = (address - SHARED_BASE) as usize;
            row.copy_from_slice(&cta.shared.bytes()[offset..offset + CELL]);
        }
        let registers = match op {
            Op::LdmatrixTrans => tensor::ldmatrix_x4_trans(&rows),
            _ => tensor::ldmatrix_x4(&rows),
        };
        for (lane, registers) in cta.lanes[lanes(warp)].iter_mut().zip(registers) {
            lane.result = registers;
        }
        self.stats.ldmatrix += 1;
        self.stats.ldmatrix_conflicts += banks::conflicts(&addresses[..count]);
        Ok(())
    }

    /// The current lane comes to stmatrix. The rows are written by the warp, as ldmatrix reads them: a lane
    /// that goes on is ordered after its own part alone.
    pub(crate) fn stmatrix(
        &mut self,
        site: u32,
        row: u32,
        values: [u32; 4],
        matrices: usize,
        trans: bool,
    ) -> Outcome<()> {
        let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
        let count = 8 * matrices;
        if lane < count {
            self.locate_row(site, row)?;
        }
        let inbox = &mut self.cta_mut().warps[warp].inbox;
        inbox.rows[lane] = row;
        inbox.a[lane] = values;
        if !self.arrive(site)? {
            return Ok(());
        }
        let rows = self.cta().warps[warp].inbox.rows;
        let addresses = &rows[..count];
        let values = &self.cta().warps[warp].inbox.a;
        let rows = if trans { tensor::stmatrix_x4_trans(values) } else { tensor::stmatrix_x4(values) };
        for (lane, address) in addresses.iter().enumerate() {
            let other = addresses[..lane].iter().position(|other| other == address);
            if let Some(other) = other
                && !(rows[lane] == rows[other] && self.allows(Allowed::EqualStores, site))
            {
                let name = shared_name((address - SHARED_BASE) as usize);
                return Err(self.operand(site, format!("the row of lane {lane} goes to {name}, as another")));
            }
        }
        self.touch_rows(site, warp, Some(&rows), count)?;
        let cta = self.cta_mut();
        for (address, row) in addresses.iter().zip(&rows) {
            cta.shared.write((address - SHARED_BASE) as usize, row);
        }
        self.stats.stmatrix += 1;
        self.stats.stmatrix_conflicts += banks::conflicts(addresses);
        Ok(())
    }

    /// Checks the address of a row.
    fn locate_row(&mut self, site: u32, row: u32) -> Outcome<()> {
        let offset = self.locate_shared(site, row, CELL)?;
        self.keeps_off_mbarriers(site, self.current.slot, offset, CELL)
    }
}
