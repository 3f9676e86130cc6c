//! Fences between proxies. That of shared memory stands in whatever gives bytes to the copy engine or to
//! `wgmma`.

use super::staging::{give, wait};
use crate::{
    device::{
        bar_sync, fence_mbarrier_init, fence_proxy_async_global as fence_global, load_box,
        mbarrier_arrive_expect_tx, mbarrier_init,
    },
    instructions::item::Item,
    maps::TensorMapRef,
};

/// Bytes of a box.
const BOX: u32 = 2048;
/// Words of it.
const WORDS: u32 = BOX / 4;
/// Where it lies in shared memory.
const FIRST: u32 = 1024;

/// Words go through global memory, stored by lanes and loaded by the copy engine: the map's matrix is the
/// output. Input: the words of a box, 16 rows of 64 columns, then the number of its first row. Output: the
/// same words; then the shared memory where the box lies.
#[inline(always)]
pub(in crate::instructions) unsafe fn fence_proxy_async_global(item: Item, map: TensorMapRef) {
    let to = item.shared.offset(FIRST);
    // SAFETY: all lanes fence the words that they stored before the barrier; the box is of these words, and
    // the barrier expects its bytes.
    unsafe {
        if item.is_first() {
            mbarrier_init(item.shared, 1);
            fence_mbarrier_init();
        }
        let chunk = 4 * item.lane;
        item.output_at(chunk).cast::<[u32; 4]>().store(item.input_at(chunk).cast::<[u32; 4]>().load());
        fence_global();
        bar_sync();
        if item.is_first() {
            mbarrier_arrive_expect_tx(item.shared, BOX);
            load_box(to, map, 0, item.get(WORDS), item.shared);
        }
        wait(item.shared, 0);
        give(item, WORDS, to, BOX);
    }
}
