//! The part of a launch that one CTA has.

use super::params::Params;
use crate::{
    Global,
    device::{SharedAddr, block_idx_x, dynamic_shared, opaque, thread_idx_x},
};

/// Lanes of a warp.
pub(super) const WARP: u32 = 32;

/// An item, as one of its lanes sees it.
#[derive(Clone, Copy)]
pub(super) struct Item {
    /// Items of the launch.
    pub count: u32,
    /// Its inputs.
    pub input: Global<u32>,
    /// Its outputs.
    pub output: Global<u32>,
    /// Those of all items.
    pub outputs: Global<u32>,
    /// Words that all items share. No instruction of compute capability 9.0 needs any.
    #[cfg(not(all(target_arch = "nvptx64", feature = "sm90")))]
    pub counters: Global<u32>,
    /// This lane, among those of the CTA.
    pub lane: u32,
    /// The CTA's shared memory.
    pub shared: SharedAddr,
}

impl Item {
    /// This CTA's; none if there are fewer.
    #[inline(always)]
    pub(super) fn of_this_cta(params: Params, input_words: u32, output_words: u32) -> Option<Self> {
        let index = block_idx_x();
        (index < params.count).then(|| Self {
            count: params.count,
            input: params.input.offset(u64::from(index) * u64::from(input_words)),
            output: params.output.offset(u64::from(index) * u64::from(output_words)),
            outputs: params.output,
            #[cfg(not(all(target_arch = "nvptx64", feature = "sm90")))]
            counters: params.output.offset(u64::from(params.count) * u64::from(output_words)),
            lane: thread_idx_x(),
            shared: dynamic_shared(),
        })
    }

    /// Whether this is lane 0 of the CTA. Each call asks anew: of two branches on one value, with a barrier
    /// between them, LLVM makes one, with a copy of the barrier on each side, since inline PTX is not
    /// `convergent` in Rust; and lanes of a warp must not execute different copies of an `.aligned`
    /// instruction.
    #[inline(always)]
    pub(super) fn is_first(self) -> bool {
        opaque(self.lane) == 0
    }

    /// Where input word `word` is.
    #[inline(always)]
    pub(super) fn input_at(self, word: u32) -> Global<u32> {
        self.input.offset(u64::from(word))
    }

    /// Where output word `word` goes.
    #[inline(always)]
    pub(super) fn output_at(self, word: u32) -> Global<u32> {
        self.output.offset(u64::from(word))
    }

    /// Input word `word`.
    ///
    /// # Safety
    ///
    /// It is one of this item's.
    #[inline(always)]
    #[track_caller]
    pub(in crate::instructions) unsafe fn get(self, word: u32) -> u32 {
        // SAFETY: inputs are readable and nobody writes them.
        unsafe { self.input_at(word).load() }
    }

    /// Sets output word `word`.
    ///
    /// # Safety
    ///
    /// It is one of this item's, and no other lane touches it.
    #[inline(always)]
    #[track_caller]
    pub(in crate::instructions) unsafe fn set(self, word: u32, value: u32) {
        // SAFETY: outputs are writable, this one by this lane alone.
        unsafe { self.output_at(word).store(value) }
    }
}
