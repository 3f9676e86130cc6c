//! setmaxnreg: the registers that the warpgroups of a CTA share out.

use crate::{
    clock::WARPGROUP,
    run::{Outcome, Run},
    site::Op,
};

/// Registers of an SM.
const SM: u32 = 64 * 1024;

impl Run {
    /// The current lane comes to setmaxnreg.
    pub(crate) fn setmaxnreg(&mut self, site: u32, registers: u32) -> Outcome<()> {
        if !(24..=256).contains(&registers) || !registers.is_multiple_of(8) {
            let reason = format!("{registers} registers, not a multiple of 8 from 24 to 256");
            return Err(self.operand(site, reason));
        }
        let Some(warpgroup) = self.gather_warpgroup(site, &[u64::from(registers)])? else {
            return Ok(());
        };
        let is_dec = self.op(site) == Op::SetmaxnregDec;
        let held = &mut self.cta_mut().registers;
        if held.total > SM {
            let reason = format!("the CTA starts with {} registers, of {SM}", held.total);
            return Err(self.operand(site, reason));
        }
        let count = held.counts[warpgroup];
        if is_dec {
            if registers > count {
                let reason = format!("{registers} registers, while a lane has {count}");
                return Err(self.operand(site, reason));
            }
            held.free += (count - registers) * WARPGROUP;
            held.counts[warpgroup] = registers;
            let slot = self.current.slot;
            self.resume_warpgroup(slot, warpgroup);
        } else {
            if registers < count {
                let reason = format!("{registers} registers, while a lane has {count}");
                return Err(self.operand(site, reason));
            }
            held.waiting.push_back((warpgroup, registers));
        }
        self.hand_out_registers();
        Ok(())
    }

    /// Warpgroups that wait for registers get them, in order.
    fn hand_out_registers(&mut self) {
        let slot = self.current.slot;
        loop {
            let held = &mut self.cta_mut().registers;
            let Some(&(warpgroup, registers)) = held.waiting.front() else { return };
            let more = (registers - held.counts[warpgroup]) * WARPGROUP;
            if more > held.free {
                return;
            }
            held.free -= more;
            held.counts[warpgroup] = registers;
            held.waiting.pop_front();
            self.resume_warpgroup(slot, warpgroup);
        }
    }
}
