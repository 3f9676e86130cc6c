//! Instructions that nobody misses, and why they are there nevertheless. Each was looked at by hand.

/// Faults that no run catches.
pub(super) struct Redundant {
    /// How the names of the entries begin.
    pub(super) entries: &'static [&'static str],
    /// Instruction, which of its kind it is in its function, function and file.
    pub(super) place: &'static str,
    pub(super) actions: &'static [&'static str],
    /// Of the classes of such a place in an entry, how many at most are not missed.
    pub(super) classes: usize,
    /// Only one copy of several is not missed: all of them are.
    pub(super) alone: bool,
    pub(super) reason: &'static str,
}

const fn in_all(
    entries: &'static [&'static str],
    place: &'static str,
    actions: &'static [&'static str],
    reason: &'static str,
) -> Redundant {
    Redundant { entries, place, actions, classes: usize::MAX, alone: false, reason }
}

const HOPPER: &[&str] = &["sm90_"];
const GONE: &[&str] = &["gone"];
const RELAXED: &[&str] = &["relaxed"];

const EXPECTS: &str = "who waits reads what copies have written, and these order themselves";
const ALIGNED: &str =
    "it brings a warp's lanes together, as `aligned` demands; the machine gathers them anyway";
const SETTLED: &str = "the products that were begun behind these have waited for them; in the source the wait \
    is what lets one read the sums";

pub(super) static REDUNDANT: &[Redundant] = &[
    in_all(
        &["fused_128", "fused_64"],
        "ld.acquire.gpu 0 in mainloop of sm80/mainloop.rs",
        GONE,
        "left out, it finds h not ready, which is always right: the look saves time",
    ),
    in_all(
        &["fused_128", "fused_64", "expand_"],
        "bar.sync 1 in output_tile of sm80/output_tile.rs",
        GONE,
        "with three slots or more the K loop reads the board before its last barrier, and the barrier \
            behind the next \
         part is before the ring",
    ),
    in_all(
        &["fused_recompute_", "expand_"],
        "bar.sync 0 in store_tile of sm80/store.rs",
        GONE,
        "the ring was read before the barrier behind h, or behind the last part; without h, or with one \
            part alone, \
         there is none",
    ),
    in_all(HOPPER, "bar.warp.sync 0 in run of sm90/cta.rs", GONE, ALIGNED),
    in_all(HOPPER, "bar.warp.sync 1 in run of sm90/cta.rs", GONE, ALIGNED),
    in_all(
        HOPPER,
        "griddepcontrol.wait 0 in run of sm90/cta.rs",
        GONE,
        "these launches depend on none; `dependent.rs` has such",
    ),
    in_all(
        HOPPER,
        "griddepcontrol.launch_dependents 0 in run of sm90/cta.rs",
        GONE,
        "without it dependents begin later, which is always right",
    ),
    in_all(
        HOPPER,
        "setmaxnreg.inc 0 in run of sm90/cta.rs",
        GONE,
        "the machine counts no registers in use; ptxas refuses a kernel that uses more than it asks for",
    ),
    in_all(
        &["sm90_fused_"],
        "fence.proxy.async.global 0 in Producer::with_shared_h of sm90/producer.rs",
        GONE,
        "who stored h has fenced it; the manual leaves open on which side the fence must be, so there is \
            one on both",
    ),
    in_all(
        HOPPER,
        "mbarrier.arrive.expect_tx 0 in Producer::load_steps_to of sm90/producer.rs",
        RELAXED,
        EXPECTS,
    ),
    in_all(HOPPER, "mbarrier.arrive.expect_tx 0 in Producer::h of sm90/producer.rs", RELAXED, EXPECTS),
    in_all(
        HOPPER,
        "mbarrier.arrive.expect_tx 0 in Producer::with_own_h of sm90/producer.rs",
        RELAXED,
        EXPECTS,
    ),
    in_all(
        HOPPER,
        "mbarrier.arrive.expect_tx 0 in Producer::with_shared_h of sm90/producer.rs",
        RELAXED,
        EXPECTS,
    ),
    in_all(HOPPER, "mbarrier.arrive.expect_tx 0 in send of sm90/own_h.rs", RELAXED, EXPECTS),
    in_all(HOPPER, "mbarrier.arrive.expect_tx 0 in send of sm90/sliced_h.rs", RELAXED, EXPECTS),
    in_all(
        HOPPER,
        "mbarrier.arrive.expect_tx 0 in Partials::exchange of sm90/gemm_split_k.rs",
        RELAXED,
        EXPECTS,
    ),
    in_all(
        &["sm90_gemm_split_k"],
        "mbarrier.arrive.release.cta 0 in Consumer::finish of sm90/consumer.rs",
        &["gone", "relaxed", "at the first CTA"],
        "a CTA that shares K has one tile, so nobody fills its last slot again; other kernels need it",
    ),
    in_all(
        &["sm90_fused_cooperative"],
        "wgmma.wait_group 0 in Cooperative::consume of sm90/fused_cooperative.rs",
        &["gone", "one group short"],
        SETTLED,
    ),
    in_all(
        &["sm90_fused_cooperative"],
        "wgmma.wait_group 1 in Cooperative::consume of sm90/fused_cooperative.rs",
        &["gone", "one group short"],
        SETTLED,
    ),
    Redundant {
        entries: &["sm90_fused_cooperative"],
        place: "mbarrier.try_wait.parity 0 in Consumer::multiply of sm90/consumer.rs",
        actions: &["gone", "relaxed"],
        classes: 2,
        alone: false,
        reason: "A's products, which go ahead in the last steps, have waited for these slots",
    },
    Redundant {
        entries: &["sm90_fused_cooperative"],
        place: "wgmma.wait_group 0 in Consumer::multiply of sm90/consumer.rs",
        actions: &["gone", "one group short"],
        classes: 1,
        alone: false,
        reason: "W's first step behind A's products has no group before it",
    },
    Redundant {
        entries: HOPPER,
        place: "mbarrier.init 0 in run of sm90/cta.rs",
        actions: &["gone", "an arrival too few", "an arrival too many"],
        classes: 1,
        alone: true,
        reason: "all kernels make all barriers: those of h, and with one tile the second board's, have \
            nobody who waits in some",
    },
];
