//! Special registers, and what is not an instruction at all.

use crate::{device, instructions::item::Item};

macro_rules! number {
    ($(#[$attr:meta])* $name:ident, $value:expr) => {
        $(#[$attr])*
        #[inline(always)]
        pub(in crate::instructions) unsafe fn $name(item: Item) {
            // SAFETY: one word of each lane.
            unsafe { item.set(item.lane, $value) }
        }
    };
}

number! {
    /// Gives each lane's `%tid.x`.
    thread_idx_x, device::thread_idx_x()
}
number! {
    /// Gives `%ctaid.x`, as each lane sees it.
    block_idx_x, device::block_idx_x()
}
number! {
    /// Gives `%ntid.x`, as each lane sees it.
    block_dim_x, device::block_dim_x()
}
number! {
    /// Gives `%nctaid.x`, as each lane sees it.
    grid_dim_x, device::grid_dim_x()
}
number! {
    /// Gives the address of dynamic shared memory modulo 1024. The manual leaves open where that begins.
    dynamic_shared, device::dynamic_shared().address() & 1023
}

/// Input: a word of each lane. Output: the same.
#[inline(always)]
pub(in crate::instructions) unsafe fn opaque(item: Item) {
    // SAFETY: one word in and one out of each lane.
    unsafe { item.set(item.lane, device::opaque(item.get(item.lane))) }
}
